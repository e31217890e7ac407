package ledger

import (
	"math"
	"sync/atomic"
	"time"
)

// clock is the database's, carried on by the monotonic one of this process: nobody
// who sets this machine's time has an effect on it.
type clock struct {
	base   time.Time
	offset atomic.Int64 // µs from mono to the database's time; unknown until asked
	taken  atomic.Int64 // mono of the offset
	spans  [len(periods)]atomic.Pointer[span]
}

type span struct{ start, end int64 }

const unknownOffset = math.MinInt64

func newClock() *clock {
	c := &clock{base: time.Now()}
	c.offset.Store(unknownOffset)
	return c
}

// mono is the time since the start.
func (c *clock) mono() time.Duration { return time.Since(c.base) }

func (c *clock) known() bool { return c.offset.Load() != unknownOffset }

// An answer that took longer than this may have waited for a lock, and is a bad clock.
// After offsetLasts it is taken all the same.
const (
	quickAnswer = 100 * time.Millisecond
	offsetLasts = 10 * time.Second
)

// set takes the database's time, which it told between two moments.
func (c *clock) set(database int64, sent, got time.Duration) {
	if c.known() && got-sent > quickAnswer && got-time.Duration(c.taken.Load()) < offsetLasts {
		return
	}
	c.taken.Store(int64(got))
	c.offset.Store(database - (sent + (got-sent)/2).Microseconds())
}

// start is the beginning of the current period.
func (c *clock) start(period int, mono time.Duration) int64 {
	if period == 0 {
		return 0
	}
	now := mono.Microseconds() + c.offset.Load()
	s := c.spans[period].Load()
	if s == nil || now < s.start || now >= s.end {
		start, end := Span(periods[period], time.UnixMicro(now))
		s = &span{start.UnixMicro(), end.UnixMicro()}
		c.spans[period].Store(s)
	}
	return s.start
}
