package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofrs/uuid/v5"
	"go.uber.org/goleak"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
)

func TestMain(m *testing.M) {
	if cursor := os.Getenv(childCursor); cursor != "" {
		if err := child(cursor, os.Getenv(childReceiver)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// without returns the ids but those at some places.
func without(ids []uuid.UUID, places ...int) (left, taken []uuid.UUID) {
	for i, id := range ids {
		if slices.Contains(places, i) {
			taken = append(taken, id)
		} else {
			left = append(left, id)
		}
	}
	return left, taken
}

// start runs an engine over the store with sinks that begin at the beginning.
func start(t *testing.T, m *memory, specs ...delivery.Spec) *delivery.Engine {
	t.Helper()
	e := delivery.New(delivery.Config{Store: m})
	t.Cleanup(e.Close)
	attach(t, e, specs...)
	return e
}

func attach(t *testing.T, e *delivery.Engine, specs ...delivery.Spec) (detach func()) {
	t.Helper()
	for i := range specs {
		specs[i].FromBeginning = true
	}
	detach, err := e.Attach(specs)
	if err != nil {
		t.Fatal(err)
	}
	return detach
}

func status(t *testing.T, e *delivery.Engine, name string) delivery.Status {
	t.Helper()
	all, err := e.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(s delivery.Status) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("no %s in %+v", name, all)
	}
	return all[i]
}

func same(t *testing.T, what string, got, want []uuid.UUID) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %d events, want %d, in order: %v, want %v", what, len(got), len(want), got, want)
	}
}

// await lets time pass until a condition holds; on the fake clock that costs none.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for range 50_000 {
		synctest.Wait()
		if condition() {
			return
		}
		time.Sleep(400 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

// TestOrder: everything arrives in the order of the log, in batches, what is there
// first and then what comes.
func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, r := newMemory(250), new(recorder)
		e := start(t, m, delivery.Spec{Name: "a", Sink: r})
		await(t, "all delivered", func() bool { return len(r.ids()) == 250 })
		same(t, "before", r.ids(), m.ids())
		if want := []int{100, 100, 50}; !slices.Equal(r.sizes, want) {
			t.Errorf("batches of %v, want %v", r.sizes, want)
		}
		await(t, "idle", func() bool { return status(t, e, "a").State == delivery.Idle })
		m.add(3)
		e.Wake()
		m.add(4) // within the time a batch has to fill up
		time.Sleep(delivery.DefaultLinger)
		synctest.Wait()
		same(t, "woken", r.ids(), m.ids())
		if n := r.sizes[len(r.sizes)-1]; n != 7 {
			t.Errorf("a batch of %d, want 7", n)
		}
		m.add(1) // by another node: nobody says so
		await(t, "polled", func() bool { return len(r.ids()) == 258 })
		s := status(t, e, "a")
		if s.Delivered != 258 || s.Pending != 0 || s.Lag != 0 || s.Failed != 0 || s.LastDelivered.IsZero() {
			t.Errorf("status %+v", s)
		}
	})
}

// TestNewSink: by default a sink that is new gets what is still to come.
func TestNewSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, r := newMemory(10), new(recorder)
		e := delivery.New(delivery.Config{Store: m})
		defer e.Close()
		if _, err := e.Attach([]delivery.Spec{{Name: "a", Sink: r}}); err != nil {
			t.Fatal(err)
		}
		await(t, "idle", func() bool { return status(t, e, "a").State == delivery.Idle })
		m.add(2)
		await(t, "delivered", func() bool { return len(r.ids()) == 2 })
		same(t, "new", r.ids(), m.ids()[10:])
	})
}

