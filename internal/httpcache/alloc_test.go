//go:build !race

package httpcache_test

import (
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
)

func TestAllocations(t *testing.T) {
	h := header("Cache-Control: max-age=60, no-transform", `If-None-Match: "x", W/"a"`, "Accept: application/json", "Openai-Beta: x")
	m := stored(t, &project, get(), "Cache-Control: max-age=3600", `ETag: "a"`, "Vary: Accept, Accept-Language")
	now := noon.Add(time.Second)
	key := make([]byte, 0, 512)
	status := make([]byte, 0, 128)
	if n := testing.AllocsPerRun(100, func() {
		req := httpcache.NewRequest("GET", h)
		if !req.Reads(&project) {
			t.Fatal("not looked up")
		}
		key = httpcache.AppendVariant(key[:0], httpcache.Implied, h)
		key = httpcache.AppendVariant(key, m.Vary, h)
		d := httpcache.Evaluate(&req, m, now, &project)
		if d.Action != httpcache.Answer || !d.NotModified {
			t.Fatalf("%+v", d)
		}
		s := d.Status()
		status = s.Append(status[:0])
	}); n > 0 {
		t.Errorf("%v allocations for a fresh hit, want 0", n)
	}
}

func BenchmarkEvaluateHit(b *testing.B) {
	h := header("Cache-Control: max-age=60", "Accept: application/json", "Content-Type: application/json", "User-Agent: x")
	m := stored(b, &project, request("POST", "Cache-Control: max-age=60"))
	now := noon.Add(time.Second)
	b.ReportAllocs()
	for b.Loop() {
		req := httpcache.NewRequest("POST", h)
		if d := httpcache.Evaluate(&req, m, now, &project); d.Action != httpcache.Answer {
			b.Fatal(d)
		}
	}
}

func BenchmarkAppendVariant(b *testing.B) {
	h := header("Accept: application/json", "Accept-Language: en, de;q=0.5", "Openai-Beta: x")
	vary := []string{"Accept", "Accept-Encoding", "Accept-Language"}
	var key []byte
	b.ReportAllocs()
	for b.Loop() {
		key = httpcache.AppendVariant(key[:0], httpcache.Implied, h)
		key = httpcache.AppendVariant(key, vary, h)
	}
}

func BenchmarkConsider(b *testing.B) {
	req := request("POST", "Cache-Control: max-age=60")
	resp := dated("Content-Type: application/json", "Content-Length: 900", "X-Request-Id: 1", "Openai-Organization: o", "Openai-Version: 1",
		"X-Ratelimit-Remaining-Tokens: 1", "Set-Cookie: __cf_bm=1", "Cf-Ray: 1", "Server: x", "Strict-Transport-Security: x")
	b.ReportAllocs()
	for b.Loop() {
		if v := httpcache.Consider(req, 200, resp, noon, noon, &project); !v.Store {
			b.Fatal(v.Reason)
		}
	}
}
