package gateway_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
	"github.com/sofatutor/caddy-llm-proxy/internal/price"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
)

// rows is the ledger's table of one process.
type rows struct {
	mu     sync.Mutex
	rows   map[ledger.Key]*ledger.Row
	leases map[ledger.Key]*ledger.Lease
	down   bool
}

var errDown = errors.New("the database is down")

func (s *rows) ApplyLedger(_ context.Context, _ uuid.UUID, ttl time.Duration, ops []ledger.Op, results []ledger.Result) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return 0, errDown
	}
	now := time.Now().UnixMicro()
	for i := range ops {
		k := ops[i].Key
		if s.rows[k] == nil {
			s.rows[k], s.leases[k] = new(ledger.Row), new(ledger.Lease)
		}
		results[i] = ops[i].Decide(s.rows[k], s.leases[k], 0, now, ttl)
	}
	return now, nil
}

func (s *rows) LedgerRows(_ context.Context, keys []ledger.Key) ([]*ledger.Row, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, 0, errDown
	}
	list := make([]*ledger.Row, len(keys))
	for i, k := range keys {
		if r := s.rows[k]; r != nil {
			c := *r
			list[i] = &c
		}
	}
	return list, time.Now().UnixMicro(), nil
}

func (s *rows) ReapLedger(context.Context, time.Duration, int) ([]ledger.Forfeit, error) {
	return nil, nil
}

