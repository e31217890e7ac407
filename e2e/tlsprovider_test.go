package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// TestTLSProvider: a provider with TLS is spoken to over HTTP/2, verified
// against the roots of the system.
func TestTLSProvider(t *testing.T) {
	t.Parallel()
	sim := newTLSProvider(t, simulator.Options{})
	p := start(t, against(sim), "SSL_CERT_FILE="+sim.caFile)
	a := p.account(t)
	for _, stream := range []bool{false, true} {
		got := p.do(t, chat(a.token, "gpt-4o-mini", stream))
		if got.status != http.StatusOK || stream != strings.HasSuffix(got.body, "data: [DONE]\n\n") {
			t.Errorf("stream %v: %d %s", stream, got.status, got.body)
		}
		if seen := sim.last(t, a.key); seen.proto != "HTTP/2.0" {
			t.Errorf("stream %v: the provider was spoken to over %s", stream, seen.proto)
		}
	}
	t.Run("unknown root", func(t *testing.T) {
		t.Parallel()
		p := start(t, against(sim))
		a := p.account(t)
		before := sim.count()
		openAIDialect.refused(t, p.do(t, chat(a.token, "gpt-4o-mini", false)), http.StatusBadGateway, "upstream_error")
		sim.untouched(t, before)
	})
}
