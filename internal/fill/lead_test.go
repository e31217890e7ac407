package fill_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/sofatutor/caddy-llm-proxy/internal/fill"
)

var errLeft = errors.New("the client has left")

func TestLeaderLeaves(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		options  fill.Options
		head     *fill.Head // nil: it leaves before the header
		followed bool
		expected bool
		goesOn   bool
	}{
		{name: "followed, before the header", followed: true, goesOn: true},
		{name: "followed", followed: true, head: &storable, goesOn: true},
		{name: "alone, before the header, expected to be stored", expected: true, goesOn: true},
		{name: "alone, before the header", goesOn: false},
		{name: "alone, to be stored", head: &storable, goesOn: true},
		{name: "alone, not to be stored", head: &private, expected: true, goesOn: false},
		{name: "alone, to be stored, but not unread", head: &storable, expected: true, options: fill.Options{CancelUnread: true}, goesOn: false},
		{name: "alone, too long to be stored", head: &fill.Head{Storable: true, Length: 5}, options: fill.Options{MaxObject: 4}, goesOn: false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rig(t, tt.options, func(t *testing.T, g *fill.Group, u *upstream) {
				s := u.start()
				s.Expected = tt.expected
				leader := attend(g, s)
				up := u.last()
				var follower *client
				if tt.followed {
					follower = attend(g, s)
				}
				if tt.head != nil {
					up.header(t, *tt.head)
				}
				leader.cancel(errLeft)
				leader.want(t, "", errLeft)
				synctest.Wait()
				if !tt.goesOn {
					if cause := context.Cause(up.ctx); !errors.Is(cause, fill.ErrAbandoned) {
						t.Fatalf("the context ended with %v", cause)
					}
					second := attend(g, s)
					if u.last() == up {
						t.Error("a request joined the cancelled fill")
					}
					second.cancel(errLeft)
					return
				}
				if tt.head == nil {
					up.header(t, storable)
				}
				late := attend(g, s)
				up.write(t, "whole")
				up.do(t, func(w *fill.Writer) error {
					if body, _, ok := w.Recorded(); string(body) != "whole" || !ok {
						t.Errorf("recorded %q, %v", body, ok)
					}
					return nil
				})
				up.close(t)
				late.want(t, "whole", nil)
				if follower != nil {
					follower.want(t, "whole", nil)
				}
				if n := u.starts.Load(); n != 1 {
					t.Errorf("%d starts", n)
				}
			})
		})
	}
}

func TestStorableAfterAllLeave(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{MaxObject: 8}, func(t *testing.T, g *fill.Group, u *upstream) {
		c := attend(g, u.start())
		up := u.last()
		c.cancel(errLeft)
		<-c.gone
		up.header(t, storable)
		up.write(t, "12345678")
		up.begin(func(w *fill.Writer) error { _, err := w.Write([]byte("9")); return err })
		synctest.Wait()
		if !errors.Is(context.Cause(up.ctx), fill.ErrAbandoned) {
			t.Error("what nobody reads was read beyond what can be stored")
		}
	})
}

func TestNotStorable(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		leader, one, two := attend(g, u.start()), attend(g, u.start()), attend(g, u.start())
		up := u.last()
		up.header(t, private)
		one.want(t, "", fill.ErrNotShared)
		two.want(t, "", fill.ErrNotShared)
		next := attend(g, u.start())
		if u.last() == up {
			t.Error("a request joined an answer that is another's alone")
		}
		up.write(t, "mine")
		up.do(t, func(w *fill.Writer) error {
			if _, _, ok := w.Recorded(); ok {
				t.Error("recorded what may not be stored")
			}
			return nil
		})
		up.close(t)
		leader.want(t, "mine", nil)
		next.cancel(errLeft)
	})
}

func TestNotStorableWithoutLeader(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		leader, follower := attend(g, u.start()), attend(g, u.start())
		up := u.last()
		leader.cancel(errLeft)
		<-leader.gone
		up.begin(func(w *fill.Writer) error { return w.Header(private) })
		follower.want(t, "", fill.ErrNotShared)
		if synctest.Wait(); !errors.Is(context.Cause(up.ctx), fill.ErrAbandoned) {
			t.Error("goes on though nobody may read it")
		}
	})
}

func TestDiscard(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		c := attend(g, u.start())
		up := u.last()
		up.header(t, storable)
		up.write(t, "event: error\n\n")
		up.do(t, func(w *fill.Writer) error { w.Discard(); return nil })
		next := attend(g, u.start())
		if u.last() == up {
			t.Error("a request joined what was discarded")
		}
		up.do(t, func(w *fill.Writer) error {
			if _, _, ok := w.Recorded(); ok {
				t.Error("recorded what was discarded")
			}
			return nil
		})
		up.write(t, "rest")
		up.close(t)
		c.want(t, "event: error\n\nrest", nil)
		next.cancel(errLeft)
	})
}

