package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// TestStandings has the holder of a token and the management API tell how its limits
// stand, while one request is under way and after it, and compares with what the
// provider has billed.
func TestStandings(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, bounding(t, against(sim)))
	limits := func(n int) object {
		return object{"rpm": n, "tpm": 1000 * n, "concurrency": n, "max_requests": n, "budget_usd": n, "budget_period": "week"}
	}
	a := p.account(t, limits(10))
	a.patchProject(t, limits(20))
	ask := openAIDialect.atMost(a.token, "sim-chunks-40", answerTokens, false)
	for range 2 {
		limitAnswer(200)(t, p, ask)
	}
	a.settled(t)
	billed := sim.Stats()
	cost := costOf(billed.PromptTokens, billed.CompletionTokens)
	long := openAIDialect.atMost(a.token, "sim-chunks-40", answerTokens, true)
	release := sim.hold(t, a.key)
	stream := p.open(t, bounded(t), long)
	bound := boundOf(long, answerTokens)

	began := time.Now()
	own, theirs := p.standings(t, a.token)
	for n, limits := range map[int]map[string]*standing{10: own, 20: theirs} {
		want := func(name string, limit, used, held, available any) {
			t.Helper()
			s := limits[name]
			if got := fmt.Sprint(s.Limit, s.Used, s.Held, s.Available); got != fmt.Sprint(limit, used, held, available) {
				t.Errorf("%s of %d: %s, want %v, %v used, %v held, %v available", name, n, got, limit, used, held, available)
			}
		}
		want("rpm", n, 3, 0, n-3)
		want("max_requests", n, 2, 1, n-3)
		want("budget_usd", fmt.Sprint(n), usd(cost), usd(bound), usd(int64(n)*1e9-cost-bound))
		want("concurrency", n, nil, nil, nil)
		if tpm := limits["tpm"]; tpm.Used.(float64) <= 0 || tpm.Used.(float64)+tpm.Available.(float64) != tpm.Limit.(float64) {
			t.Errorf("tpm %+v", tpm)
		}
		if limits["budget_usd"].Period != "week" || limits["max_requests"].ResetsAt != "" {
			t.Errorf("%+v, %+v", limits["budget_usd"], limits["max_requests"])
		}
		for name, latest := range map[string]time.Duration{"rpm": 62 * time.Second, "tpm": 62 * time.Second, "budget_usd": 7 * 24 * time.Hour} {
			at, err := time.Parse(time.RFC3339, limits[name].ResetsAt)
			if err != nil || at.Before(began) || at.After(time.Now().Add(latest)) {
				t.Errorf("%s resets at %q: %v", name, limits[name].ResetsAt, err)
			}
			if name == "budget_usd" && (at.UTC().Weekday() != time.Monday || at.UTC().Hour() != 0) {
				t.Errorf("a week ends at %s", at)
			}
		}
	}
	paths := map[string]int64{"tokens/" + a.tokenID: 10, "projects/" + a.projectID: 20}
	agree := func(requests, held, cost, bound int64) {
		t.Helper()
		for path, n := range paths {
			quota, budget := p.balance(t, path, "max_requests"), p.balance(t, path, "budget_usd")
			if got, want := fmt.Sprint(quota["limit_amount"], quota["used"], quota["held"], quota["available"], quota["resets_at"]), fmt.Sprint(n, requests, held, n-requests-held, nil); got != want {
				t.Errorf("%s: %s, want %s", path, got, want)
			}
			if got, want := fmt.Sprint(budget["limit_amount"], budget["used"], budget["held"], budget["available"]), fmt.Sprint(usd(n*1e9), usd(cost), usd(bound), usd(n*1e9-cost-bound)); got != want {
				t.Errorf("%s: %s, want %s", path, got, want)
			}
			if resets, _ := budget["resets_at"].(string); resets != own["budget_usd"].ResetsAt {
				t.Errorf("%s: resets at %v, and %s", path, budget["resets_at"], own["budget_usd"].ResetsAt)
			}
		}
	}
	agree(2, 1, cost, bound)
	stream.Body.Close()
	a.settled(t)
	release()
	agree(3, 0, cost+bound, 0) // the client left before the usage came
}
