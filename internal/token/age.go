package token

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// A database that hangs must not hang every request. Once a look-up has failed,
// requests for remembered rows do not wait for others, but have them made in the
// background, each row's once in retryPause. That ends with the first look-up
// that succeeds, or when none was tried for a look-up's bound and spareAfter.
const (
	retryPause = time.Second
	spareAfter = 3 * time.Second
)

// age tells how far a remembered row is to be trusted. Until refreshAt it is;
// until staleAt it is, while it is asked for again in the background; after that
// the database decides, unless it is away and the row is within the outage grace.
type age struct {
	loadedAt   time.Time // when its look-up began
	epoch      uint64    // of the authority, then
	refreshAt  time.Time
	staleAt    time.Time
	refreshing atomic.Bool
	failedAt   atomic.Int64 // UnixNano of the last look-up that failed; 0: none since
}

// stamp starts the age of a row whose look-up began then. The jitter keeps
// rows that were read together from being asked for together.
func (g *age) stamp(at moment, ttl time.Duration) {
	ttl -= rand.N(ttl/10 + 1)
	g.loadedAt, g.refreshAt, g.staleAt, g.epoch = at.Time, at.Add(ttl-ttl/4), at.Add(ttl), at.epoch
}

// moment is when a look-up begins.
type moment struct {
	time.Time
	epoch uint64
}

// begin must come before the database is asked: what it answers is no younger.
func (a *Authority) begin() moment {
	epoch := a.epoch.Load()
	return moment{time.Now(), epoch}
}

// fresh reports whether the row needs no look-up, not even in the background.
func (a *Authority) fresh(g *age, now time.Time) bool {
	return now.Before(g.refreshAt) && g.epoch == a.epoch.Load()
}

// usable reports whether the row may be used without waiting for the database:
// it is neither stale nor distrusted, or it is and the database failed a moment ago.
func (a *Authority) usable(g *age, now time.Time) bool {
	return now.Before(g.staleAt) && g.epoch == a.epoch.Load() || within(&a.failedAt, now, a.opts.LoadTimeout+spareAfter) && a.lasts(g, now)
}

// lasts reports whether the row may be used while the database is away. Without
// a grace, one that is distrusted may not, even before it would be stale.
func (a *Authority) lasts(g *age, now time.Time) bool {
	grace := max(a.opts.OutageGrace, 0)
	return now.Before(g.staleAt.Add(grace)) && (grace > 0 || g.epoch == a.epoch.Load())
}

func (g *age) failed() { g.failedAt.Store(time.Now().UnixNano()) }

// within reports whether mark, in UnixNano, was set and is not older than d.
func within(mark *atomic.Int64, now time.Time, d time.Duration) bool {
	at := mark.Load()
	return at != 0 && now.UnixNano() < at+int64(d)
}

// asked notes whether the database answers.
func (a *Authority) asked(err error) {
	if errors.Is(err, ErrUnavailable) {
		a.failedAt.Store(time.Now().UnixNano())
	} else if a.failedAt.Load() != 0 {
		a.failedAt.Store(0)
	}
}

// refresh runs load in the background, one at a time for each row.
func (a *Authority) refresh(g *age, now time.Time, load func(context.Context) error) {
	if within(&g.failedAt, now, retryPause) || !g.refreshing.CompareAndSwap(false, true) {
		return
	}
	a.spawn(func() {
		defer g.refreshing.Store(false)
		if err := load(a.ctx); errors.Is(err, ErrUnavailable) {
			g.failed()
		}
	})
}

// outlives reports whether a stale row stands in for the look-up that ended
// with err, because the database could not be asked.
func (a *Authority) outlives(ctx context.Context, g *age, err error, now time.Time) bool {
	if !errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
		return false
	}
	g.failed()
	return a.lasts(g, now)
}