// TestRetry: pauses grow up to a limit, at random below it; order is kept, and
// another sink does not wait.
func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, other := newMemory(20), new(recorder)
		r := &recorder{answer: func(_ context.Context, call int, _ []delivery.Event) error {
			if call <= 11 {
				return errors.New("away")
			}
			return nil
		}}
		e := start(t, m, delivery.Spec{Name: "a", Sink: r}, delivery.Spec{Name: "b", Sink: other})
		await(t, "b delivered", func() bool { return len(other.ids()) == 20 })
		if s := status(t, e, "a"); s.State != delivery.Retrying || s.LastError != "away" || s.Pending != 20 || s.NextAttempt.IsZero() {
			t.Errorf("status %+v", s)
		}
		await(t, "a delivered", func() bool { return len(r.ids()) == 20 })
		same(t, "a", r.ids(), m.ids())
		for i := 1; i < len(r.calls); i++ {
			limit := min(500*time.Millisecond<<(i-1), 5*time.Minute)
			if gap := r.calls[i].Sub(r.calls[i-1]); gap <= 0 || gap > limit {
				t.Errorf("pause %d is %s, want at most %s", i, gap, limit)
			}
		}
		if s := status(t, e, "a"); s.Failed != 11 || s.LastError != "" || s.Dead != 0 {
			t.Errorf("status %+v", s)
		}
	})
}

// TestRetryAfter: what a receiver asks for is a minimum, within reason.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(1)
		asked := []time.Duration{90 * time.Second, 100 * 365 * 24 * time.Hour}
		r := &recorder{answer: func(_ context.Context, call int, _ []delivery.Event) error {
			if call <= len(asked) {
				return delivery.RetryAfter(asked[call-1], errors.New("slow down"))
			}
			return nil
		}}
		start(t, m, delivery.Spec{Name: "a", Sink: r})
		await(t, "delivered", func() bool { return len(r.ids()) == 1 })
		if gap := r.calls[1].Sub(r.calls[0]); gap < asked[0] || gap > asked[0]+time.Second {
			t.Errorf("pause %s, asked for %s", gap, asked[0])
		}
		if gap := r.calls[2].Sub(r.calls[1]); gap != time.Hour {
			t.Errorf("pause %s, want an hour", gap)
		}
	})
}

// TestPoison: only what is refused is dead, however it is refused, and everything
// else arrives in order.
func TestPoison(t *testing.T) {
	for name, how := range map[string]func(error) error{
		"permanent": delivery.Permanent,
		"panic":     func(err error) error { panic(err) },
		"failing":   func(err error) error { return err },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory(150)
				r := &recorder{}
				r.answer = func(ctx context.Context, call int, events []delivery.Event) error {
					r.mu.Lock()
					r.running = false // it may panic
					r.mu.Unlock()
					return poison(m, how, 0, 17, 18, 149)(ctx, call, events)
				}
				e := start(t, m, delivery.Spec{Name: "a", Sink: r})
				began := time.Now()
				await(t, "the end", func() bool { s := status(t, e, "a"); return s.Pending == 0 && s.State == delivery.Idle })
				left, dead := without(m.ids(), 0, 17, 18, 149)
				same(t, "delivered", r.ids(), left)
				same(t, "dead", m.deadIDs(t, "a"), dead)
				if s := status(t, e, "a"); s.Delivered != 146 || s.Dead != 4 || s.Discarded != 4 {
					t.Errorf("status %+v", s)
				}
				if took := time.Since(began); name == "failing" && took < 2*time.Hour || name != "failing" && took > 5*time.Second {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

func TestReject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(5)
		r := &recorder{answer: func(context.Context, int, []delivery.Event) error {
			return delivery.Reject(map[int]error{1: errors.New("bad"), 4: errors.New("worse"), 9: errors.New("not there")})
		}}
		e := start(t, m, delivery.Spec{Name: "a", Sink: r})
		await(t, "the end", func() bool { return status(t, e, "a").Pending == 0 })
		left, dead := without(m.ids(), 1, 4)
		same(t, "delivered", r.ids(), left)
		same(t, "dead", m.deadIDs(t, "a"), dead)
		if s := status(t, e, "a"); s.Delivered != 3 || s.Dead != 2 {
			t.Errorf("status %+v", s)
		}
		if delivery.Reject(nil) != nil || delivery.Permanent(nil) != nil || delivery.RetryAfter(1, nil) != nil {
			t.Error("an error of nothing")
		}
	})
}

