package delivery_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
)

// cutOff is a node's way to the leases, which may be cut.
type cutOff struct {
	*memory
	cut atomic.Bool
}

func (c *cutOff) TryLease(ctx context.Context, name, owner string, ttl time.Duration) (bool, error) {
	if c.cut.Load() {
		return false, errors.New("database unavailable")
	}
	return c.memory.TryLease(ctx, name, owner, ttl)
}

func (c *cutOff) ReleaseLease(ctx context.Context, name, owner string) error {
	if c.cut.Load() {
		return errors.New("database unavailable")
	}
	return c.memory.ReleaseLease(ctx, name, owner)
}

func node(t *testing.T, l *cutOff, r *recorder) *delivery.Engine {
	t.Helper()
	e := delivery.New(delivery.Config{Store: l.memory, Leases: l})
	t.Cleanup(e.Close)
	attach(t, e, delivery.Spec{Name: "a", Sink: r, Batch: 10, Linger: -1})
	return e
}

// TestOneNode: of two nodes one delivers. The other takes over at once when the
// first one stops, and within ten seconds when it dies.
func TestOneNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(20)
		one, two, three := new(recorder), new(recorder), new(recorder)
		first := node(t, &cutOff{memory: m}, one)
		synctest.Wait()
		lease := &cutOff{memory: m}
		second := node(t, lease, two)
		time.Sleep(time.Minute)
		same(t, "the first one", one.ids(), m.ids())
		if s := status(t, second, "a"); s.State != delivery.Standby || len(two.calls) != 0 {
			t.Errorf("status %+v", s)
		}
		first.Close()
		m.add(5)
		stopped := time.Now()
		await(t, "takeover", func() bool { return len(two.ids()) == 5 })
		if took := time.Since(stopped); took > 3*time.Second {
			t.Errorf("after a stop it took %s", took)
		}
		lease.cut.Store(true) // as if it died: it cannot renew
		third := node(t, &cutOff{memory: m}, three)
		died := time.Now()
		await(t, "takeover", func() bool { return status(t, third, "a").State == delivery.Idle })
		if took := time.Since(died); took > 10*time.Second {
			t.Errorf("after a death it took %s", took)
		}
		m.add(3)
		await(t, "delivered", func() bool { return len(three.ids()) == 3 })
		time.Sleep(time.Minute)
		same(t, "all", slices.Concat(one.ids(), two.ids(), three.ids()), m.ids())
	})
}

// TestLostWhileDelivering: a node that cannot renew its lease lets go before
// another one may begin.
func TestLostWhileDelivering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(10)
		var ended time.Time
		one := &recorder{answer: func(ctx context.Context, _ int, _ []delivery.Event) error {
			<-ctx.Done()
			ended = time.Now()
			return ctx.Err()
		}}
		lease := &cutOff{memory: m}
		node(t, lease, one)
		time.Sleep(time.Second)
		lease.cut.Store(true)
		two := new(recorder)
		node(t, &cutOff{memory: m}, two)
		await(t, "takeover", func() bool { return len(two.ids()) == 10 })
		if ended.IsZero() || !ended.Before(two.calls[0]) {
			t.Errorf("the first one ended %s, the other began %s", ended, two.calls[0])
		}
		same(t, "all", two.ids(), m.ids())
	})
}
