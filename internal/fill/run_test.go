package fill_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/sofatutor/caddy-llm-proxy/internal/fill"
	"github.com/sofatutor/caddy-llm-proxy/internal/lease"
)

// TestRunEnds: whatever way a Run ends without saying how, nobody takes its
// answer for complete.
func TestRunEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(w *fill.Writer){
		"returns": func(*fill.Writer) {},
		"fails":   func(w *fill.Writer) { w.Fail(nil) },
		"panics":  func(*fill.Writer) { panic("a bug") },
		"aborts":  func(*fill.Writer) { panic(http.ErrAbortHandler) },
		"exits":   func(*fill.Writer) { runtime.Goexit() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			g := fill.New(fill.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			c := attend(g, fill.Start{Run: func(_ context.Context, w *fill.Writer) {
				_ = w.Header(storable)
				_, _ = io.WriteString(w, "half")
				end(w)
			}})
			c.want(t, "half", fill.ErrIncomplete)
			g.Close()
			if told := strings.Contains(log.String(), "a bug") && strings.Contains(log.String(), "run_test.go"); told != (name == "panics") {
				t.Errorf("logged %q", log.String())
			}
		})
	}
}

func TestGroupCloses(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		leader, follower := attend(g, u.start()), attend(g, u.start())
		u.last()
		unread, _ := g.Join(fill.Key{2}, u.start())
		up := u.last()
		up.header(t, storable)
		up.write(t, "kept for nobody")
		unread.Close()
		g.Close()
		leader.want(t, "", fill.ErrClosed)
		follower.want(t, "", fill.ErrClosed)
		if !errors.Is(context.Cause(up.ctx), fill.ErrClosed) {
			t.Error(context.Cause(up.ctx))
		}
		if n := u.starts.Load(); n != 2 {
			t.Errorf("%d starts: a closing group has asked again", n)
		}
	})
}

type valueKey struct{}

func TestValues(t *testing.T) {
	t.Parallel()
	g := fill.New(fill.Options{})
	defer g.Close()
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), valueKey{}, "trace"))
	cancel() // the client has left
	got, end := make(chan any, 1), make(chan error, 1)
	r, _ := g.Join(key, fill.Start{Values: ctx, Run: func(ctx context.Context, w *fill.Writer) {
		got <- ctx.Value(valueKey{})
		<-ctx.Done()
		end <- context.Cause(ctx)
	}})
	if v := <-got; v != "trace" {
		t.Errorf("the value is %v", v)
	}
	r.Close()
	if err := <-end; !errors.Is(err, fill.ErrAbandoned) {
		t.Errorf("the context ended with %v", err)
	}
}

// TestLease: a Run keeps what it uses open, though the requests have gone, and the
// release may be what closes the group.
func TestLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := fill.New(fill.Options{})
		u := &upstream{}
		closed := make(chan struct{})
		l := lease.New(func() { g.Close(); close(closed) })
		s := u.start()
		s.Lease = l

		l.Acquire()
		leader, follower := attend(g, s), attend(g, s)
		first := u.last()
		if n := l.Users(); n != 2 {
			t.Errorf("%d users: a request and a fill", n)
		}
		first.do(t, func(w *fill.Writer) error { w.Fail(errLost); return nil })
		second := u.last()
		if n := l.Users(); n != 3 {
			t.Errorf("%d users: a request and two fills", n)
		}
		first.steps <- nil
		l.Doom()
		l.Release()
		second.header(t, storable)
		second.write(t, "the last answer")
		second.close(t)
		leader.want(t, "", errLost)
		follower.want(t, "the last answer", nil)
		<-closed
	})
}

func TestLeaseIsGone(t *testing.T) {
	t.Parallel()
	g := fill.New(fill.Options{})
	defer g.Close()
	l := lease.New(func() {})
	l.Doom()
	c := attend(g, fill.Start{Lease: l, Run: func(context.Context, *fill.Writer) { t.Error("started without what it needs") }})
	c.want(t, "", fill.ErrClosed)
}

func TestReadFrom(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("0123456789", 20_000)
	for name, tt := range map[string]struct {
		body   io.Reader
		length int64
		err    error
	}{
		"as it comes":    {body: strings.NewReader(body)},
		"of a length":    {body: strings.NewReader(body), length: int64(len(body))},
		"byte by byte":   {body: iotest.OneByteReader(strings.NewReader(body))},
		"with its end":   {body: iotest.DataErrReader(strings.NewReader(body))},
		"that breaks":    {body: io.MultiReader(strings.NewReader(body), iotest.ErrReader(errLost)), err: errLost},
		"longer than it": {body: strings.NewReader(body), length: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := fill.New(fill.Options{})
			defer g.Close()
			c := attend(g, fill.Start{Run: func(_ context.Context, w *fill.Writer) {
				_ = w.Header(fill.Head{Storable: true, Length: tt.length})
				n, err := w.ReadFrom(tt.body)
				if n != int64(len(body)) || !errors.Is(err, tt.err) {
					t.Errorf("read %d, %v", n, err)
				}
				w.Trailer(http.Header{"X-Sum": {"1"}})
				if err != nil {
					w.Fail(err)
				} else if err := w.Close(); err != nil {
					t.Error(err)
				}
				if w.Close() == nil || w.Header(storable) == nil {
					t.Error("ended twice")
				}
			}})
			c.want(t, body, tt.err)
			if c.r.Trailer().Get("X-Sum") != "1" {
				t.Error("no trailer")
			}
		})
	}
}

func TestMisuse(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		c := attend(g, u.start())
		up := u.last()
		up.do(t, func(w *fill.Writer) error {
			if _, err := w.Write([]byte("x")); err == nil {
				t.Error("wrote before the header")
			}
			if w.Close() == nil || w.Commit(0) == nil {
				t.Error("ended before the header")
			}
			return nil
		})
		up.header(t, storable)
		up.do(t, func(w *fill.Writer) error {
			if w.Header(storable) == nil {
				t.Error("two headers")
			}
			if n := w.Readers(); n != 1 {
				t.Errorf("%d readers", n)
			}
			return w.Commit(0)
		})
		up.close(t)
		c.want(t, "", nil)
		c.r.Close()
		if _, err := c.r.Next(t.Context()); err == nil || err == io.EOF {
			t.Errorf("a closed reader got %v", err)
		}
	})
}
