package e2e

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"math"
	"math/big"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// What is limited, such that 64 clients want more of each than there is.
const (
	tortureRate   = 60 // requests in any tortureWindow
	tortureSlots  = 6
	tortureCalls  = 600 // that the budget is for
	tortureWindow = 2 * time.Second

	rateClients, slotsClients, budgetClients = 24, 20, 20
)

// arena is some nodes, a provider that keeps books, and three tokens with a limit
// each.
type arena struct {
	t        *testing.T
	provider *witness
	nodes    []*proxy
	db       *sql.DB // the nodes'

	rate, slots, budget *limited
	budgetNano          int64

	killed span  // the last time that a node was away, by the provider's clock
	outed  int64 // when it was gone, by everybody's
}

// tortureSite has one route with a rate limit besides the one without, since the
// handler's limits are for all tokens.
func tortureSite(t *testing.T, w *witness, onFailure string) site {
	s := priced(t, site{providers: map[string]string{"openai": w.url + "/v1"}})
	s.routes = fmt.Sprintf(`llm_proxy_admin
	@rated header X-Limited rate
	llm_proxy @rated {
		rate_limit token %d/%s
		on_limiter_failure %s
	}
	llm_proxy {
		on_limiter_failure %[3]s
	}`, tortureRate, tortureWindow, onFailure)
	return s
}

// enter makes the tokens.
func (a *arena) enter(leaving int) {
	t := a.t
	a.budgetNano = tortureCalls * priceOfOne
	token := func(l *limited, limits object) *limited {
		l.account = a.nodes[0].openAIAccount(t, limits)
		l.book = a.provider.book(l.account.key)
		l.allowed.Store(math.MaxInt64)
		return l
	}
	a.rate = token(&limited{
		header: http.Header{"X-Limited": {"rate"}}, models: []string{"gpt-4o"}, pause: 100 * time.Millisecond,
	}, nil)
	a.slots = token(&limited{
		models: []string{"sim-slow-150ms", "sim-pace-6ms"}, pause: 100 * time.Millisecond,
	}, object{"concurrency": tortureSlots})
	a.budget = token(&limited{
		models: []string{"sim-slow-250ms", "sim-pace-10ms"}, pause: 20 * time.Millisecond, leaving: leaving,
	}, object{"budget_usd": inUSD(a.budgetNano)})
	a.budget.allowed.Store(tortureCalls / 8)
}

// openAIAccount is a project with a key for the one provider that there is, and a token.
func (p *proxy) openAIAccount(t *testing.T, limits object) *account {
	t.Helper()
	a := &account{p: p, key: "sk-provider-" + rand.Text()}
	a.projectID = p.manage(t, "POST", "projects", object{"name": "limited " + rand.Text(), "api_key": a.key})["id"].(string)
	a.tokenID, a.token = a.mint(t, limits)
	return a
}

func inUSD(nano int64) string { return big.NewRat(nano, 1e9).FloatString(9) }

// load has 64 clients begin, spread over the nodes. The returned function ends
// their work.
func (a *arena) load() (end func()) {
	ctx, cancel := context.WithCancel(a.t.Context())
	var all sync.WaitGroup
	clients := make([]*http.Client, len(a.nodes))
	for i, n := range a.nodes {
		clients[i] = n.freshClient(h2)
	}
	a.rate.crowd(a.t, ctx, &all, a.provider, a.nodes, clients, rateClients)
	a.slots.crowd(a.t, ctx, &all, a.provider, a.nodes, clients, slotsClients)
	a.budget.crowd(a.t, ctx, &all, a.provider, a.nodes, clients, budgetClients)
	end = sync.OnceFunc(func() {
		cancel()
		all.Wait()
	})
	a.t.Cleanup(end)
	return end
}