// TestSecondAttempt: without a byte one follower leads, once.
func TestSecondAttempt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		begin func(*testing.T, *run)
		fails bool
	}{
		{"before the header", func(*testing.T, *run) {}, false},
		{"behind the header", func(t *testing.T, up *run) { up.header(t, fill.Head{Status: 201, Storable: true}) }, false},
		{"with room for a first byte", func(t *testing.T, up *run) {
			up.header(t, storable)
			up.do(t, func(w *fill.Writer) error { _, err := w.Buffer(); return err })
		}, false},
		{"twice", func(*testing.T, *run) {}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
				leader := attend(g, u.start())
				first := u.last()
				var followers []*client
				for range 5 {
					followers = append(followers, attend(g, u.start()))
				}
				tt.begin(t, first)
				first.fail(t, errLost)
				leader.want(t, "", errLost)
				second := u.last()
				if second == first {
					t.Fatal("nobody asked again")
				}
				if leader.r.Role() != fill.Leader {
					t.Error("who has led says it has not")
				}
				late := attend(g, u.start()) // joins the second attempt
				followers = append(followers, late)
				if tt.fails {
					second.fail(t, errLost)
				} else {
					second.header(t, storable)
					second.write(t, "at last")
					second.close(t)
				}
				leaders := 0
				for _, c := range followers {
					if tt.fails {
						c.want(t, "", errLost)
					} else {
						c.want(t, "at last", nil)
						if c.head.Status != storable.Status {
							t.Errorf("the status of the failed attempt: %d", c.head.Status)
						}
					}
					if c.r.Role() == fill.Leader {
						leaders++
					}
				}
				if leaders != 1 {
					t.Errorf("%d new leaders", leaders)
				}
				if n := u.starts.Load(); n != 2 {
					t.Errorf("%d starts", n)
				}
			})
		})
	}
}

func TestFailureBehindTheFirstByte(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		leader, follower := attend(g, u.start()), attend(g, u.start())
		up := u.last()
		up.header(t, storable)
		up.write(t, "half")
		late, _ := g.Join(key, u.start())
		up.do(t, func(w *fill.Writer) error {
			w.Fail(errLost)
			if _, _, ok := w.Recorded(); ok {
				t.Error("recorded half an answer")
			}
			return nil
		})
		leader.want(t, "half", errLost)
		follower.want(t, "half", errLost)
		if h, err := late.Header(t.Context()); err != nil || h.Status != http.StatusOK {
			t.Error(h, err)
		}
		if c, err := late.Next(t.Context()); string(c.Data) != "half" || err != nil {
			t.Errorf("%q, %v", c.Data, err)
		}
		if _, err := late.Next(t.Context()); !errors.Is(err, errLost) {
			t.Errorf("a late joiner takes a truncated answer for complete: %v", err)
		}
		late.Close()
		if n := u.starts.Load(); n != 1 {
			t.Errorf("%d starts", n)
		}
	})
}

// TestStaleWriter: who has failed cannot meddle with the second attempt.
func TestStaleWriter(t *testing.T) {
	t.Parallel()
	rig(t, fill.Options{}, func(t *testing.T, g *fill.Group, u *upstream) {
		leader, follower := attend(g, u.start()), attend(g, u.start())
		first := u.last()
		first.do(t, func(w *fill.Writer) error { w.Fail(errLost); return nil })
		second := u.last()
		first.do(t, func(w *fill.Writer) error {
			w.Fail(errLeft)
			w.Discard()
			w.Trailer(http.Header{"X": {"stale"}})
			if _, _, ok := w.Recorded(); ok {
				t.Error("recorded another's answer")
			}
			if w.Header(private) == nil || w.Close() == nil || w.Commit(1) == nil {
				t.Error("a failed writer wrote")
			}
			if _, err := w.Buffer(); err == nil {
				t.Error("a failed writer got room")
			}
			return nil
		})
		second.header(t, storable)
		second.write(t, "fresh")
		first.steps <- nil // what it leaves behind is not the second's
		synctest.Wait()
		late := attend(g, u.start())
		second.close(t)
		leader.want(t, "", errLost)
		follower.want(t, "fresh", nil)
		late.want(t, "fresh", nil)
		if follower.r.Trailer() != nil {
			t.Error("a failed writer's trailer was passed on")
		}
	})
}
