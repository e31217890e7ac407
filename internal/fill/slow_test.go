package fill_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sofatutor/caddy-llm-proxy/internal/fill"
)

// flood writes n bytes in one step, which may have to wait.
func (r *run) flood(n int) {
	r.begin(func(w *fill.Writer) error { _, err := w.Write(bytes.Repeat([]byte("x"), n)); return err })
}

// pour writes n bytes, and lets whoever reads catch up before they can lag.
func (r *run) pour(t *testing.T, n int) {
	t.Helper()
	for ; n > 0; n -= 256 << 10 {
		r.flood(min(n, 256<<10))
		if err := r.done(t); err != nil {
			t.Fatal(err)
		}
	}
}

// drain reads what is there of a stream that goes on.
func drain(t *testing.T, r *fill.Reader, n int) {
	t.Helper()
	for n > 0 {
		c, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n -= len(c.Data)
	}
}

func TestOneReaderIsWaitedFor(t *testing.T) {
	t.Parallel()
	const window = 64 << 10
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		r, _ := g.Join(key, u.start())
		defer r.Close()
		up := u.last()
		up.header(t, storable)
		up.flood(3 << 20)
		got := 0
		for got < 3<<20 {
			if got+window+(96<<10) < 3<<20 && !up.waits() {
				t.Fatalf("the writer did not wait for a reader that has %d bytes", got)
			}
			c, err := r.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got += len(c.Data)
		}
		if err := up.done(t); err != nil {
			t.Fatal(err)
		}
		up.close(t)
		if _, err := r.Next(t.Context()); err != io.EOF {
			t.Error(err)
		}
	})
}

// TestOneReaderBoundsMemory: an answer that is not kept takes no more than the
// window, however long it is.
func TestOneReaderBoundsMemory(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		r, _ := g.Join(key, u.start())
		defer r.Close()
		up := u.last()
		up.header(t, private)
		up.flood(8 << 20)
		for got := 0; got < 8<<20; {
			c, err := r.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got += len(c.Data)
			synctest.Wait()
			if n := fill.Retained(up.w); n > 192<<10 {
				t.Fatalf("%d bytes are kept of what is not stored", n)
			}
		}
		up.done(t)
	})
}

func TestWaitingWriterIsCancelled(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		r, _ := g.Join(key, u.start())
		up := u.last()
		up.header(t, private)
		up.flood(1 << 20)
		if !up.waits() {
			t.Fatal("the writer does not wait")
		}
		r.Close()
		if err := up.done(t); !errors.Is(err, fill.ErrAbandoned) {
			t.Error(err)
		}
	})
}

func TestSlowFollowerSlowsNobody(t *testing.T) {
	t.Parallel()
	const size = 3 << 20
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		leader := attend(g, u.start())
		up := u.last()
		slow, _ := g.Join(key, u.start())
		defer slow.Close()
		brisk := attend(g, u.start())
		up.header(t, storable)
		up.write(t, "first")
		if c, err := slow.Next(t.Context()); string(c.Data) != "first" || err != nil {
			t.Fatal(c, err)
		}
		up.pour(t, 1<<20-5)
		if c, err := slow.Next(t.Context()); len(c.Data) == 0 || !c.More || err != nil {
			t.Fatalf("cut off within its limit: %v", err)
		}
		up.pour(t, size-1<<20)
		up.close(t)
		if _, err := slow.Next(t.Context()); !errors.Is(err, fill.ErrTooSlow) {
			t.Errorf("a reader that is 2 MiB behind gets %v", err)
		}
		if _, err := slow.Next(t.Context()); !errors.Is(err, fill.ErrTooSlow) {
			t.Errorf("and then %v", err)
		}
		body := "first" + strings.Repeat("x", size-5)
		leader.want(t, body, nil)
		brisk.want(t, body, nil)
	})
}

// TestSlowLeader: the fastest sets the pace, whoever it is.
func TestSlowLeader(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		leader, _ := g.Join(key, u.start())
		defer leader.Close()
		up := u.last()
		up.header(t, storable)
		up.flood(2 << 20)
		if !up.waits() {
			t.Fatal("the writer does not wait for the one reader there is")
		}
		follower := attend(g, u.start())
		if err := up.done(t); err != nil {
			t.Fatal(err)
		}
		up.close(t)
		follower.want(t, strings.Repeat("x", 2<<20), nil)
		if _, err := leader.Next(t.Context()); !errors.Is(err, fill.ErrTooSlow) {
			t.Error(err)
		}
	})
}

