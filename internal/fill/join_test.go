package fill_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/fill"
)

func TestManyJoinOneStart(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		var clients []*client
		for range 200 {
			clients = append(clients, attend(g, u.start()))
		}
		up := u.last()
		up.header(t, storable)
		up.write(t, "one ")
		up.write(t, "answer")
		up.close(t)
		for i, c := range clients {
			c.want(t, "one answer", nil)
			if role := c.r.Role(); (role == fill.Leader) != (i == 0) {
				t.Errorf("client %d has role %v", i, role)
			}
			if c.head.Header.Get("X-From") != "upstream" || c.head.Status != 200 {
				t.Errorf("client %d got %+v", i, c.head)
			}
		}
		if n := u.starts.Load(); n != 1 {
			t.Errorf("%d starts", n)
		}
	})
}

// TestConcurrentJoins has no bubble: 200 goroutines race for the lead.
func TestConcurrentJoins(t *testing.T) {
	t.Parallel()
	g := fill.New(fill.Options{})
	defer g.Close()
	joined, starts := make(chan struct{}), make(chan struct{}, 200)
	start := fill.Start{Run: func(_ context.Context, w *fill.Writer) {
		starts <- struct{}{}
		<-joined
		_ = w.Header(storable)
		for i := range 100 {
			_, _ = fmt.Fprintf(w, "%d,", i)
		}
		_ = w.Close()
	}}
	var want strings.Builder
	for i := range 100 {
		fmt.Fprintf(&want, "%d,", i)
	}
	clients := make(chan *client, 200)
	for range 200 {
		go func() { clients <- attend(g, start) }()
	}
	var all []*client
	for range 200 {
		all = append(all, <-clients)
	}
	close(joined)
	for _, c := range all {
		c.want(t, want.String(), nil)
	}
	if n := len(starts); n != 1 {
		t.Errorf("%d starts", n)
	}
}

func TestLateJoinersGetPrefixThenFollow(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		clients := []*client{attend(g, u.start())}
		up := u.last()
		up.header(t, storable)
		var want strings.Builder
		for i := range 20 {
			event := fmt.Sprintf("data: %d\n\n", i)
			want.WriteString(event)
			up.write(t, event)
			time.Sleep(time.Second) // of the bubble's clock: an event a second
			clients = append(clients, attend(g, u.start()))
			synctest.Wait()
			if got := string(clients[len(clients)-1].got); got != want.String() {
				t.Fatalf("late joiner %d got the prefix %q, want %q", i, got, want.String())
			}
		}
		up.write(t, "data: [DONE]\n\n")
		want.WriteString("data: [DONE]\n\n")
		synctest.Wait()
		if n := clients[0].chunks; n != 21 {
			t.Errorf("the leader got %d chunks of 21 that came one by one", n)
		}
		up.close(t)
		for _, c := range clients {
			c.want(t, want.String(), nil)
		}
		if n := u.starts.Load(); n != 1 {
			t.Errorf("%d starts", n)
		}
	})
}

func TestNobodyJoinsWhatHasEnded(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		first := attend(g, u.start())
		up := u.last()
		up.header(t, storable)
		up.write(t, "old")
		up.do(t, (*fill.Writer).Close) // its Run goes on, to store it
		second := attend(g, u.start())
		again := u.last()
		up.steps <- nil
		again.header(t, storable)
		again.write(t, "new")
		again.fail(t, errLost)
		third := attend(g, u.start())
		last := u.last()
		last.header(t, storable)
		last.close(t)
		first.want(t, "old", nil)
		second.want(t, "new", errLost)
		third.want(t, "", nil)
		if n := u.starts.Load(); n != 3 {
			t.Errorf("%d starts", n)
		}
	})
}

func TestKeysAreApart(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		first, role1 := g.Join(fill.Key{1}, u.start())
		second, role2 := g.Join(fill.Key{2}, u.start())
		if role1 != fill.Leader || role2 != fill.Leader {
			t.Errorf("roles %v and %v", role1, role2)
		}
		first.Close()
		second.Close()
	})
}

func TestClosedGroup(t *testing.T) {
	t.Parallel()
	g := fill.New(fill.Options{})
	g.Close()
	r, _ := g.Join(key, fill.Start{Run: func(context.Context, *fill.Writer) { t.Error("started") }})
	defer r.Close()
	if _, err := r.Header(t.Context()); !errors.Is(err, fill.ErrClosed) {
		t.Error(err)
	}
	if _, err := r.Next(t.Context()); !errors.Is(err, fill.ErrClosed) {
		t.Error(err)
	}
}

// TestWokenAndCancelled: a reader whose context ends in the moment in which more
// has come can go on with another one.
func TestWokenAndCancelled(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		r, _ := g.Join(key, u.start())
		defer r.Close()
		up := u.last()
		up.header(t, storable)
		got, left := 0, 0
		for range 100 {
			ctx, cancel := context.WithCancelCause(context.Background())
			up.begin(func(w *fill.Writer) error {
				synctest.Wait() // until the reader sleeps
				cancel(errLeft)
				_, err := w.Write([]byte("x"))
				return err
			})
			for {
				c, err := r.Next(ctx)
				if got += len(c.Data); errors.Is(err, errLeft) {
					left++
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if err := up.done(t); err != nil {
				t.Fatal(err)
			}
		}
		up.close(t)
		c, err := r.Next(t.Context())
		if got += len(c.Data); got != 100 || left != 100 {
			t.Errorf("got %d bytes, left %d times: %v", got, left, err)
		}
	})
}
