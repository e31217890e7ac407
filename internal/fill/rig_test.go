package fill_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/sofatutor/caddy-llm-proxy/internal/fill"
)

var (
	key      = fill.Key{1}
	storable = fill.Head{Status: http.StatusOK, Header: http.Header{"X-From": {"upstream"}}, Storable: true}
	private  = fill.Head{Status: http.StatusOK, Header: http.Header{"Cache-Control": {"private"}}}
	errLost  = errors.New("connection reset by peer")
)

// upstream is a provider whose answers the test writes: each Run takes its steps
// from the test's goroutine.
type upstream struct {
	starts atomic.Int64
	mu     sync.Mutex
	runs   []*run // in the order of their starts
}

type run struct {
	ctx   context.Context
	w     *fill.Writer
	steps chan func(*fill.Writer) error
	errs  chan error
	busy  bool // with a step whose result has not been taken
}

// start is one that waits for steps until its context ends, or end was called.
func (u *upstream) start() fill.Start {
	return fill.Start{Expected: true, Run: func(ctx context.Context, w *fill.Writer) {
		r := &run{ctx: ctx, w: w, steps: make(chan func(*fill.Writer) error), errs: make(chan error, 1)}
		u.starts.Add(1)
		u.mu.Lock()
		u.runs = append(u.runs, r)
		u.mu.Unlock()
		for {
			select {
			case step := <-r.steps:
				if step == nil {
					return
				}
				r.errs <- step(w)
			case <-ctx.Done():
				w.Fail(context.Cause(ctx))
				return
			}
		}
	}}
}

func (u *upstream) last() *run {
	synctest.Wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.runs[len(u.runs)-1]
}

// begin has the run do a step, which may have to wait; done tells the result.
func (r *run) begin(step func(*fill.Writer) error) {
	r.busy = true
	r.steps <- step
}

func (r *run) done(t *testing.T) error {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-r.errs:
		r.busy = false
		return err
	default:
		t.Fatal("the writer waits")
		return nil
	}
}

// waits tells that the step under way has not come to its end.
func (r *run) waits() bool {
	synctest.Wait()
	return len(r.errs) == 0
}

func (r *run) do(t *testing.T, step func(*fill.Writer) error) {
	t.Helper()
	r.begin(step)
	if err := r.done(t); err != nil {
		t.Fatal(err)
	}
}

func (r *run) header(t *testing.T, h fill.Head) {
	t.Helper()
	r.do(t, func(w *fill.Writer) error { return w.Header(h) })
}

func (r *run) write(t *testing.T, p string) {
	t.Helper()
	r.do(t, func(w *fill.Writer) error { _, err := io.WriteString(w, p); return err })
}

func (r *run) close(t *testing.T) {
	t.Helper()
	r.do(t, (*fill.Writer).Close)
	r.steps <- nil
	synctest.Wait()
}

func (r *run) fail(t *testing.T, err error) {
	t.Helper()
	r.do(t, func(w *fill.Writer) error { w.Fail(err); return nil })
	r.steps <- nil
	synctest.Wait()
}

// client reads an answer to its end on a goroutine of its own.
type client struct {
	r      *fill.Reader
	cancel context.CancelCauseFunc
	head   fill.Head
	got    []byte
	chunks int
	err    error // nil: the proper end
	gone   chan struct{}
}

func attend(g *fill.Group, s fill.Start) *client {
	c := &client{gone: make(chan struct{})}
	ctx, cancel := context.WithCancelCause(context.Background())
	c.cancel = cancel
	c.r, _ = g.Join(key, s)
	go func() {
		defer close(c.gone)
		defer c.r.Close()
		defer cancel(nil)
		c.err = c.read(ctx)
	}()
	return c
}

func (c *client) read(ctx context.Context) (err error) {
	if c.head, err = c.r.Header(ctx); err != nil {
		return err
	}
	for {
		chunk, err := c.r.Next(ctx)
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		c.chunks++
		c.got = append(c.got, chunk.Data...)
	}
}

func (c *client) want(t *testing.T, body string, err error) {
	t.Helper()
	<-c.gone
	if string(c.got) != body || !errors.Is(c.err, err) {
		t.Errorf("got %d bytes %.40q and %v, want %d bytes %.40q and %v", len(c.got), c.got, c.err, len(body), body, err)
	}
}

// rig is a group and an upstream inside of a bubble.
func rig(t *testing.T, o fill.Options, test func(*testing.T, *fill.Group, *upstream)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := fill.New(o)
		u := &upstream{}
		defer func() {
			g.Close()
			if n := fill.Listed(g); n != 0 {
				t.Errorf("%d fills left in the map", n)
			}
		}()
		test(t, g, u)
	})
}

// rest returns when nothing moves.
func (r *run) rest() { synctest.Wait() }
