package e2e

import (
	"math"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
	"github.com/sofatutor/caddy-llm-proxy/internal/testnet"
)

// exhaust has clients of all nodes ask with a token until each of them has been told
// that there is nothing left.
func (l *limited) exhaust(t *testing.T, w *witness, nodes []*proxy, clients int) {
	t.Helper()
	l.allowed.Store(math.MaxInt64)
	shared := make([]*http.Client, len(nodes))
	for i, n := range nodes {
		shared[i] = n.freshClient(h2)
	}
	var all sync.WaitGroup
	l.crowd(t, bounded(t), &all, w, nodes, shared, clients)
	all.Wait()
	if got := l.answers.of(l.until); got != clients {
		t.Fatalf("%d of %d clients were told that nothing is left: %s", got, clients, &l.answers)
	}
}

// TestUsedUp has three nodes let through all of a quota and of a budget, and no more.
func TestUsedUp(t *testing.T) {
	t.Parallel()
	w, dsn := newWitness(t), testdb.Postgres(t)
	s := priced(t, site{
		providers: map[string]string{"openai": w.url + "/v1", "spare": "http://" + testnet.Refusing(t) + "/v1"},
		options:   map[string]string{"spare": "type openai"}, postgres: true,
	})
	env := []string{"DATABASE_URL=" + dsn, "LLM_PROXY_KEY=" + secret.NewKey()}
	var nodes []*proxy
	for range 3 {
		nodes = append(nodes, launch(t, s, env...))
	}
	for _, n := range nodes {
		n.await()
	}
	t.Run("quota", func(t *testing.T) { quotaUsedUp(t, w, nodes) })
	t.Run("budget", func(t *testing.T) { budgetUsedUp(t, w, nodes) })
}

// quotaUsedUp: with a quota of n exactly n requests reach the provider; those that are
// refused, or find no provider to connect to, do not count.
func quotaUsedUp(t *testing.T, w *witness, nodes []*proxy) {
	const quota, clients = 300, 48
	l := &limited{
		account: nodes[0].openAIAccount(t, object{"max_requests": quota, "allowed_models": []string{"sim-*"}}),
		models:  []string{"sim-slow-10ms", "sim-pace-1ms", "sim-slow-20ms", "forbidden"},
		paths:   []string{"/v1/chat/completions", "/v1/chat/completions", "/spare/v1/chat/completions"},
		pause:   10 * time.Millisecond, until: quotaSpent,
	}
	l.account.p.manage(t, "POST", "projects/"+l.account.projectID+"/keys", object{"provider": "spare", "api_key": l.account.key})
	l.book = w.book(l.account.key)
	l.exhaust(t, w, nodes, clients)
	t.Logf("%d of %d requests reached the provider: %s", l.book.count(), quota, &l.answers)
	if got := l.book.count(); got != quota || l.answers.of(answered) != quota {
		t.Errorf("%d requests reached the provider and %d were answered, of %d", got, l.answers.of(answered), quota)
	}
	for _, n := range nodes {
		for turn := range 12 { // whatever a client asks for
			want := quotaSpent
			if l.models[turn%len(l.models)] == "forbidden" {
				want = modelRefused
			}
			if got := l.ask(t, bounded(t), w, n, n.client(h2), turn); got != want {
				t.Errorf("a request when nothing is left: %s, want %s", got, want)
			}
		}
	}
	if got := l.book.count(); got != quota {
		t.Errorf("%d requests reached the provider in the end, of %d", got, quota)
	}
	if used := usedOf(t, l.account, "max_requests"); used != quota {
		t.Errorf("the API says that %d of %d are used", used, quota)
	}
	for _, kind := range []string{providerAway, modelRefused} {
		if l.answers.of(kind) == 0 {
			t.Errorf("no request was answered %s", kind)
		}
	}
	for kind := range l.answers.n {
		switch kind {
		case answered, providerAway, modelRefused, quotaHeld, quotaSpent, databaseSlow:
		default:
			t.Errorf("%d requests were answered %s", l.answers.of(kind), kind)
		}
	}
}

// budgetUsedUp: nothing is lost of a budget as long as nobody is killed.
func budgetUsedUp(t *testing.T, w *witness, nodes []*proxy) {
	const calls, clients = 600, 64
	budget := calls * priceOfOne
	l := &limited{
		account: nodes[0].openAIAccount(t, object{"budget_usd": inUSD(budget)}),
		models:  []string{"sim-slow-20ms", "sim-pace-1ms"}, pause: 10 * time.Millisecond, until: budgetSpent,
	}
	l.book = w.book(l.account.key)
	before := w.Stats()
	l.exhaust(t, w, nodes, clients)
	after := w.Stats()
	billed := costOf(after.PromptTokens-before.PromptTokens, after.CompletionTokens-before.CompletionTokens)
	eventually(t, "the ledger has it all", func() bool { return usedOf(t, l.account, "budget_usd") >= billed })
	used := usedOf(t, l.account, "budget_usd")
	t.Logf("%d requests used %.2f %% of the budget: %s", l.book.count(), percent(used, budget), &l.answers)
	if used != billed || used > budget || 100*used < 97*budget {
		t.Errorf("%d nanodollars used, %d billed, of %d", used, billed, budget)
	}
	for kind := range l.answers.n {
		switch kind {
		case answered, budgetHeld, budgetSpent, databaseSlow:
		default:
			t.Errorf("%d requests were answered %s", l.answers.of(kind), kind)
		}
	}
}
