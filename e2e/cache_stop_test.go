package e2e

import (
	"context"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// TestCacheGracefulStop: what the cache still fetches for clients that have left does not
// outlive the process, but its event does, and nothing stays held for it.
func TestCacheGracefulStop(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(request) request{"fetched": optIn, "passed through": func(r request) request { return r }} {
		for _, durability := range []string{"", "\t\tevents {\n\t\t\tdurability before_response\n\t\t}\n"} {
			t.Run(name+map[bool]string{true: ", durably", false: ""}[durability != ""], func(t *testing.T) {
				t.Parallel()
				sim := newProvider(t, simulator.Options{})
				s := priced(t, cachedSite(sim))
				s.app += durability
				p := start(t, s)
				a := p.account(t, object{"max_requests": 100})
				before := sim.count()
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				client, left := p.freshClient(h2), make(chan struct{})
				defer client.CloseIdleConnections()
				req := p.build(t, ctx, change(chat(a.token, "sim-slow-5m", false)))
				go func() {
					defer close(left)
					if resp, err := client.Do(req); err == nil {
						resp.Body.Close()
						t.Error("there is an answer")
					}
				}()
				eventually(t, "the provider is asked", func() bool { return sim.count() == before+1 })
				leave()
				receive(t, "the client's end", left)
				eventually(t, "the client's request is over", func() bool { return p.inflight(t) == 0 })
				const others = 5
				for range others {
					if got := p.do(t, chat(a.token, "gpt-4o", false)); got.status != 200 {
						t.Errorf("%d %s", got.status, got.body)
					}
				}
				p.stop()
				p.again()
				outcomes := make(map[string]int)
				for _, e := range a.awaitRequests(t, others+1) {
					outcomes[e.Model+" "+e.Outcome]++
				}
				if len(outcomes) != 2 || outcomes["gpt-4o ok"] != others || outcomes["sim-slow-5m client_cancelled"] != 1 {
					t.Errorf("events: %v", outcomes)
				}
				own, _ := p.standings(t, a.token)
				if q := own["max_requests"]; q == nil || q.Used != float64(others+1) || q.Held != float64(0) || q.Available != float64(100-others-1) {
					t.Errorf("%+v", q)
				}
			})
		}
	}
}