// spent waits until so many requests with the budget have reached the provider, and
// has its clients go on for some more: they are amidst it when this returns.
func (a *arena) spent(calls int) {
	a.budget.allowed.Store(int64(calls) + tortureCalls/6)
	eventually(a.t, fmt.Sprintf("%d requests of the budget", calls), func() bool { return a.budget.book.count() >= calls })
}

// fills waits until so many windows are used up.
func (a *arena) fills(windows int) {
	from, refused := a.provider.now(), a.rate.answers.of(rateRefused)
	eventually(a.t, fmt.Sprintf("%d windows are full", windows), func() bool {
		return a.rate.book.between(from, math.MaxInt64) >= windows*tortureRate && a.rate.answers.of(rateRefused) > refused+20
	})
}

// binds waits until the rate and the slots are both used up, and refuse.
func (a *arena) binds() {
	refused := a.slots.answers.of(slotsRefused)
	a.slots.book.peaked(0)
	eventually(a.t, "all slots are in use", func() bool { return a.slots.book.peaked(tortureSlots) })
	eventually(a.t, "the slots refuse", func() bool { return a.slots.answers.of(slotsRefused) > refused+20 })
	a.fills(2)
}

// exhausts has the clients use up what is left of the budget.
func (a *arena) exhausts() {
	a.budget.allowed.Store(math.MaxInt64)
	eventually(a.t, "the budget refuses", func() bool { return a.budget.answers.of(budgetSpent)+a.budget.answers.of(budgetHeld) > 20 })
	a.budget.allowed.Store(0)
}

// kill ends a node as a power cut would, amidst the load, and starts it again.
func (a *arena) kill(p *proxy) {
	a.killed.from = a.provider.now()
	p.kill()
	a.outed = time.Now().UnixMicro()
	p.again()
	a.killed.to = a.provider.now()
}

// judge compares what has reached the provider with the limits.
func (a *arena) judge(usedNano int64, disturbed []span) {
	t := a.t
	touching, elsewhere := densest(a.rate.book.all(), tortureWindow, disturbed)
	t.Logf("rate %d/%s: %d in a window, %d in one that touches a change; %d in all; %s",
		tortureRate, tortureWindow, elsewhere, touching, a.rate.book.count(), &a.rate.answers)
	if elsewhere > tortureRate {
		t.Errorf("%d requests in a window of %s, of %d", elsewhere, tortureWindow, tortureRate)
	}
	if touching > 2*tortureRate {
		t.Errorf("%d requests in a window of %s that touches the change, of twice %d", touching, tortureWindow, tortureRate)
	}
	if 100*elsewhere < 95*tortureRate {
		t.Errorf("only %d requests in any window of %s, of %d", elsewhere, tortureWindow, tortureRate)
	}
	t.Logf("concurrency %d: %d at once; %d in all; %s", tortureSlots, a.slots.book.most(), a.slots.book.count(), &a.slots.answers)
	if got := a.slots.book.most(); got != tortureSlots {
		t.Errorf("%d requests at once, of %d", got, tortureSlots)
	}
	// A provider may bill whatever has reached it, in full.
	billed := int64(a.budget.book.count()) * priceOfOne
	t.Logf("budget %s USD: %.2f %% billed at most, %.2f %% used; %d requests; %s",
		inUSD(a.budgetNano), percent(billed, a.budgetNano), percent(usedNano, a.budgetNano), a.budget.book.count(), &a.budget.answers)
	if billed > usedNano || usedNano > a.budgetNano {
		t.Errorf("%d nanodollars billed, %d used, of %d", billed, usedNano, a.budgetNano)
	}
	if 100*usedNano < 97*a.budgetNano {
		t.Errorf("only %d nanodollars of %d could be used", usedNano, a.budgetNano)
	}
}

