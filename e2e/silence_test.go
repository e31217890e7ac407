package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// TestSilence is ten minutes of silence in a stream, and three before an
// answer, at a scale: every timer of the server is far shorter than the silence.
func TestSilence(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	s := against(sim)
	s.global = "servers {\n timeouts {\n read_body_idle 200ms\n write_idle 200ms\n idle 200ms\n read_header 200ms\n }\n}"
	p := start(t, s)
	for _, proto := range allProtocols {
		for model, stream := range map[string]bool{
			"sim-silent-1500ms": true, "sim-silent-1500ms+slow-500ms": true, "sim-slow-1500ms": true, "sim-slow-1501ms": false, "sim-slow-1500ms+big-2000000": false,
		} {
			t.Run(fmt.Sprintf("%s/%s", proto, model), func(t *testing.T) {
				t.Parallel()
				a := p.account(t)
				r := chat(a.token, model, stream)
				r.proto = proto
				r.body = strings.Replace(r.body, "hello", strings.Repeat("hello ", 50_000), 1)
				got, err := p.fresh(t, proto, r) // a kept connection would end between two requests
				if got.status != http.StatusOK || err != nil {
					t.Fatalf("status %d, %v: %.300s", got.status, err, got.body)
				}
				if stream && !strings.HasSuffix(got.body, "data: [DONE]\n\n") {
					t.Errorf("the stream ends with %q", got.body[max(0, len(got.body)-100):])
				}
			})
		}
	}
}

// TestProviderTimeouts gives a provider less time than it takes.
func TestProviderTimeouts(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	s := against(sim)
	s.options = map[string]string{
		"openai": "idle_timeout 300ms", "anthropic": "idle_timeout 300ms", "gemini": "idle_timeout 300ms",
		"patient": "type openai\nidle_timeout 0\napi_key sk-shared-1", "hasty": "type openai\nresponse_header_timeout 200ms\nidle_timeout 0\napi_key sk-shared-1",
	}
	s.providers["patient"], s.providers["hasty"] = sim.url+"/v1", sim.url+"/v1"
	p := start(t, s)
	a := p.account(t)
	for i, d := range allDialects {
		t.Run("silence "+string(d), func(t *testing.T) {
			r := d.ask(string(d), a.token, "sim-silent-1h", true)
			r.proto = allProtocols[i]
			got := p.do(t, r)
			if got.err == nil {
				t.Error("the stream seems complete")
			}
			if problem, err := d.read(lastEvent(got.body)); err != nil || problem.code != "upstream_timeout" {
				t.Errorf("last event %q: %v", lastEvent(got.body), err)
			}
		})
	}
	t.Run("short silences", func(t *testing.T) {
		if got := p.do(t, chat(a.token, "sim-chunks-12+pace-50ms", true)); got.err != nil || !strings.HasSuffix(got.body, "[DONE]\n\n") {
			t.Errorf("%v: %q", got.err, got.body)
		}
	})
	t.Run("no limit", func(t *testing.T) {
		got := p.do(t, openAIDialect.ask("patient", a.token, "sim-silent-1s", true))
		if got.err != nil || !strings.HasSuffix(got.body, "[DONE]\n\n") {
			t.Errorf("%v: %q", got.err, got.body)
		}
	})
	t.Run("header", func(t *testing.T) {
		openAIDialect.refused(t, p.do(t, openAIDialect.ask("hasty", a.token, "sim-slow-1h", true)), http.StatusGatewayTimeout, "upstream_timeout")
	})
	t.Run("header in time", func(t *testing.T) {
		if got := p.do(t, openAIDialect.ask("hasty", a.token, "sim-silent-700ms", true)); got.err != nil || got.status != http.StatusOK {
			t.Errorf("%d %v: %q", got.status, got.err, got.body)
		}
	})
}