// TestGivingUp: a receiver that is down for good holds up a batch for an hour, is not
// called for each of its events then, and is tried again with the next batch.
func TestGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(110)
		var down atomic.Bool
		down.Store(true)
		r := &recorder{answer: func(context.Context, int, []delivery.Event) error {
			if down.Load() {
				return errors.New("down")
			}
			return nil
		}}
		e := start(t, m, delivery.Spec{Name: "a", Sink: r})
		began := time.Now()
		await(t, "the first batch dead", func() bool { return status(t, e, "a").Dead == 100 })
		if took := time.Since(began); took < time.Hour || took > time.Hour+6*time.Minute {
			t.Errorf("given up after %s", took)
		}
		if n := len(slices.DeleteFunc(slices.Clone(r.sizes), func(n int) bool { return n != 1 })); n != 5 {
			t.Errorf("%d events were tried alone, want 5", n)
		}
		if n := len(r.sizes) - 5; n < 12 {
			t.Errorf("%d attempts, want 12 and more", n)
		}
		down.Store(false)
		await(t, "the second batch", func() bool { return len(r.ids()) == 10 })
		same(t, "second", r.ids(), m.ids()[100:])

		// The dead letters go out when somebody wants it, before what is new.
		refuse := m.ids()[3]
		r.answer = func(_ context.Context, _ int, events []delivery.Event) error {
			for i, x := range events {
				if x.ID == refuse {
					return delivery.Reject(map[int]error{i: errors.New("never")})
				}
			}
			return nil
		}
		if n, err := e.Requeue(t.Context(), "a"); err != nil || n != 100 {
			t.Errorf("%d requeued, error %v", n, err)
		}
		await(t, "requeued", func() bool { return len(r.ids()) == 109 })
		left, dead := without(m.ids()[:100], 3)
		same(t, "requeued", r.ids()[10:], left)
		await(t, "settled", func() bool { return status(t, e, "a").Dead == 1 })
		same(t, "still dead", m.deadIDs(t, "a"), dead)
		if d := m.dead[0]; d.Reason != "never" || m.requeued[d.ID] {
			t.Errorf("letter %+v", d)
		}
	})
}

// TestHang: an attempt ends when its time is over, also if the sink does not know,
// and is not repeated before the sink has returned.
func TestHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, release := newMemory(1), make(chan struct{})
		r := &recorder{answer: func(ctx context.Context, call int, _ []delivery.Event) error {
			switch call {
			case 1:
				<-ctx.Done()
				return ctx.Err()
			case 2:
				<-release
			}
			return nil
		}}
		other := new(recorder)
		e := start(t, m, delivery.Spec{Name: "a", Sink: r, Timeout: 10 * time.Second}, delivery.Spec{Name: "b", Sink: other})
		await(t, "the second attempt", func() bool { return status(t, e, "a").State == delivery.Stuck })
		if s := status(t, e, "a"); s.Failed != 2 || !strings.Contains(s.LastError, "no answer in time") {
			t.Errorf("status %+v", s)
		}
		same(t, "the other one", other.ids(), m.ids())
		time.Sleep(time.Hour)
		if len(r.calls) != 2 {
			t.Errorf("%d calls", len(r.calls))
		}
		close(release)
		await(t, "delivered", func() bool { return len(r.ids()) == 1 && status(t, e, "a").Pending == 0 })
	})
}

// TestStop: stopping lets a delivery finish, for a while, and waits for nobody who
// does not end.
func TestStop(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(ctx context.Context, call int, events []delivery.Event) error
		within time.Duration
		left   int64
	}{
		{"quick", func(context.Context, int, []delivery.Event) error { time.Sleep(time.Second); return nil }, time.Second, 0},
		{"slow", func(ctx context.Context, _ int, _ []delivery.Event) error { <-ctx.Done(); return ctx.Err() }, 3 * time.Second, 1},
		{"deaf", func(ctx context.Context, _ int, _ []delivery.Event) error { time.Sleep(time.Hour); return nil }, 4 * time.Second, 1},
		{"failing", func(context.Context, int, []delivery.Event) error { return errors.New("no") }, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, r := newMemory(1), &recorder{answer: c.answer}
				e := start(t, m, delivery.Spec{Name: "a", Sink: r, Linger: -1})
				synctest.Wait()
				began := time.Now()
				e.Close()
				if took := time.Since(began); took > c.within {
					t.Errorf("it took %s", took)
				}
				if b, err := m.Backlog(t.Context(), "a"); err != nil || b.Pending != c.left || b.Dead != 0 {
					t.Errorf("backlog %+v, error %v", b, err)
				}
				if _, err := e.Attach(nil); err == nil {
					t.Error("attached to what is closed")
				}
				e.Wake()
				time.Sleep(2 * time.Hour) // the deaf one ends
			})
		})
	}
}

