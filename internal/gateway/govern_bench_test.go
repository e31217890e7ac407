package gateway_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/fill"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
	"github.com/sofatutor/caddy-llm-proxy/internal/price"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// open is a lease of a gateway that outlives everything.
type open struct{}

func (open) Acquire() bool { return true }
func (open) Release()      {}

// bothLimited gives the token and its project the same limits.
func bothLimited(s *setup, l project.Limits) {
	s.token = func(tk *token.Token) { tk.Policy.Limits, tk.Version = l, 1 }
	s.project = func(p *project.Snapshot) { p.Policy.Limits, p.Version = l, 1 }
}

// BenchmarkGoverned is a whole request of 2 KB, short of the network on both
// sides: without limits, with six of rates, with four strict ones, and from the
// cache.
func BenchmarkGoverned(b *testing.B) {
	const plenty = 1 << 40
	for _, bc := range []struct {
		name  string
		setup func(*testing.B, *setup) (held func(http.Header) bool) // what is benchmarked has taken part
	}{
		{"no limits", func(*testing.B, *setup) func(http.Header) bool {
			return func(h http.Header) bool { return h["X-Ratelimit-Limit-Tokens"] == nil && h["Cache-Status"] == nil }
		}},
		{"rates", func(b *testing.B, s *setup) func(http.Header) bool {
			m := limit.NewMemory()
			b.Cleanup(m.Close)
			bothLimited(s, project.Limits{RPM: of(plenty), TPM: of(plenty), Concurrency: of(plenty)})
			s.gateway = func(c *gateway.Config) { c.Limits.Limiter = m }
			return func(h http.Header) bool { return h["X-Ratelimit-Limit-Tokens"] != nil }
		}},
		{"budget and quota", func(b *testing.B, s *setup) func(http.Header) bool {
			store := &rows{rows: make(map[ledger.Key]*ledger.Row), leases: make(map[ledger.Key]*ledger.Lease)}
			l, err := ledger.New(ledger.Config{Store: store})
			if err != nil {
				b.Fatal(err)
			}
			l.Start()
			b.Cleanup(func() { _ = l.Close(context.Background()) })
			bothLimited(s, project.Limits{BudgetUSD: dollars("1000000"), MaxRequests: of(plenty)})
			prices, err := price.New(nil)
			if err != nil {
				b.Fatal(err)
			}
			s.gateway = func(c *gateway.Config) { c.Limits.Ledger, c.Prices = l, prices }
			return func(http.Header) bool {
				store.mu.Lock()
				defer store.mu.Unlock()
				return len(store.leases) == 4
			}
		}},
		{"cache hit", func(b *testing.B, s *setup) func(http.Header) bool {
			store, err := respcache.New(respcache.Options{Memory: 16 << 20})
			if err != nil {
				b.Fatal(err)
			}
			store.Start()
			b.Cleanup(store.Close)
			fills := fill.New(fill.Options{MaxObject: 1 << 16, MaxLag: 1 << 16})
			b.Cleanup(fills.Close)
			s.gateway = func(c *gateway.Config) {
				c.Cache = &gateway.Cache{
					Store: store, Fills: fills, Rules: httpcache.Rules{Mode: httpcache.Always, TTL: time.Hour},
					Lease: func() fill.Lease { return open{} },
				}
			}
			return func(h http.Header) bool { return strings.HasPrefix(h.Get("Cache-Status"), "llm-proxy; hit") }
		}},
	} {
		b.Run(bc.name, func(b *testing.B) {
			s := setup{upstream: roundTripper(func(req *http.Request) (*http.Response, error) {
				_, _ = io.Copy(io.Discard, req.Body)
				return reply(http.StatusOK, "application/json", answeredOnce), nil
			})}
			held := bc.setup(b, &s)
			r := newRig(b, s)
			body := strings.NewReader(askedOnce)
			req := httptest.NewRequestWithContext(b.Context(), http.MethodPost, chatPath, body)
			req.Header["Authorization"] = []string{"Bearer " + r.token}
			req.Header["Content-Type"] = []string{"application/json"}
			w, rec := &sink{make(http.Header)}, new(gateway.Record)
			serve := func() {
				body.Reset(askedOnce)
				clear(w.header)
				m, _ := r.gateway.Match(req)
				r.gateway.Serve(w, req, m, rec)
			}
			serve() // the first one makes leases, and is what the cache will have
			b.ReportAllocs()
			for b.Loop() {
				if serve(); rec.Outcome != gateway.OutcomeOK {
					b.Fatalf("%+v", rec)
				}
			}
			if !held(w.header) {
				b.Fatalf("not what it is called: %v", w.header)
			}
		})
	}
}
