package gateway

import (
	"net/http"
	"strings"
	"testing"
)

// chatOf is a chat completion of about n bytes.
func chatOf(n int) []byte {
	const head = `{"model":"gpt-4o-mini","stream":true,"temperature":0.7,"messages":[`
	message := `{"role":"user","content":"` + strings.Repeat("word ", 20) + `"}`
	return []byte(head + strings.Repeat(message+",", max(n-len(head)-len(message), 0)/(len(message)+1)) + message + `]}`)
}

func BenchmarkInspect(b *testing.B) {
	for name, n := range map[string]int{"250 B": 250, "2 KB": 2 << 10, "150 KB": 150 << 10} {
		b.Run(name, func(b *testing.B) {
			body := chatOf(n)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if in, problem := inspectJSON(body, nil, nil); problem != scanOK || !in.stream {
					b.Fatal("not read")
				}
			}
		})
	}
}

func BenchmarkOutboundHeader(b *testing.B) {
	in := http.Header{
		"Authorization": {"Bearer x"}, "Content-Type": {"application/json"}, "Accept": {"application/json"}, "User-Agent": {"OpenAI/Python 1.0"},
		"Accept-Encoding": {"gzip"}, "X-Stainless-Lang": {"python"}, "X-Stainless-Os": {"Linux"}, "X-Stainless-Retry-Count": {"0"},
		"Cookie": {"a=b"}, "X-Forwarded-For": {"1.2.3.4"},
	}
	for name, g := range map[string]*Gateway{"default": withGlobs(), "globs": withGlobs("x-team-*", "traceparent")} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				g.outboundHeader(in, false)
			}
		})
	}
}

func BenchmarkClientCredential(b *testing.B) {
	for name, r := range map[string]*http.Request{
		"bearer": credentialRequest(b, "/v1/models", "Authorization: Bearer "+tokenA),
		"query":  credentialRequest(b, "/v1/models?alt=sse&key="+tokenA),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := clientCredential(r); !ok {
					b.Fatal("not found")
				}
			}
		})
	}
}

func BenchmarkInflight(b *testing.B) {
	f := NewInflight()
	defer f.Close()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		fl, _ := newFlight(newID(), newID())
		for pb.Next() {
			f.add(fl)
			f.await(fl, 1)
			fl.arrived()
			f.remove(fl)
		}
	})
}
