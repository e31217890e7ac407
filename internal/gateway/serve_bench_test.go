package gateway_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
)

// sink is a client that takes everything and keeps nothing.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(int)             {}
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }
func (s *sink) Flush()                      {}

// BenchmarkServe is a whole request, short of the network on both sides.
func BenchmarkServe(b *testing.B) {
	const body = `{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hello"}]}`
	r := newRig(b, setup{upstream: roundTripper(func(req *http.Request) (*http.Response, error) {
		_, _ = io.Copy(io.Discard, req.Body)
		return reply(http.StatusOK, "application/json", "{}"), nil
	})})
	for name, token := range map[string]string{"served": r.token, "refused": r.token[:len(r.token)-1]} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				req := httptest.NewRequestWithContext(b.Context(), http.MethodPost, chatPath, strings.NewReader(body))
				req.Header["Authorization"] = []string{"Bearer " + token}
				m, _ := r.gateway.Match(req)
				r.gateway.Serve(&sink{make(http.Header)}, req, m, new(gateway.Record))
			}
		})
	}
}