// prices of one model: a dollar for a million tokens of input, two for output.
func onePrice(t testing.TB) *price.Table {
	t.Helper()
	overrides, err := price.ParseOverrides(strings.NewReader(`{"openai": {"gpt-4o": {"input": "1", "cache_read": "1", "output": "2"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	table, err := price.New(overrides)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// withLedger makes a rig whose token and project have strict limits.
func withLedger(t testing.TB, own, theirs project.Limits) (*rig, *rows, *ledger.Ledger) {
	t.Helper()
	store := &rows{rows: make(map[ledger.Key]*ledger.Row), leases: make(map[ledger.Key]*ledger.Lease)}
	l, err := ledger.New(ledger.Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	l.Start()
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	r := newRig(t, setup{
		token:   func(tk *token.Token) { tk.Policy.Limits, tk.Version = own, 1 },
		project: func(p *project.Snapshot) { p.Policy.Limits, p.Version = theirs, 1 },
		gateway: func(c *gateway.Config) { c.Limits.Ledger, c.Prices = l, onePrice(t) },
	})
	return r, store, l
}

func dollars(text string) *usd.Amount {
	a, err := usd.Parse(text)
	if err != nil {
		panic(err)
	}
	return &a
}

// used is how an account of the rig's token stands.
func (r *rig) used(l *ledger.Ledger, own project.Limits) ledger.Balance {
	r.t.Helper()
	list, err := l.Balances(r.t.Context(), ledger.Limits(nil, ledger.Token, r.tokenID, 1, &own))
	if err != nil || len(list) != 1 {
		r.t.Fatalf("%v, %v", list, err)
	}
	return list[0]
}

// TestQuota: as many requests as the quota has reach the provider, and what has not
// reached it does not count.
func TestQuota(t *testing.T) {
	own := project.Limits{MaxRequests: of(2)}
	r, _, l := withLedger(t, own, project.Limits{})
	r.wantOK(r.do(r.chat("{}")), "{}")
	r.wantRefusedAfter(r.do(r.request(http.MethodPatch, "/v1/chat/completions", "{}")), 405, "method_not_allowed", 1)
	r.wantOK(r.do(r.chat("{}")), "{}")
	a := r.do(r.chat("{}"))
	r.wantRefusedAfter(a, http.StatusTooManyRequests, "quota_exceeded", 2)
	if m := metadata(t, a); m["limit"] != "max_requests" || m["scope"] != "token" || a.Header().Get("X-Should-Retry") != "false" || a.rec.Limit != "max_requests" {
		t.Errorf("%v %v", m, a.Header())
	}
	if b := r.used(l, own); b.Used != 2 || b.Available != 0 {
		t.Errorf("%+v", b)
	}
}

// wantRefusedAfter is wantRefused when so many requests have passed before.
func (r *rig) wantRefusedAfter(a answer, status int, code string, passed int) {
	r.t.Helper()
	r.wantError(a, status, code)
	if a.rec.Outcome != gateway.OutcomeRefused || len(r.upstream.requests()) != passed {
		r.t.Errorf("outcome %s, %d requests reached the provider, want %d", a.rec.Outcome, len(r.upstream.requests()), passed)
	}
}

// TestBudget: what requests may cost at most decides, what they have cost is charged.
func TestBudget(t *testing.T) {
	const answer = `{"model":"gpt-4o","usage":{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30}}`
	own := project.Limits{BudgetUSD: dollars("0.001")} // a million nanodollars
	ask := func(max string) string { return `{"model":"gpt-4o","max_tokens":` + max + `}` }
	for name, tc := range map[string]struct {
		theirs project.Limits
		body   string
		answer string
		status int
		code   string
		cost   int64 // charged, in nanodollars
	}{
		"fits":                   {body: ask("100"), answer: answer, status: 200, cost: 10*1000 + 20*2000},
		"more than the budget":   {body: ask("500000"), status: 402, code: "budget_hold_too_large"},
		"no limit of the answer": {body: `{"model":"gpt-4o"}`, status: 402, code: "budget_hold_too_large"}, // the model's own is larger
		"usage is missing":       {body: ask("100"), answer: "{}", status: 200, cost: int64(len(ask("100")))*1000 + 100*2000},
		"the provider's error":   {body: ask("100"), answer: "", status: 500},
		"no price":               {body: `{"model":"nobody-knows","max_tokens":1}`, status: 403, code: "model_not_allowed"},
		"no price, allowed":      {theirs: project.Limits{AllowUnpriced: true}, body: `{"model":"nobody-knows","max_tokens":1}`, answer: "{}", status: 200},
		"no model":               {body: `{"max_tokens":1}`, status: 403, code: "model_not_allowed"},
		"not JSON":               {body: `max_tokens=1`, status: 400, code: "invalid_json"},
		"background":             {body: `{"model":"gpt-4o","max_tokens":1,"background":true}`, status: 403, code: "endpoint_not_budgetable"},
		"the provider's tools":   {body: `{"model":"gpt-4o","max_tokens":1,"tools":[{"type":"code_interpreter"}]}`, status: 403, code: "endpoint_not_budgetable"},
		"allowed all the same":   {theirs: project.Limits{AllowUnbounded: true}, body: `{"model":"gpt-4o","max_tokens":1,"tools":[{"type":"code_interpreter"}]}`, answer: answer, status: 200, cost: 50_000},
	} {
		t.Run(name, func(t *testing.T) {
			r, _, l := withLedger(t, own, tc.theirs)
			r.upstream.answer = always(tc.status, "application/json", tc.answer)
			a := r.do(r.chat(tc.body))
			if a.Code != tc.status {
				t.Fatalf("%d %s", a.Code, a.Body)
			}
			if tc.code != "" {
				r.wantRefusedAfter(a, tc.status, tc.code, 0)
			}
			if b := r.used(l, own); b.Used != tc.cost {
				t.Errorf("charged %d, want %d", b.Used, tc.cost)
			}
			if a.rec.Overshoot != 0 {
				t.Errorf("%d beyond the bound", a.rec.Overshoot)
			}
		})
	}
}

// TestOvershoot: a provider that charges beyond the bound is told of.
func TestOvershoot(t *testing.T) {
	own := project.Limits{BudgetUSD: dollars("1")}
	r, _, l := withLedger(t, own, project.Limits{})
	r.upstream.answer = always(200, "application/json", `{"model":"gpt-4o","usage":{"prompt_tokens":10,"completion_tokens":500,"total_tokens":510}}`)
	const body = `{"model":"gpt-4o","max_tokens":100}`
	a := r.do(r.chat(body))
	cost, bound := int64(10*1000+500*2000), int64(len(body)*1000+100*2000)
	if b := r.used(l, own); b.Used != cost || a.rec.Overshoot != cost-bound {
		t.Errorf("charged %d, %d beyond the bound; want %d and %d", b.Used, a.rec.Overshoot, cost, cost-bound)
	}
}

// TestBudgetEnds: a budget lets through what fits, then says how much is left.
func TestBudgetEnds(t *testing.T) {
	own := project.Limits{BudgetUSD: dollars("0.001")}
	r, _, l := withLedger(t, own, project.Limits{})
	r.upstream.answer = always(200, "application/json", `{"model":"gpt-4o","usage":{"prompt_tokens":0,"completion_tokens":100,"total_tokens":100}}`)
	const body = `{"model":"gpt-4o","max_tokens":100}` // held: 235,000; charged: 200,000
	for range 4 {
		if a := r.do(r.chat(body)); a.Code != 200 {
			t.Fatalf("%d %s", a.Code, a.Body)
		}
	}
	a := r.do(r.chat(body))
	r.wantRefusedAfter(a, http.StatusPaymentRequired, "budget_exceeded", 4)
	if m := metadata(t, a); m["available_usd"] != "0.0002" || m["budget_usd"] != "0.001" || m["hold_usd"] != "0.000235" || a.Header().Get("X-Should-Retry") != "false" {
		t.Errorf("%v %v", m, a.Header())
	}
	if b := r.used(l, own); b.Used != 800_000 || b.Available != 200_000 {
		t.Errorf("%+v", b)
	}
}

// TestLedgerAway: with neither a lease nor the database nothing passes.
func TestLedgerAway(t *testing.T) {
	r, store, _ := withLedger(t, project.Limits{MaxRequests: of(5)}, project.Limits{})
	store.mu.Lock()
	store.down = true
	store.mu.Unlock()
	a := r.do(r.chat("{}"))
	r.wantRefused(a, http.StatusServiceUnavailable, "store_unavailable")
	if a.Header().Get("Retry-After") != "1" {
		t.Errorf("%v", a.Header())
	}
}

// TestRateReturnsHolds: a request that a rate refuses has used nothing of a quota.
func TestRateReturnsHolds(t *testing.T) {
	own := project.Limits{MaxRequests: of(5), RPM: of(1)}
	store := &rows{rows: make(map[ledger.Key]*ledger.Row), leases: make(map[ledger.Key]*ledger.Lease)}
	l, err := ledger.New(ledger.Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	l.Start()
	t.Cleanup(func() { _ = l.Close(context.Background()) })
	memory := limit.NewMemory()
	t.Cleanup(memory.Close)
	r := newRig(t, setup{
		token:   func(tk *token.Token) { tk.Policy.Limits, tk.Version = own, 1 },
		gateway: func(c *gateway.Config) { c.Limits = gateway.Limits{Limiter: memory, Ledger: l} },
	})
	r.wantOK(r.do(r.chat("{}")), "{}")
	for range 3 {
		r.wantRefusedAfter(r.do(r.chat("{}")), http.StatusTooManyRequests, "rate_limit_exceeded", 1)
	}
	if b := r.used(l, own); b.Used != 1 || b.Held != 0 || b.Available != 4 {
		t.Errorf("%+v", b)
	}
}
