package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/fill"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

type noLease struct{}

func (noLease) Acquire() bool { return true }
func (noLease) Release()      {}

// BenchmarkServeHit is a chat completion of 2 KB from the cache in memory, short of
// the network.
func BenchmarkServeHit(b *testing.B) {
	store, err := respcache.New(respcache.Options{Memory: 64 << 20})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(store.Close)
	fills := fill.New(fill.Options{})
	b.Cleanup(fills.Close)
	r := newRig(b, setup{
		gateway: func(c *gateway.Config) {
			c.Events = drain{}
			c.Cache = &gateway.Cache{
				Store: store, Fills: fills, Rules: httpcache.Rules{Mode: httpcache.Always, Scope: httpcache.Project, TTL: time.Hour},
				Lease: func() fill.Lease { return noLease{} },
			}
		},
		upstream: roundTripper(func(req *http.Request) (*http.Response, error) {
			_, _ = io.Copy(io.Discard, req.Body)
			return reply(http.StatusOK, "application/json", `{"choices":["`+strings.Repeat("word ", 200)+`"]}`), nil
		}),
	})
	body := `{"model":"gpt-4o-mini","stream":false,"user":"whole","messages":[{"role":"system","content":"Answer in one sentence."},{"role":"user","content":"` +
		strings.Repeat("What does a proxy do with a request? ", 51) + `"}],"temperature":0.7,"max_tokens":256}`
	header := http.Header{
		"Authorization": {"Bearer " + r.token}, "Content-Type": {"application/json"}, "Accept": {"application/json"}, "User-Agent": {"OpenAI/Python 2.8.0"},
		"Accept-Encoding": {"gzip, deflate"}, "X-Stainless-Lang": {"python"}, "X-Stainless-Os": {"Linux"}, "X-Stainless-Arch": {"x64"},
		"X-Stainless-Runtime": {"CPython"}, "X-Stainless-Runtime-Version": {"3.13.1"}, "X-Stainless-Package-Version": {"2.8.0"},
	}
	var rec gateway.Record
	serve := func() {
		req := httptest.NewRequestWithContext(b.Context(), http.MethodPost, chatPath, strings.NewReader(body))
		req.Header = header
		m, _ := r.gateway.Match(req)
		r.gateway.Serve(&sink{make(http.Header)}, req, m, &rec)
	}
	for serve(); rec.Cache != gateway.CacheHit; serve() {
	}
	b.ReportAllocs()
	for b.Loop() {
		serve()
	}
	if rec.Cache != gateway.CacheHit {
		b.Fatalf("the last answer was a %s", rec.Cache)
	}
}

// drain gives events back at once.
type drain struct{ gateway.EventLog }

func (drain) Append(ev *event.Event) { ev.Release() }
