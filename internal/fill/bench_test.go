package fill_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/fill"
)

// pieces is a body of n pieces.
type pieces struct {
	n     int
	piece []byte
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.n == 0 {
		return 0, io.EOF
	}
	p.n--
	return copy(b, p.piece), nil
}

// BenchmarkCopy is what a fill is measured against: the loop that passes an
// answer on without one.
func BenchmarkCopy(b *testing.B) {
	for _, size := range []int{200, 16 << 10} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size))
			body := &pieces{b.N, bytes.Repeat([]byte("x"), size)}
			buf := make([]byte, 32<<10)
			var out sink
			for {
				n, err := body.Read(buf)
				if err != nil {
					break
				}
				out.Write(buf[:n])
			}
		})
	}
}

type sink struct{ n int }

//go:noinline
func (s *sink) Write(p []byte) { s.n += len(p) }

// BenchmarkChunk is the cost of a piece with 0, 1, and 200 followers. In step, the next
// one comes when all have read the last, as from a provider, which is slower than any
// reader; else as fast as it goes.
func BenchmarkChunk(b *testing.B) {
	for _, followers := range []int{0, 1, 200} {
		for _, size := range []int{200, 16 << 10} {
			for _, step := range []bool{false, true} {
				name := fmt.Sprintf("followers=%d/%dB/step=%v", followers, size, step)
				b.Run(name, func(b *testing.B) { benchmarkChunk(b, followers, size, step) })
			}
		}
	}
}

func benchmarkChunk(b *testing.B, followers, size int, step bool) {
	g := fill.New(fill.Options{MaxLag: 1 << 40})
	defer g.Close()
	piece := bytes.Repeat([]byte("x"), size)
	joined := make(chan struct{})
	var read sync.WaitGroup
	start := fill.Start{Run: func(_ context.Context, w *fill.Writer) {
		<-joined
		_ = w.Header(fill.Head{Storable: true, Length: 1 << 40}) // shared, not kept
		for range b.N {
			room, err := w.Buffer()
			if err != nil {
				b.Error(err)
				return
			}
			n := copy(room, piece)
			if step {
				read.Add(followers + 1)
			}
			if err := w.Commit(n); err != nil {
				b.Error(err)
			}
			if step {
				read.Wait()
			}
		}
		_ = w.Close()
	}}
	var done sync.WaitGroup
	for range followers + 1 {
		r, _ := g.Join(key, start)
		done.Go(func() {
			defer r.Close()
			var out sink
			ctx := b.Context()
			for {
				c, err := r.Next(ctx)
				if err != nil {
					break
				}
				out.Write(c.Data)
				if step {
					read.Done()
				}
			}
		})
	}
	b.ReportAllocs()
	b.SetBytes(int64(size))
	b.ResetTimer()
	close(joined)
	done.Wait()
}

// BenchmarkAnswer is the cost of a fill from its start to its end.
func BenchmarkAnswer(b *testing.B) {
	b.ReportAllocs()
	g := fill.New(fill.Options{})
	defer g.Close()
	once := answerOf(b, g, 1)
	for b.Loop() {
		once()
	}
}

// answerOf has one client read an answer of so many small pieces, all of it.
func answerOf(tb testing.TB, g *fill.Group, n int) func() {
	piece := bytes.Repeat([]byte("x"), 200)
	start := fill.Start{Run: func(_ context.Context, w *fill.Writer) {
		_ = w.Header(fill.Head{Status: 200, Storable: true, Length: int64(n * len(piece))})
		for range n {
			_, _ = w.Write(piece)
		}
		_ = w.Close()
	}}
	k := key
	return func() {
		k[0]++ // the last one may not have returned
		r, role := g.Join(k, start)
		defer r.Close()
		if _, err := r.Header(tb.Context()); err != nil || role != fill.Leader {
			tb.Fatal(role, err)
		}
		got := 0
		for {
			c, err := r.Next(tb.Context())
			if err == io.EOF {
				break
			} else if err != nil {
				tb.Fatal(err)
			}
			got += len(c.Data)
		}
		if got != n*len(piece) {
			tb.Fatalf("got %d bytes", got)
		}
	}
}
