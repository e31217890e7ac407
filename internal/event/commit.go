package event

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	minRetry = 100 * time.Millisecond
	maxRetry = 2 * time.Second
)

// collect writes batches until the log is closed and empty.
func (l *Log) collect() {
	timer := time.NewTimer(l.cfg.Interval)
	defer timer.Stop()
	for l.ready(timer) {
		if batch := l.take(); len(batch) > 0 {
			l.commit(batch)
			l.inHand.Store(0)
		}
		if l.spill != nil {
			if err := l.spill.sync(); err != nil {
				l.cfg.Logger.Error("events on disk may not survive a power cut", "error", err)
			}
		}
	}
}

// ready waits until there is something worth a commit: a batch, somebody who waits,
// or events that have waited for the interval. It reports false at the end.
func (l *Log) ready(timer *time.Timer) bool {
	timed := false
	for {
		l.mu.Lock()
		n, now := l.n, l.n >= l.cfg.Batch || l.waiting > 0 || l.closed
		l.mu.Unlock()
		switch {
		case n == 0 && now:
			return false
		case n > 0 && now:
			return true
		case n == 0:
			<-l.wake
		default:
			if !timed {
				timer.Reset(l.cfg.Interval)
				timed = true
			}
			select {
			case <-l.wake:
			case <-timer.C:
				return true
			}
		}
	}
}

// maxBacklog is how many batches are one, at most, when so many wait: the store takes
// more events a second the more it gets at once.
const maxBacklog = 4

// take takes a batch out of the ring, or several as one.
func (l *Log) take() []item {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch := make([]item, min(l.n, maxBacklog*l.cfg.Batch))
	for i := range batch {
		it := &l.ring[l.head]
		batch[i] = *it
		l.bodies -= int64(len(it.ev.Request) + len(it.ev.Response))
		if it.done != nil {
			l.waiting--
		}
		*it = item{}
		if l.head++; l.head == len(l.ring) {
			l.head = 0
		}
	}
	l.n -= len(batch)
	l.inHand.Store(int64(len(batch)))
	return batch
}

// call is a batch on its way into the store.
type call struct {
	events []*Event
	began  time.Time
	done   chan struct{}
	err    error // once done is closed
}

// store begins to hand events to the store.
func (l *Log) store(batch []item) *call {
	c := &call{events: make([]*Event, len(batch)), began: time.Now(), done: make(chan struct{})}
	for i, it := range batch {
		c.events[i] = it.ev
	}
	l.calls.Go(func() {
		defer close(c.done)
		ctx, cancel := context.WithTimeout(l.hard, l.cfg.Timeout)
		defer cancel()
		c.err = l.cfg.Store.AppendEvents(ctx, c.events)
	})
	return c
}

// commit makes a batch durable, in the store or on disk, or loses it for want of both.
func (l *Log) commit(batch []item) {
	for _, it := range batch {
		it.ev.prepare()
	}
	held, why := l.tryStore(batch)
	if why == nil {
		finish(batch, nil, true)
		return
	}
	err := l.trySpill(batch, why)
	if err == nil {
		finish(batch, nil, !held)
		return
	}
	l.insist(batch, held, err)
}

// errSlow says that the store has not answered within the patience.
var errSlow = errors.New("the database takes too long")

// tryStore gives the store a chance to take a batch in time. held says that it has
// the events still, and may yet take them.
func (l *Log) tryStore(batch []item) (held bool, why error) {
	if l.late != nil {
		select {
		case <-l.late.done:
			l.answered(l.late, int64(len(l.late.events)), false)
		default:
			return false, errSlow
		}
	}
	if time.Now().Before(l.retryAt) {
		return false, errors.New("the database was away a moment ago")
	}
	c := l.store(batch)
	timer := time.NewTimer(l.cfg.Patience)
	defer timer.Stop()
	select {
	case <-c.done:
		return false, l.answered(c, int64(len(batch)), true)
	case <-timer.C:
		l.late = c
		return true, errSlow
	}
}

// answered notes what became of a call. A late one's events are on disk too, and
// are counted when they come from there.
func (l *Log) answered(c *call, n int64, inTime bool) error {
	l.late = nil
	l.latency.Store(int64(time.Since(c.began)))
	if c.err != nil {
		l.pause = min(max(2*l.pause, minRetry), maxRetry)
		l.retryAt = time.Now().Add(l.pause)
		return c.err
	}
	l.pause, l.retryAt = 0, time.Time{}
	if inTime {
		l.committed.Add(n)
		l.trouble.kept()
	}
	l.listeners.call()
	return nil
}

var errNoSpill = errors.New("no directory is configured for events that wait")

func (l *Log) trySpill(batch []item, why error) error {
	if l.spill == nil {
		return fmt.Errorf("%w, and %w", why, errNoSpill)
	}
	l.buf = l.buf[:0]
	for _, it := range batch {
		l.buf = appendRecord(l.buf, it.ev)
	}
	err := l.spill.append(l.buf, int64(len(batch)))
	if cap(l.buf) > 16<<20 {
		l.buf = nil
	}
	if err != nil {
		return fmt.Errorf("%w, and %w", why, err)
	}
	l.spilled.Add(int64(len(batch)))
	l.trouble.spilling(why)
	poke(l.drainWake)
	return nil
}

// insist is for a batch that neither store nor disk takes: it keeps it in memory and
// tries both until one does, or the log is closed. Meanwhile the ring fills, and
// what it has no room for is counted as lost.
func (l *Log) insist(batch []item, held bool, why error) {
	l.trouble.holding(why)
	c := (*call)(nil) // what the store has of this batch
	if held {
		c = l.late
	}
	for {
		if l.late == nil {
			if l.hard.Err() != nil {
				l.drop(batch, why)
				return
			}
			c = l.store(batch)
			l.late = c
		}
		timer := time.NewTimer(max(l.pause, minRetry))
		select {
		case <-l.late.done:
			mine := c == l.late
			err := l.answered(l.late, int64(len(batch)), mine)
			if mine {
				c = nil
			}
			if err == nil && mine {
				timer.Stop()
				finish(batch, nil, true)
				return
			}
			if err != nil {
				why = err
				select { // before the next call
				case <-timer.C:
				case <-l.hard.Done():
				}
			}
		case <-timer.C:
		}
		timer.Stop()
		if l.trySpill(batch, why) == nil {
			finish(batch, nil, c == nil)
			return
		}
	}
}
