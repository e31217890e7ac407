package e2e

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// cachedSite caches what clients opt in to.
func cachedSite(sim *provider, options ...string) site {
	s := against(sim)
	s.handler = "cache {\n" + strings.Join(options, "\n") + "\n}"
	return s
}

// optIn asks for an answer that is at most a minute old.
func optIn(r request) request {
	if r.header == nil {
		r.header = make(http.Header)
	}
	r.header.Set("Cache-Control", "max-age=60")
	return r
}

// TestCache: who asks the same again gets the same, at no cost.
func TestCache(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, cachedSite(sim))
	a := p.account(t)
	for _, d := range allDialects {
		for _, stream := range []bool{false, true} {
			name := string(d)
			if stream {
				name += " stream"
			}
			t.Run(name, func(t *testing.T) {
				model := map[dialect]string{openAIDialect: "gpt-4o", anthropicDialect: "claude-sonnet-4-5", geminiDialect: "gemini-2.5-flash"}[d]
				before := sim.count()
				first := p.do(t, optIn(d.ask(string(d), a.token, model, stream)))
				if first.status != http.StatusOK || first.header.Get("Cache-Status") != "llm-proxy; fwd=uri-miss; stored" {
					t.Fatalf("%d %v %s", first.status, first.header, first.body)
				}
				for _, proto := range allProtocols {
					r := optIn(d.ask(string(d), a.token, model, stream))
					r.proto = proto
					got := p.do(t, r)
					if got.status != http.StatusOK || got.body != first.body || got.header.Get("Age") == "" || !strings.HasPrefix(got.header.Get("Cache-Status"), "llm-proxy; hit; ttl=") {
						t.Errorf("%s: %d %v %s, want %s", proto, got.status, got.header, got.body, first.body)
					}
					if got.header.Get("Content-Type") != first.header.Get("Content-Type") || got.header.Get("X-LLM-Proxy-Request-Id") == first.header.Get("X-LLM-Proxy-Request-Id") {
						t.Errorf("%s: %v", proto, got.header)
					}
				}
				if n := sim.count() - before; n != 1 {
					t.Errorf("the provider was asked %d times", n)
				}
			})
		}
	}
}

// TestCoalescing: of many who ask the same at once, one asks the provider.
func TestCoalescing(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, cachedSite(sim))
	a := p.account(t)
	for model, stream := range map[string]bool{"sim-slow-1s": false, "gpt-4o": true} {
		before := sim.count()
		release := sim.hold(t, a.key) // streams alone
		var all sync.WaitGroup
		bodies := make([]string, 200)
		for i := range bodies {
			all.Go(func() {
				r := optIn(chat(a.token, model, stream))
				r.proto = h2
				got := p.do(t, r)
				if got.status != http.StatusOK {
					t.Errorf("%d %s", got.status, got.body)
				}
				bodies[i] = got.body
			})
		}
		eventually(t, "one asks, all wait", func() bool {
			return sim.count() == before+1 && (!stream || parseMetrics(t, p.admin("/metrics")).sum("llm_proxy_inflight_requests") == 200)
		})
		release()
		all.Wait()
		if n := sim.count() - before; n != 1 {
			t.Errorf("stream %t: the provider was asked %d times", stream, n)
		}
		for _, body := range bodies {
			if body != bodies[0] || body == "" {
				t.Errorf("stream %t: %q, others got %q", stream, body, bodies[0])
			}
		}
	}
}