// TestTorture has 64 clients use up a rate, a concurrency and a budget as fast as they
// can, on three nodes or one, while processes are killed and Redis is restarted. The
// provider counts.
func TestTorture(t *testing.T) {
	t.Parallel()
	for name, redis := range map[string]func(s *testdb.RedisServer) (end func()){
		"deny":  func(s *testdb.RedisServer) func() { return s.Kill },
		"local": func(s *testdb.RedisServer) func() { return s.Stop },
	} {
		t.Run(name, func(t *testing.T) { tortureNodes(t, name, redis) })
	}
	t.Run("sqlite", tortureOne)
}

func tortureNodes(t *testing.T, onFailure string, ending func(s *testdb.RedisServer) (end func())) {
	postgres, redis := testdb.StartPostgres(t), testdb.StartRedis(t, "--appendonly", "yes")
	dsn := postgres.Database()
	a := &arena{t: t, provider: newWitness(t), db: openPostgres(t, dsn)}
	s := tortureSite(t, a.provider, onFailure)
	s.postgres = true
	s.app += "\t\tredis " + redis.URL() + "\n"
	key := secret.NewKey()
	for range 3 {
		p := prepare(t)
		p.env = append(p.env, "DATABASE_URL="+dsn, "LLM_PROXY_KEY="+key) // also when it starts again
		p.write(s)
		p.run()
		a.nodes = append(a.nodes, p)
	}
	for _, n := range a.nodes {
		n.await()
		n.redisIs(t, "ok")
	}
	a.enter(7)
	end := a.load()
	a.binds()
	a.spent(tortureCalls / 4)
	a.kill(a.nodes[1])
	a.spent(tortureCalls / 2)
	out := span{from: a.provider.now()}
	seen := a.rate.answers.of(limiterAway)
	ending(redis)()
	gone := a.provider.now()
	for _, n := range a.nodes {
		eventually(t, "the node knows that Redis is away", func() bool { return len(n.aways(t, a.provider)) > 0 })
	}
	if onFailure == "deny" {
		eventually(t, "requests are refused", func() bool { return a.rate.answers.of(limiterAway) >= seen+100 })
		if n := a.rate.book.between(gone, a.provider.now()); n > 0 {
			t.Errorf("%d requests were admitted without Redis", n)
		}
	} else {
		eventually(t, "nodes admit their shares", func() bool { return a.rate.book.between(gone, math.MaxInt64) >= tortureRate/4 })
	}
	redis.Start()
	for _, n := range a.nodes {
		eventually(t, "the node has found Redis", func() bool { return n.rejoined(t, a.provider, gone) })
	}
	out.to = a.provider.now()
	a.fills(1)

	a.spent(3 * tortureCalls / 4)
	a.kill(a.nodes[1])
	a.exhausts()
	used := a.settle()
	a.binds() // the slots of the dead are free again, too
	end()

	var disturbed []span
	if onFailure == "local" {
		disturbed = append(disturbed, out)
		for _, n := range a.nodes {
			disturbed = append(disturbed, n.aways(t, a.provider)...)
		}
	}
	a.judge(used, disturbed)
	for _, n := range a.nodes {
		for _, never := range []string{"lost counters", "changed while it was locked"} {
			if n.output.contains(never) {
				t.Errorf("a node said: …%s…", never)
			}
		}
	}
}

// tortureOne is the same with one process. Its windows are in its memory: those that
// touch a kill may have what was admitted before and after it.
func tortureOne(t *testing.T) {
	a := &arena{t: t, provider: newWitness(t)}
	s := tortureSite(t, a.provider, "deny")
	s.database = ownSQLite
	p := start(t, s)
	a.nodes, a.db = []*proxy{p}, openDatabase(t, filepath.Join(p.dir, "data", "llm-proxy.db"))
	a.enter(7)
	end := a.load()
	var disturbed []span
	a.binds()
	for part := range 2 {
		a.fills(2) // a window touches one kill alone
		a.spent((1 + 2*part) * tortureCalls / 4)
		a.kill(p)
		disturbed = append(disturbed, a.killed)
	}
	a.exhausts()
	used := a.settle()
	a.binds()
	end()
	a.judge(used, disturbed)
}