// TestReload: the next configuration's sink takes over where the last one's stops,
// with nothing twice, and the last one's comes back when the next one fails.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(50)
		slow := func(context.Context, int, []delivery.Event) error { time.Sleep(2 * time.Second); return nil }
		first, second, third := &recorder{answer: slow}, &recorder{answer: slow}, &recorder{answer: slow}
		e := start(t, m)
		detachFirst := attach(t, e, delivery.Spec{Name: "a", Sink: first, Batch: 10})
		time.Sleep(time.Second) // it delivers
		detachSecond := attach(t, e, delivery.Spec{Name: "a", Sink: second, Batch: 10})
		detachFirst()
		same(t, "first", first.ids(), m.ids()[:10])
		await(t, "the second one works", func() bool { return len(second.ids()) == 10 })
		second.mu.Lock()
		if gap := second.calls[0].Sub(first.calls[0]); gap < 2*time.Second {
			t.Errorf("two at a time: the second one began after %s", gap)
		}
		second.mu.Unlock()
		detachThird := attach(t, e, delivery.Spec{Name: "a", Sink: third, Batch: 10}, delivery.Spec{Name: "b", Sink: new(recorder)})
		if got := fmt.Sprint(e.Names()); got != "[a b]" {
			t.Errorf("names %s", got)
		}
		detachThird() // it failed
		if got := fmt.Sprint(e.Names()); got != "[a]" {
			t.Errorf("names %s", got)
		}
		await(t, "the end", func() bool { return status(t, e, "a").Pending == 0 })
		same(t, "all", slices.Concat(first.ids(), second.ids(), third.ids()), m.ids())
		detachSecond()
		detachSecond()
		if got := e.Names(); len(got) != 0 {
			t.Errorf("names %v", got)
		}
	})
}

func TestAttachRefuses(t *testing.T) {
	e := delivery.New(delivery.Config{Store: newMemory(0)})
	defer e.Close()
	for _, specs := range [][]delivery.Spec{
		{{Name: "", Sink: new(recorder)}}, {{Name: "a"}}, {{Name: "a", Sink: new(recorder)}, {Name: "a", Sink: new(recorder)}},
	} {
		if _, err := e.Attach(specs); err == nil {
			t.Errorf("%+v is taken", specs)
		}
	}
}

// TestDatabaseAway: the database's troubles cost no event, no dead letter, and no second
// delivery of what was delivered.
func TestDatabaseAway(t *testing.T) {
	for _, call := range []string{"open", "read", "advance"} {
		t.Run(call, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, r := newMemory(30), new(recorder)
				until := time.Now().Add(time.Minute)
				m.fails = func(c string) error {
					if c == call && time.Now().Before(until) {
						return errors.New("database unavailable")
					}
					return nil
				}
				e := start(t, m, delivery.Spec{Name: "a", Sink: r, Batch: 10})
				time.Sleep(30 * time.Second)
				if s := status(t, e, "a"); s.State != delivery.Starting || !strings.Contains(s.LastError, "unavailable") {
					t.Errorf("status %+v", s)
				}
				await(t, "the end", func() bool { return status(t, e, "a").Pending == 0 })
				same(t, "all", r.ids(), m.ids())
			})
		})
	}
}

