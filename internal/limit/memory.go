package limit

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Memory limits what this process admits. It is safe for concurrent use.
type Memory struct {
	store *store
	clock func() int64 // µs, monotonic
	stop  func()
	once  sync.Once
	done  chan struct{}
}

// NewMemory makes a limiter. It must be closed.
func NewMemory() *Memory {
	ctx, cancel := context.WithCancel(context.Background())
	m := &Memory{store: newStore(nil), clock: monotonic(), stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		m.store.tidy(ctx, m.clock)
	}()
	return m
}

// monotonic is a clock that no step of the system's time moves.
func monotonic() func() int64 {
	start := time.Now()
	return func() int64 { return time.Since(start).Microseconds() }
}

// tidy sweeps, one shard after the other, until ctx ends.
func (s *store) tidy(ctx context.Context, clock func() int64) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.sweep(i, clock())
		}
	}
}

// Close ends what runs in the background. Tickets stay usable.
func (m *Memory) Close() {
	m.once.Do(m.stop)
	<-m.done
}

// Take is [Limiter.Take]; it does no I/O.
func (m *Memory) Take(_ context.Context, r Request, t *Ticket) (Decision, error) {
	if err := t.begin(r.Demands); err != nil {
		return Decision{}, fmt.Errorf("limit: %w", err)
	}
	all := t.held
	if d, refused := tooHeavy(all); refused {
		return d, nil
	}
	m.store.lock(all)
	now := m.clock()
	admitted := true
	for i := range all {
		h := &all[i]
		if h.limit.Kind == Concurrency {
			h.checkSlots(h.entry.inflight)
		} else {
			h.check(h.entry.counts, now)
		}
		admitted = admitted && h.fits
	}
	for i := range all {
		h := &all[i]
		switch {
		case h.limit.Kind == Concurrency && admitted:
			h.entry.inflight += h.weight
			h.sum += h.weight
		case h.limit.Kind == Concurrency:
		case admitted:
			h.take(h.entry.counts, now)
		default:
			h.describe(h.entry.counts, now)
		}
	}
	unlock(all)
	if admitted {
		t.owner = m
	}
	return decide(all), nil
}

func (m *Memory) settle(t *Ticket, actual int64) {
	for i := range t.held {
		h := &t.held[i]
		if h.limit.Kind != Tokens || actual == h.weight {
			continue
		}
		e := m.store.locked(&h.limit.Key)
		i := e.counts.index(m.clock(), h.width)
		if actual > h.weight {
			e.counts.add(i, actual-h.weight)
		} else {
			e.counts.advance(i)
			e.counts.refund(h.own, h.weight-actual)
		}
		e.mu.Unlock()
	}
}

func (m *Memory) release(t *Ticket) {
	for i := range t.held {
		if h := &t.held[i]; h.limit.Kind == Concurrency {
			e := m.store.locked(&h.limit.Key)
			e.inflight -= h.weight
			e.mu.Unlock()
		}
	}
}