// TestAllSlow: readers that are slow alike are not cut off, for then nobody would be left.
func TestAllSlow(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		one, _ := g.Join(key, u.start())
		defer one.Close()
		two, _ := g.Join(key, u.start())
		defer two.Close()
		up := u.last()
		up.header(t, storable)
		up.flood(2 << 20)
		for got1, got2 := 0, 0; got1 < 2<<20 || got2 < 2<<20; {
			synctest.Wait()
			for _, r := range []struct {
				*fill.Reader
				got *int
			}{{one, &got1}, {two, &got2}} {
				if *r.got == 2<<20 {
					continue
				}
				c, err := r.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				*r.got += len(c.Data)
			}
		}
		if err := up.done(t); err != nil {
			t.Fatal(err)
		}
	})
}

// TestPrefixIsNoLag: who comes late is not behind by what was there before.
func TestPrefixIsNoLag(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		leader := attend(g, u.start())
		up := u.last()
		up.header(t, storable)
		up.pour(t, 3<<20)
		late, _ := g.Join(key, u.start())
		defer late.Close()
		up.pour(t, 1<<20)
		drain(t, late, 4<<20)
		late2, _ := g.Join(key, u.start())
		defer late2.Close()
		up.close(t)
		drain(t, late2, 4<<20)
		leader.want(t, strings.Repeat("x", 4<<20), nil)
	})
}

// TestLastReaderIsWaitedForAgain: when the fast one leaves, the slow one is alone.
func TestLastReaderIsWaitedForAgain(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		fast := attend(g, u.start())
		slow, _ := g.Join(key, u.start())
		defer slow.Close()
		up := u.last()
		up.header(t, storable)
		up.pour(t, 1<<20)
		fast.cancel(errLeft)
		<-fast.gone
		up.flood(1 << 20)
		if !up.waits() {
			t.Fatal("the writer does not wait for the reader that is left")
		}
		if n := fill.Total(up.w); n > 1<<20 {
			t.Errorf("the writer got on to %d bytes before it waited", n)
		}
		drain(t, slow, 2<<20)
		if err := up.done(t); err != nil {
			t.Fatal(err)
		}
	})
}

// TestTooLong: beyond MaxObject nobody joins, nothing is stored, and what all have read goes.
func TestTooLong(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		leader, follower := attend(g, u.start()), attend(g, u.start())
		up := u.last()
		up.header(t, storable)
		up.pour(t, 4<<20)
		if n := fill.Retained(up.w); n < 4<<20 {
			t.Errorf("%d bytes are kept of what may be stored", n)
		}
		up.pour(t, size-4<<20)
		if n := fill.Retained(up.w); n > 96<<10 {
			t.Errorf("%d bytes are kept of what all have read", n)
		}
		up.do(t, func(w *fill.Writer) error {
			if _, _, ok := w.Recorded(); ok {
				t.Error("recorded what is too long")
			}
			return nil
		})
		next := attend(g, u.start())
		if u.last() == up {
			t.Error("a request joined an answer whose beginning is gone")
		}
		next.cancel(errLeft)
		up.close(t)
		body := strings.Repeat("x", size)
		leader.want(t, body, nil)
		follower.want(t, body, nil)
	})
}

// TestAnnouncedTooLong: a length that will not fit is known from the header.
func TestAnnouncedTooLong(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{MaxObject: 4}, func(t *testing.T, g *fill.Group, u *upstream) {
		leader, follower := attend(g, u.start()), attend(g, u.start())
		up := u.last()
		up.header(t, fill.Head{Status: 200, Storable: true, Length: 5})
		next := attend(g, u.start())
		if u.last() == up {
			t.Error("joined what will not be kept")
		}
		next.cancel(errLeft)
		up.write(t, "12345")
		up.close(t)
		leader.want(t, "12345", nil)
		follower.want(t, "12345", nil)
	})
}

// TestFirstIsNeverCutOff: limits that contradict each other leave somebody to read.
func TestFirstIsNeverCutOff(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{MaxLag: 1}, func(t *testing.T, g *fill.Group, u *upstream) {
		one, _ := g.Join(key, u.start())
		defer one.Close()
		two, _ := g.Join(key, u.start())
		defer two.Close()
		up := u.last()
		up.header(t, storable)
		up.pour(t, 1<<10)
		drain(t, one, 1<<10)
		drain(t, two, 1<<10)
	})
}
