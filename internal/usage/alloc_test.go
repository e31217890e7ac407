//go:build !race

package usage_test

import (
	"io"
	"testing"
	"unsafe"

	"github.com/sofatutor/caddy-llm-proxy/internal/usage"
)

func TestReaderAllocations(t *testing.T) {
	for _, g := range goldens {
		data, ct := load(t, g.file), contentType(g.file)
		r := new(usage.Reader)
		// What is left are the texts: the id, the models and tiers that the answer names.
		if n := testing.AllocsPerRun(100, func() {
			r.Reset(g.kind, ct)
			_, _ = r.Write(data)
			_ = r.Counts()
		}); n > 4 {
			t.Errorf("%s: %v allocations for an answer, want at most 4", g.file, n)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = r.Write(data) }); n > 2 {
			t.Errorf("%s: %v allocations once its texts are known, want at most 2", g.file, n)
		}
	}
}

func TestStreamAllocations(t *testing.T) {
	chunk := []byte(contentFrame + "\n\n")
	r := readPieces(usage.KindChat, "text/event-stream", chunk)
	var f usage.Filter
	f.Reset(io.Discard)
	_, _ = f.Write(chunk)
	for cut := 1; cut < len(chunk); cut += 10 {
		if n := testing.AllocsPerRun(100, func() {
			for _, p := range [...][]byte{chunk[:cut], chunk[cut:]} {
				_, _ = r.Write(p)
				_, _ = f.Write(p)
			}
		}); n > 0 {
			t.Errorf("cut at %d: %v allocations for a chunk of a stream, want 0", cut, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		c := r.Counts()
		_, _ = c.InputTokens()
		_, _ = c.OutputTokens()
	}); n > 0 {
		t.Errorf("%v allocations for the counts, want 0", n)
	}
}

func TestIncludeAllocations(t *testing.T) {
	body := []byte(`{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}`)
	if n := testing.AllocsPerRun(100, func() { usage.IncludeUsage(body) }); n > 1 {
		t.Errorf("%v allocations, want the new body alone", n)
	}
}

// TestSize: every request has a reader.
func TestSize(t *testing.T) {
	if n := unsafe.Sizeof(usage.Reader{}); n > 2<<10 {
		t.Errorf("a reader takes %d bytes, want at most 2048", n)
	}
	if n := unsafe.Sizeof(usage.Filter{}); n > 1<<10 {
		t.Errorf("a filter takes %d bytes, want at most 1024", n)
	}
}
