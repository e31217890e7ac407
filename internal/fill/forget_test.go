package fill_test

import (
	"context"
	"errors"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/fill"
)

func TestForget(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		s := u.start()
		s.About, s.Epoch = "project a", 7
		before := attend(g, s)
		follower := attend(g, s)
		old := u.last()
		old.header(t, storable)
		old.write(t, "old ")

		other := func(_ fill.Key, about any) bool { return about != "project a" }
		if n := g.Forget(other); n != 0 {
			t.Errorf("forgot %d of another project", n)
		}
		if joins := attend(g, s); u.last() != old {
			t.Error("a purge of something else has separated requests")
		} else {
			joins.cancel(errLeft)
		}

		if n := g.Forget(func(k fill.Key, about any) bool { return k == key && about == "project a" }); n != 1 {
			t.Errorf("forgot %d fills", n)
		}
		after := attend(g, s)
		fresh := u.last()
		if fresh == old {
			t.Fatal("a request joined an answer from before the purge")
		}
		old.write(t, "answer")
		old.do(t, func(w *fill.Writer) error {
			if w.Epoch() != 7 {
				t.Errorf("epoch %d", w.Epoch())
			}
			if _, _, ok := w.Recorded(); ok {
				t.Error("recorded an answer from before the purge")
			}
			return nil
		})
		old.close(t)
		before.want(t, "old answer", nil)
		follower.want(t, "old answer", nil)

		if attend(g, s); u.last() != fresh {
			t.Error("the end of the old fill has taken the new one out of the map")
		}
		fresh.header(t, storable)
		fresh.close(t)
		after.want(t, "", nil)
		if n := g.Forget(nil); n != 0 {
			t.Errorf("forgot %d fills that have ended", n)
		}
	})
}

// TestForgetUnread: what was only awaited to be stored is not awaited any more.
func TestForgetUnread(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		c := attend(g, u.start())
		up := u.last()
		up.header(t, storable)
		c.cancel(errLeft)
		<-c.gone
		if up.rest(); up.ctx.Err() != nil {
			t.Fatal("cancelled though it will be stored")
		}
		if n := g.Forget(nil); n != 1 {
			t.Errorf("forgot %d fills", n)
		}
		if !errors.Is(context.Cause(up.ctx), fill.ErrAbandoned) {
			t.Error("goes on for nobody")
		}
	})
}

// TestForgottenFails: a purge does not cost the followers their second attempt, and nobody
// joins that either.
func TestForgottenFails(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		leader, follower := attend(g, u.start()), attend(g, u.start())
		first := u.last()
		g.Forget(nil)
		first.fail(t, errLost)
		second := u.last()
		next := attend(g, u.start())
		if u.last() == second {
			t.Error("a request joined what was forgotten")
		}
		second.header(t, storable)
		second.write(t, "late")
		second.close(t)
		leader.want(t, "", errLost)
		follower.want(t, "late", nil)
		next.cancel(errLeft)
	})
}
