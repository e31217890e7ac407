package provider_test

import (
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
)

func TestCanonicalPathIsReturnedAsItIs(t *testing.T) {
	for _, path := range []string{"/v1/chat/completions", "/v1beta/models/gemini-2.5-flash:generateContent", "/v1/models/"} {
		if n := testing.AllocsPerRun(1000, func() { _, _ = provider.CanonicalPath(path) }); n != 0 {
			t.Errorf("%s: %v allocations, want 0", path, n)
		}
	}
}

// At most the endpoint and the path are new strings.
func TestMatchAllocations(t *testing.T) {
	var sink provider.Route // keeps the strings from being made on the stack
	tab := table(t, preset(t, "openai", ""), preset(t, "groq", ""), preset(t, "gemini", ""))
	for path, ceiling := range map[string]float64{
		"/v1/chat/completions":                         0,
		"/openai/v1/chat/completions":                  0,
		"/groq/v1/chat/completions":                    1,
		"/openai/chat/completions":                     1,
		"/gemini/v1beta/models/gemini:generateContent": 0,
		"/another/handler":                             0,
		"/index.html":                                  0,
		"/gemini/v1beta/openai/chat/completions":       0,
	} {
		if n := testing.AllocsPerRun(1000, func() { sink, _, _ = tab.Match(path) }); n > ceiling {
			t.Errorf("%s: %v allocations, want at most %v (%s)", path, n, ceiling, sink.Path)
		}
	}
}

func BenchmarkCanonicalPath(b *testing.B) {
	for name, path := range map[string]string{"canonical": "/v1/chat/completions", "escaped": "/v1/%63hat//completions"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := provider.CanonicalPath(path); !ok {
					b.Fatal("refused")
				}
			}
		})
	}
}

func BenchmarkMatch(b *testing.B) {
	tab := table(b, preset(b, "openai", ""), preset(b, "groq", ""))
	for name, path := range map[string]string{"default": "/v1/chat/completions", "named": "/groq/v1/chat/completions", "next": "/index.html"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _, _ = tab.Match(path)
			}
		})
	}
}
