package caddymodule

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
)

func init() { caddy.RegisterModule(new(noop)) }

// noop is a handler that does nothing: what Caddy's server costs by itself.
type noop struct{}

func (*noop) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.llm_proxy_test_noop", New: func() caddy.Module { return new(noop) }}
}

func (*noop) ServeHTTP(w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
	w.WriteHeader(http.StatusOK)
	return nil
}

// A chat completion of ordinary size: 12 headers and 2 KB one way, 14 headers
// and 1 KB the other.
var (
	chatBody = []byte(`{"model":"gpt-4o-mini","messages":[{"role":"user","content":"` + strings.Repeat("What does a proxy do? ", 90) + `"}],"temperature":0.7}`)
	answer   = []byte(`{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"` + strings.Repeat("It passes things on. ", 40) + `"}}],"usage":{"prompt_tokens":500,"completion_tokens":200,"total_tokens":700}}`)
)

func chatRequest(token string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/v1/chat/completions", bytes.NewReader(chatBody))
	for name, value := range map[string]string{
		"Authorization": "Bearer " + token, "Content-Type": "application/json", "Accept": "application/json", "User-Agent": "OpenAI/Go 3.96.0",
		"X-Stainless-Lang": "go", "X-Stainless-Package-Version": "3.96.0", "X-Stainless-Os": "Linux", "X-Stainless-Arch": "x64",
		"X-Stainless-Runtime": "go", "X-Stainless-Runtime-Version": "go1.26", "X-Stainless-Retry-Count": "0", "Accept-Encoding": "gzip",
	} {
		r.Header.Set(name, value)
	}
	return r
}

var cannedHeader = func() http.Header {
	h := make(http.Header, 16)
	for i, name := range []string{
		"Date", "X-Request-Id", "Openai-Version", "Openai-Processing-Ms", "Openai-Organization", "X-Ratelimit-Limit-Requests",
		"X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests", "X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens",
		"X-Ratelimit-Reset-Tokens", "Cf-Cache-Status",
	} {
		h[name] = []string{"value " + strconv.Itoa(i)}
	}
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(answer))}
	return h
}()

// canned answers from memory, after reading the request as a transport would.
func canned(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return nil, err
		}
		_ = r.Body.Close()
	}
	return &http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: maps.Clone(cannedHeader),
		Body: io.NopCloser(bytes.NewReader(answer)), ContentLength: int64(len(answer)), Request: r,
	}, nil
}

// discard is a response writer without a memory.
type discard struct {
	header http.Header
	status int
	bytes  int
}

func (d *discard) Header() http.Header { return d.header }
func (d *discard) WriteHeader(s int)   { d.status = s }
func (d *discard) Flush()              {}

func (*discard) SetReadDeadline(time.Time) error  { return nil }
func (*discard) SetWriteDeadline(time.Time) error { return nil }

func (d *discard) Write(p []byte) (int, error) {
	d.bytes += len(p)
	return len(p), nil
}

// serveFixture is a running server whose data path has upstream in memory.
type serveFixture struct {
	server *caddyhttp.Server
	client client
}

func newServeFixture(t testing.TB, upstream roundTripper, handler object) serveFixture {
	t.Helper()
	load(t, site(sqliteApp(t.TempDir()), handler))
	f := serveFixture{server: server(t), client: enrol(t, activeApp(t).runtime.db.store.Load(), "openai", project.Policy{})}
	switch h := f.server.Routes[0].Handlers[0].(type) {
	case *Handler:
		p, err := provider.New(provider.Config{Name: "openai"})
		if err != nil {
			t.Fatal(err)
		}
		table, err := provider.NewTable([]*provider.Provider{p}, "openai")
		if err != nil {
			t.Fatal(err)
		}
		db := h.runtime.db
		h.gateway, err = gateway.New(gateway.Config{
			Providers: table, Transports: map[string]http.RoundTripper{"openai": upstream},
			Authority: db.authority, Inflight: db.inflight, Ready: db.gate, ClientIP: clientAddr,
		})
		if err != nil {
			t.Fatal(err)
		}
	case *reverseproxy.Handler:
		h.Transport = upstream
	}
	return f
}