// TestCursorMoved: whoever moves the cursor wins over a delivery that is under way.
func TestCursorMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(20)
		r := new(recorder)
		r.answer = func(_ context.Context, call int, _ []delivery.Event) error {
			if call == 2 {
				m.mu.Lock()
				m.cursors["a"] = 0
				m.mu.Unlock()
			}
			return nil
		}
		e := start(t, m, delivery.Spec{Name: "a", Sink: r, Batch: 10})
		await(t, "the end", func() bool { return status(t, e, "a").Pending == 0 })
		same(t, "all and again", r.ids(), append(m.ids(), m.ids()...))
		m.mu.Lock()
		m.cursors["a"] = m.log[14].Seq
		m.mu.Unlock()
		await(t, "noticed while idle", func() bool { return len(r.ids()) == 45 })
		same(t, "the last ones", r.ids()[40:], m.ids()[15:])
	})
}

// TestReplay: a sink gets again what it has had since a time, and then goes on.
func TestReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, r := newMemory(10), new(recorder)
		e := start(t, m, delivery.Spec{Name: "a", Sink: r})
		await(t, "delivered", func() bool { return len(r.ids()) == 10 })
		time.Sleep(time.Hour)
		since := time.Now()
		m.add(5)
		await(t, "delivered", func() bool { return status(t, e, "a").State == delivery.Idle && len(r.ids()) == 15 })
		if err := e.Replay(t.Context(), "a", since); err != nil {
			t.Fatal(err)
		}
		await(t, "again", func() bool { return len(r.ids()) == 20 })
		same(t, "again", r.ids()[15:], m.ids()[10:])
		if err := e.Replay(t.Context(), "a", time.Now().Add(time.Second)); !errors.Is(err, delivery.ErrNotBehind) {
			t.Errorf("the future: %v", err)
		}
		if err := e.Replay(t.Context(), "b", since); err == nil {
			t.Error("a sink that is not there is replayed")
		}
		broken := errors.New("database unavailable")
		for _, call := range []string{"rewind", "requeue", "backlog"} {
			m.mu.Lock()
			m.fails = func(c string) error {
				if c == call {
					return broken
				}
				return nil
			}
			m.mu.Unlock()
			_, requeue := e.Requeue(t.Context(), "a", 1)
			all, snapshot := e.Snapshot(t.Context())
			replay := e.Replay(t.Context(), "a", since)
			for what, err := range map[string]error{"requeue": requeue, "backlog": snapshot, "rewind": replay} {
				if want := what == call || what == "rewind" && call == "backlog"; errors.Is(err, broken) != want {
					t.Errorf("%s with a broken %s: %v", what, call, err)
				}
			}
			if len(all) != 1 || all[0].Delivered < 20 {
				t.Errorf("status %+v", all)
			}
		}
		// A sink that is behind must not be moved forward.
		r2 := &recorder{answer: func(context.Context, int, []delivery.Event) error { return errors.New("away") }}
		m.mu.Lock()
		m.fails = nil
		m.mu.Unlock()
		attach(t, e, delivery.Spec{Name: "c", Sink: r2})
		await(t, "behind", func() bool { return status(t, e, "c").State == delivery.Retrying })
		if err := e.Replay(t.Context(), "c", since); !errors.Is(err, delivery.ErrNotBehind) {
			t.Errorf("ahead: %v", err)
		}
	})
}

// TestUnregister: a sink is forgotten when nothing needs its place any more.
func TestUnregister(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(3)
		e := start(t, m)
		detach := attach(t, e, delivery.Spec{Name: "a", Sink: new(recorder)})
		await(t, "delivered", func() bool { return status(t, e, "a").State == delivery.Idle })
		if err := e.Unregister(t.Context(), "a"); !errors.Is(err, delivery.ErrConfigured) {
			t.Errorf("while it is configured: %v", err)
		}
		detach()
		broken := errors.New("database unavailable")
		m.fails = func(string) error { return broken }
		if err := e.Unregister(t.Context(), "a"); !errors.Is(err, broken) {
			t.Errorf("error %v", err)
		}
		m.fails = nil
		if err := e.Unregister(t.Context(), "a"); err != nil || len(m.cursors) != 0 {
			t.Errorf("cursors %v, error %v", m.cursors, err)
		}
	})
}
