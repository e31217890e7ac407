package event

import (
	"context"
	"errors"
	"io"
	"os"
	"time"
)

const (
	adoptEvery   = 30 * time.Second
	drainPause   = 100 * time.Millisecond
	maxDrainSize = 4 << 20 // bytes of events in one batch
)

// drain hands what is on disk to the store, until the log is closed.
func (l *Log) drain() {
	adopted := time.Now()
	pause := drainPause
	for {
		wait := adoptEvery
		if _, n := l.spill.pending(); n > 0 {
			wait = pause
		}
		timer := time.NewTimer(wait)
		select {
		case <-l.soft.Done():
			timer.Stop()
			return
		case <-l.drainWake:
			timer.Stop()
			if !rest(l.soft, pause) { // a moment, in which more may come
				return
			}
		case <-timer.C:
		}
		if time.Since(adopted) >= adoptEvery {
			adopted = time.Now()
			if err := l.spill.adopt(); err != nil {
				l.cfg.Logger.Error("events that were left behind on disk cannot be read", "error", err)
			}
		}
		if l.drainAll() {
			pause = drainPause
		} else {
			pause = min(2*pause, maxRetry)
		}
	}
}

func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// drainAll drains segments until none is left, or one cannot be.
func (l *Log) drainAll() bool {
	for seg := l.spill.next(); seg != nil; seg = l.spill.next() {
		if err := l.drainSegment(seg); err != nil {
			return false
		}
		if err := l.spill.drained(seg); err != nil {
			l.cfg.Logger.Error("a file of events that are in the database cannot be removed; it does no harm", "file", seg.path, "error", err)
		}
	}
	l.trouble.drained()
	return true
}

// drainSegment hands over the events of one file. Doing it again, after a crash
// perhaps, changes nothing.
func (l *Log) drainSegment(seg *segment) error {
	_ = seg.f.Sync() // it may hold what callers wrote without waiting; reading goes on either way
	r, err := newRecords(seg.reader())
	if err != nil {
		l.damaged(seg, err)
		return nil
	}
	var batch []*Event
	size, lost := 0, int64(0)
	for {
		payload, err := r.next()
		end := err != nil
		if end && err != io.EOF {
			if !errors.Is(err, errTorn) {
				l.cfg.Logger.Error("events on disk cannot be read; trying again later", "file", seg.path, "error", err)
				return err
			}
			l.damaged(seg, err)
		}
		if !end {
			e, err := Decode(payload)
			if err != nil {
				lost++
				continue
			}
			batch = append(batch, e)
			size += len(payload)
		}
		if len(batch) == maxBacklog*l.cfg.Batch || size >= maxDrainSize || end && len(batch) > 0 {
			if err := l.drainBatch(batch); err != nil {
				return err
			}
			batch, size = batch[:0], 0
		}
		if end {
			if lost > 0 {
				l.dropped.Add(lost)
				l.cfg.Logger.Error("events on disk are damaged, and lost", "file", seg.path, "lost", lost)
			}
			return nil
		}
	}
}

func (l *Log) drainBatch(batch []*Event) error {
	ctx, cancel := context.WithTimeout(l.soft, l.cfg.Timeout)
	defer cancel()
	began := time.Now()
	if err := l.cfg.Store.AppendEvents(ctx, batch); err != nil {
		return err
	}
	l.latency.Store(int64(time.Since(began)))
	l.committed.Add(int64(len(batch)))
	l.listeners.call()
	return nil
}

// damaged tells of a file whose end a crash has torn off.
func (l *Log) damaged(seg *segment, err error) {
	size := int64(-1)
	if info, statErr := os.Stat(seg.path); statErr == nil {
		size = info.Size() - seg.size
	}
	l.cfg.Logger.Warn("the end of a file of events is not used", "file", seg.path, "bytes", size, "error", err)
}
