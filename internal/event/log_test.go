package event

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var errAway = errors.New("database away")

func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.add(3)
		time.Sleep(DefaultInterval - time.Millisecond)
		r.add(1)
		synctest.Wait()
		if n := len(r.store.calls()); n != 0 {
			t.Errorf("%d calls before the interval is over", n)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if got := r.store.calls(); !slices.Equal(got, []int{4}) {
			t.Errorf("batches are %v", got)
		}
		thaw := r.store.freeze()
		r.add(DefaultBatch) // at once
		synctest.Wait()
		r.add(maxBacklog*DefaultBatch + 1) // all but one at once, as they have waited, and that one when its time has come
		thaw()
		synctest.Wait()
		if got := r.store.calls(); !slices.Equal(got, []int{4, DefaultBatch, maxBacklog * DefaultBatch}) {
			t.Errorf("batches are %v", got)
		}
		time.Sleep(DefaultInterval)
		synctest.Wait()
		r.complete()
		if !slices.Equal(r.store.ids(), r.sent) {
			t.Error("events are in another order than they were appended in")
		}
		if s := r.Stats(); s.Published != int64(len(r.sent)) || s.Committed != s.Published || s.Pending != 0 || s.Spilled+s.Dropped != 0 {
			t.Errorf("stats are %+v", s)
		}
	})
}

func TestDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const waiters = 50
		r := newRig(t, Config{})
		began := time.Now()
		thaw := r.store.freeze()
		var done atomic.Int64
		var wg sync.WaitGroup
		for range waiters {
			e := newEvent()
			r.sent = append(r.sent, e.ID)
			wg.Go(func() {
				if err := r.AppendDurable(t.Context(), e); err != nil {
					t.Error(err)
				}
				done.Add(1)
			})
		}
		synctest.Wait()
		if done.Load() != 0 {
			t.Error("durable before it was committed")
		}
		thaw()
		wg.Wait()
		if time.Since(began) != 0 {
			t.Errorf("who waits, waited for %s", time.Since(began))
		}
		if n := len(r.store.calls()); n > 2 { // the first, and the others together
			t.Errorf("%d commits for %d waiters", n, waiters)
		}
		r.complete()

		defer r.store.freeze()()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.AppendDurable(ctx, newEvent()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a waiter whose time is over: %v", err)
		}
	})
}

func TestHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		var heard atomic.Int64
		remove := r.OnCommit(func() { heard.Add(1) })
		r.add(1)
		time.Sleep(DefaultInterval)
		synctest.Wait()
		remove()
		r.add(1)
		time.Sleep(DefaultInterval)
		synctest.Wait()
		if heard.Load() != 1 {
			t.Errorf("heard of %d commits", heard.Load())
		}
	})
}

// TestMemoryAlone has no directory: events wait, and what is too much is counted.
func TestMemoryAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{Ring: 10, Batch: 4})
		r.store.fail(errAway)
		for range 20 {
			r.add(1)
			time.Sleep(DefaultInterval * 2)
		}
		errs := make(chan error, 1)
		go func() { errs <- r.AppendDurable(context.Background(), newEvent()) }()
		if err := <-errs; err == nil || !strings.Contains(err.Error(), "lost") {
			t.Errorf("an event without room: %v", err)
		}
		lost := r.Stats().Dropped
		if s := r.Stats(); lost == 0 || s.Pending+s.Dropped != s.Published {
			t.Errorf("stats are %+v", s)
		}
		r.store.fail(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := r.Stats(); s.Dropped != lost || s.Committed+s.Dropped != s.Published || s.Pending != 0 {
			t.Errorf("stats are %+v", s)
		}
		if r.out.count("events are lost from now on") != 1 || r.out.count(fmt.Sprint("\"events are written again\" lost=", lost)) != 1 {
			t.Errorf("logged:\n%s", r.out.text.String())
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{})
		r.add(DefaultBatch + 7)
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
		r.complete()
		r.Append(newEvent())
		if err := r.AppendDurable(t.Context(), newEvent()); !errors.Is(err, errClosed) {
			t.Errorf("appending to a log that is closed: %v", err)
		}
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if s := r.Stats(); s.Dropped != 2 {
			t.Errorf("stats are %+v", s)
		}
		if err := r.Start(); err != nil {
			t.Error(err)
		}

		hanging := newRig(t, Config{Store: frozen{}})
		hanging.add(5)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := hanging.Close(ctx); err != nil {
			t.Error(err)
		}
		if s := hanging.Stats(); s.Dropped != 5 {
			t.Errorf("stats are %+v", s)
		}

		never, err := New(Config{Store: frozen{}})
		if err != nil {
			t.Fatal(err)
		}
		never.Append(newEvent())
		if err := never.Close(t.Context()); err != nil || never.Stats().Dropped != 1 {
			t.Errorf("closing what was never started: %+v, %v", never.Stats(), err)
		}
	})
}

func TestConfig(t *testing.T) {
	for _, cfg := range []Config{{}, {Store: frozen{}, Ring: -1}, {Store: frozen{}, Patience: -1}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}

type discard struct{}

func (discard) AppendEvents(context.Context, []*Event) error { return nil }

// BenchmarkAppend is what a request pays for an event and its place in the log, with
// one at a time and with as many as can be.
func BenchmarkAppend(b *testing.B) {
	run := func(b *testing.B, body func(b *testing.B, one func())) {
		l, err := New(Config{Store: discard{}, Ring: b.N}) // never full, however little the collector gets to run
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Start(); err != nil {
			b.Fatal(err)
		}
		filled := newEvent()
		b.ReportAllocs()
		b.ResetTimer()
		body(b, func() {
			e := Get()
			*e = *filled
			l.Append(e)
		})
		b.StopTimer()
		if err := l.Close(context.Background()); err != nil {
			b.Fatal(err)
		}
		if s := l.Stats(); s.Dropped > 0 {
			b.Errorf("stats are %+v", s)
		}
	}
	b.Run("one", func(b *testing.B) {
		run(b, func(b *testing.B, one func()) {
			for range b.N {
				one()
			}
		})
	})
	b.Run("parallel", func(b *testing.B) {
		run(b, func(b *testing.B, one func()) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					one()
				}
			})
		})
	})
}
