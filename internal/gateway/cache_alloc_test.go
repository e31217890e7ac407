//go:build !race

package gateway_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/fill"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/price"
)

// hits is a client that gets the same from the cache again and again.
type hits struct {
	handler http.HandlerFunc
	w       sink
	body    *strings.Reader
	req     *http.Request
	asked   string
}

func (h *hits) serve() {
	h.body.Reset(h.asked)
	clear(h.w.header)
	h.handler(&h.w, h.req)
}

// newHits makes a gateway with a cache and what else a configuration has: a log of
// events, prices, and somebody who looks at the record.
func newHits(t *testing.T, asked, contentType, answer string) *hits {
	t.Helper()
	log, err := event.New(event.Config{Store: taken{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Start(); err != nil {
		t.Fatal(err)
	}
	prices, err := price.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	pool := newCachePool(t)
	header := http.Header{"Content-Type": {contentType}, "Content-Length": {strconv.Itoa(len(answer))}, "X-Request-Id": {"req_1"}}
	r := newRig(t, setup{
		upstream: roundTripper(func(*http.Request) (*http.Response, error) {
			resp := reply(http.StatusOK, contentType, answer)
			resp.Header = maps.Clone(header)
			return resp, nil
		}),
		gateway: func(c *gateway.Config) {
			c.Events, c.Prices, c.Observe = log, prices, func(*gateway.Record) {}
			c.Cache = &gateway.Cache{
				Store: pool, Fills: pool.fills, Lease: func() fill.Lease { return unleased{} },
				Rules: httpcache.Rules{Mode: httpcache.OptIn, TTL: time.Hour},
			}
		},
	})
	t.Cleanup(func() {
		pool.close()
		if err := log.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	h := &hits{w: sink{make(http.Header)}, body: strings.NewReader(asked), asked: asked}
	h.req = httptest.NewRequestWithContext(t.Context(), http.MethodPost, chatPath, h.body)
	h.req.ContentLength = int64(len(asked))
	h.req.Header["Authorization"] = []string{"Bearer " + r.token}
	h.req.Header["Content-Type"] = []string{"application/json"}
	h.req.Header["Cache-Control"] = []string{"max-age=3600"}
	want := gateway.CacheMiss
	rec := new(gateway.Record)
	h.handler = func(w http.ResponseWriter, req *http.Request) {
		m, _ := r.gateway.Match(req)
		if r.gateway.Serve(w, req, m, rec); rec.Cache != want || rec.Outcome != gateway.OutcomeOK {
			t.Fatalf("want a %s: %+v", want, rec)
		}
	}
	h.serve()
	want = gateway.CacheHit
	return h
}

// TestCacheHitAllocations holds the ceiling of what a hit takes, above a handler that
// does nothing with the same request. The race detector makes pools forget, so this
// holds without it.
func TestCacheHitAllocations(t *testing.T) {
	const ceiling = 30
	for _, tc := range eventPaths {
		t.Run(tc.name, func(t *testing.T) {
			h := newHits(t, tc.asked, tc.contentType, tc.answer)
			count := func() float64 { return testing.AllocsPerRun(2000, h.serve) }
			hit := count()
			h.handler = func(http.ResponseWriter, *http.Request) {}
			base := count()
			t.Logf("%.0f allocations, of them %.0f for the hit", hit, hit-base)
			if hit-base > ceiling {
				t.Errorf("a hit takes %.0f allocations, ceiling %d", hit-base, ceiling)
			}
		})
	}
}