func (f serveFixture) serve(t testing.TB, r *http.Request, want int) *discard {
	w := &discard{header: make(http.Header, 24)}
	f.server.ServeHTTP(w, r)
	if w.status != want {
		t.Fatalf("status %d, want %d", w.status, want)
	}
	return w
}

func proxyConfig() object { return object{"handler": "llm_proxy"} }
func noopConfig() object  { return object{"handler": "llm_proxy_test_noop"} }
func reverseProxyConfig() object {
	return object{"handler": "reverse_proxy", "upstreams": []object{{"dial": "127.0.0.1:1"}}}
}

// allocations counts those of one request, its construction left out.
func (f serveFixture) allocations(t testing.TB, token string, want int) float64 {
	f.serve(t, chatRequest(token), want) // warm: caches and pools are filled
	construct := testing.AllocsPerRun(200, func() {
		chatRequest(token)
		_ = &discard{header: make(http.Header, 24)}
	})
	return testing.AllocsPerRun(200, func() { f.serve(t, chatRequest(token), want) }) - construct
}

// TestAllocations keeps the request path from growing: the ceilings are above
// a handler that does nothing, canned upstream included.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector allocates by itself; counted without it")
	}
	base := newServeFixture(t, canned, noopConfig()).allocations(t, "", http.StatusOK)
	for _, tc := range []struct {
		name    string
		token   func(client) string
		status  int
		ceiling float64
	}{
		{"governed miss", func(c client) string { return c.text }, http.StatusOK, 40},
		{"refused token", func(c client) string { return c.text[:len(c.text)-1] + "!" }, http.StatusUnauthorized, 25},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newServeFixture(t, canned, proxyConfig())
			got := f.allocations(t, tc.token(f.client), tc.status) - base
			t.Logf("%.0f allocations above a no-op handler", got)
			if got > tc.ceiling && !raceEnabled {
				t.Errorf("%.0f allocations above a no-op handler, ceiling %.0f", got, tc.ceiling)
			}
		})
	}
}

func BenchmarkServe(b *testing.B) {
	for _, bc := range []struct {
		name    string
		handler object
		token   func(client) string
		status  int
	}{
		{"noop", noopConfig(), func(c client) string { return c.text }, http.StatusOK},
		{"miss", proxyConfig(), func(c client) string { return c.text }, http.StatusOK},
		{"401", proxyConfig(), func(client) string { return "sk-wt-no" }, http.StatusUnauthorized},
		{"reverse_proxy", reverseProxyConfig(), func(c client) string { return c.text }, http.StatusOK},
	} {
		b.Run(bc.name, func(b *testing.B) {
			f := newServeFixture(b, canned, bc.handler)
			token := bc.token(f.client)
			f.serve(b, chatRequest(token), bc.status)
			b.ReportAllocs()
			for b.Loop() {
				f.serve(b, chatRequest(token), bc.status)
			}
		})
	}
}

// frames is a stream of n server-sent events.
type frames struct{ left int }

var frame = []byte("data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"}}]}\n\n")

func (s *frames) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	s.left--
	return copy(p, frame), nil
}

func (*frames) Close() error { return nil }

// BenchmarkStreamChunk is the cost of one frame of a stream.
func BenchmarkStreamChunk(b *testing.B) {
	for _, bc := range []struct {
		name    string
		handler object
	}{{"llm_proxy", proxyConfig()}, {"reverse_proxy", reverseProxyConfig()}} {
		b.Run(bc.name, func(b *testing.B) {
			upstream := func(r *http.Request) (*http.Response, error) {
				return &http.Response{
					StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1, Request: r,
					Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: &frames{left: b.N},
				}, nil
			}
			f := newServeFixture(b, upstream, bc.handler)
			b.ReportAllocs()
			b.ResetTimer()
			w := f.serve(b, chatRequest(f.client.text), http.StatusOK)
			if w.bytes != b.N*len(frame) {
				b.Fatalf("%d bytes arrived, want %d", w.bytes, b.N*len(frame))
			}
		})
	}
}
