package token

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/uuid/v5"
)

// Sieve is what a [Source] may offer besides: it tells which of up to SieveSize
// ids are of tokens, in one query. With it, a storm of made-up tokens costs a
// query for many of them, instead of one each, and is no reason to refuse anybody.
type Sieve interface {
	KnownTokens(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]bool, error)
}

const (
	// SieveSize is how many ids are asked for at once.
	SieveSize = 64
	// stormStrangers unknown ids within stormSpan are a storm: until it is over,
	// ids never seen before go through the sieve.
	stormStrangers = 200
	stormSpan      = time.Second
	// sievePause is how long ids are collected for one query: not for long, as
	// all who wait for it go on at once.
	sievePause = 2 * time.Millisecond
)

// sieve collects ids that were never seen before. Its goroutine lives while
// there are any.
type sieve struct {
	source Sieve // nil: there is none

	mu      sync.Mutex
	waiting []*sieving
	running bool

	span      atomic.Int64 // number of the span that strangers counts in
	strangers atomic.Int64
	previous  atomic.Int64 // of the span before
}

// sieving is one id that somebody waits for.
type sieving struct {
	id    uuid.UUID
	done  chan struct{}
	known bool
	now   moment
	err   error
}

// stranger counts an id that turned out to be unknown.
func (s *sieve) stranger(now time.Time) {
	s.turn(now)
	s.strangers.Add(1)
}

// turn begins a span. That two at once may both do so costs a few counts.
func (s *sieve) turn(now time.Time) {
	span := now.UnixNano() / int64(stormSpan)
	before := s.span.Load()
	if before == span || !s.span.CompareAndSwap(before, span) {
		return
	}
	n := s.strangers.Swap(0)
	if before != span-1 {
		n = 0
	}
	s.previous.Store(n)
}

// storm reports whether very many ids are unknown at the moment.
func (s *sieve) storm(now time.Time) bool {
	if s.source == nil {
		return false
	}
	s.turn(now)
	return max(s.strangers.Load(), s.previous.Load()) >= stormStrangers
}

// firstLook looks up a token that is not remembered. In a storm the sieve comes
// first: most of what is asked for then does not exist.
func (a *Authority) firstLook(ctx context.Context, id uuid.UUID) (*entry, error) {
	if a.sieve.storm(time.Now()) {
		switch known, now, err := a.sift(ctx, id); {
		case err != nil:
			return nil, err
		case !known:
			a.rememberUnknown(id, now)
			return nil, ErrUnknown
		}
	}
	return a.loadToken(ctx, id)
}

// sift waits for the query that asks for id among others. It begins after sift
// was called, and now is before it.
func (a *Authority) sift(ctx context.Context, id uuid.UUID) (known bool, now moment, err error) {
	s := &a.sieve
	w := &sieving{id: id, done: make(chan struct{})}
	s.mu.Lock()
	if !s.running {
		if !a.spawn(func() { s.run(a) }) {
			s.mu.Unlock()
			return false, now, fmt.Errorf("%w: shutting down", ErrUnavailable)
		}
		s.running = true
	}
	s.waiting = append(s.waiting, w)
	s.mu.Unlock()
	select {
	case <-w.done:
		return w.known, w.now, w.err
	case <-ctx.Done():
		return false, now, fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	}
}

// run asks until nobody waits.
func (s *sieve) run(a *Authority) {
	timer := time.NewTimer(sievePause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-a.ctx.Done(): // those who wait are told so by the source
		}
		s.mu.Lock()
		n := min(len(s.waiting), SieveSize)
		batch := s.waiting[:n:n]
		s.waiting = s.waiting[n:]
		if n == 0 {
			s.running, s.waiting = false, nil
			s.mu.Unlock()
			return
		}
		more := len(s.waiting) > 0
		s.mu.Unlock()
		a.siftBatch(batch)
		if more {
			timer.Reset(0)
		} else {
			timer.Reset(sievePause)
		}
	}
}

// siftBatch answers everybody in it. A panic in the source is an outage.
func (a *Authority) siftBatch(batch []*sieving) {
	ids := make([]uuid.UUID, len(batch))
	for i, w := range batch {
		ids[i] = w.id
	}
	now := a.begin()
	known, err := a.askSieve(ids)
	for _, w := range batch {
		w.known, w.now, w.err = known[w.id], now, err
		close(w.done)
	}
}

func (a *Authority) askSieve(ids []uuid.UUID) (known map[uuid.UUID]bool, err error) {
	ctx, cancel := context.WithTimeout(a.ctx, a.opts.LoadTimeout)
	defer cancel()
	defer func() {
		if r := recover(); r != nil {
			err = a.panicked(r)
		}
		a.asked(err)
	}()
	if known, err = a.sieve.source.KnownTokens(ctx, ids); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return known, nil
}
