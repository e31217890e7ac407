package usage_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/usage"
)

// chatStream is n chunks as OpenAI sends them, and their end.
func chatStream(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, `data: {"id":"chatcmpl-9lMgfRSWPHcw51s6wxKT1YEO2CKpd","object":"chat.completion.chunk","created":1721075653,"model":"gpt-4o-mini-2024-07-18",`+
			`"service_tier":"default","system_fingerprint":"fp_8b761cb050","choices":[{"index":0,"delta":{"content":" word%d"},"logprobs":null,"finish_reason":null}],"usage":null}`+"\n\n", i)
	}
	b.WriteString(usageFrame + "\n\ndata: [DONE]\n\n")
	return b.Bytes()
}

func perKB(b *testing.B, size int) {
	b.SetBytes(int64(size))
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(float64(size)/1024), "ns/KB")
}

// BenchmarkStream passes a stream on as the gateway does, a chunk at a time,
// with what is read and filtered besides.
func BenchmarkStream(b *testing.B) {
	data := chatStream(200)
	chunks := bytes.SplitAfter(data, []byte("\n\n"))
	dst := make([]byte, len(data))
	out := writerFunc(func(p []byte) (int, error) { return copy(dst, p), nil })
	var r usage.Reader
	var f usage.Filter
	for _, tc := range []struct {
		name string
		pass func(p []byte)
	}{
		{"copy", func(p []byte) { _, _ = out(p) }},
		{"read", func(p []byte) { _, _ = r.Write(p); _, _ = out(p) }},
		{"filter", func(p []byte) { _, _ = f.Write(p) }},
		{"read and filter", func(p []byte) { _, _ = r.Write(p); _, _ = f.Write(p) }},
	} {
		b.Run(tc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(usage.KindChat, "text/event-stream")
				f.Reset(out)
				for _, p := range chunks {
					tc.pass(p)
				}
			}
			perKB(b, len(data))
		})
	}
}

func BenchmarkBody(b *testing.B) {
	text := strings.Repeat(`All happy families are alike; each unhappy family is unhappy in its own way.\n`, 100)
	for name, body := range map[string]struct {
		kind usage.Kind
		text string
	}{
		"chat":      {usage.KindChat, `{"id":"c","model":"m","choices":[{"message":{"content":"` + text + `"}}],"usage":{"prompt_tokens":5,"completion_tokens":6}}`},
		"messages":  {usage.KindMessages, `{"id":"c","model":"m","content":[{"type":"text","text":"` + text + `"}],"usage":{"input_tokens":5,"output_tokens":6}}`},
		"embedding": {usage.KindChat, `{"data":[{"embedding":[` + strings.Repeat(`-0.0069292834,`, 1535) + `0]}],"usage":{"prompt_tokens":5}}`},
		"image":     {usage.KindImages, `{"data":[{"b64_json":"` + strings.Repeat("iVBORw0KGgo", 20_000) + `"}],"usage":{"input_tokens":5,"output_tokens":6}}`},
	} {
		b.Run(name, func(b *testing.B) {
			data := []byte(body.text)
			var r usage.Reader
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(body.kind, "application/json")
				_, _ = r.Write(data)
			}
			perKB(b, len(data))
		})
	}
}

func BenchmarkRealtimeAudio(b *testing.B) {
	message := []byte(`{"type":"response.output_audio.delta","delta":"` + strings.Repeat("AAAA", 4000) + `"}`)
	var r usage.Reader
	b.ReportAllocs()
	for b.Loop() {
		r.Message(message)
	}
	perKB(b, len(message))
}

func BenchmarkIncludeUsage(b *testing.B) {
	body := []byte(`{"model":"gpt-4o","messages":[` + strings.Repeat(`{"role":"user","content":"All happy families are alike.\n"},`, 100) + `{}],"stream":true}`)
	b.ReportAllocs()
	for b.Loop() {
		usage.IncludeUsage(body)
	}
	perKB(b, len(body))
}

var _ io.Writer = writerFunc(nil)
