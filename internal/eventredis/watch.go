package eventredis

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	checkEvery = time.Second
	// Redis is trusted again that long after it has failed: the longer the sooner it
	// fails again.
	holdMin = 500 * time.Millisecond
	holdMax = 4 * time.Second
	holdFor = 10 * time.Second // well for so long: as if it had never failed
	// settingsEvery is how often Redis's settings are looked at, while nothing fails.
	settingsEvery = 10 * time.Second
)

// watch looks at Redis now and then, and decides whether it is used.
type watch struct {
	s       *Stream
	hold    time.Duration
	trusted time.Time // since when; zero: it is not
	asked   time.Time // for the settings
	warned  string    // about them
}

func (w *watch) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.s.doubted:
			w.back()
			timer.Reset(w.hold/2 + rand.N(w.hold/2))
			continue
		case <-timer.C:
		}
		w.check(ctx)
		timer.Reset(checkEvery*9/10 + rand.N(checkEvery/5))
		if w.trusted.IsZero() {
			timer.Reset(min(w.hold, checkEvery))
		}
	}
}

// back notes that Redis has failed.
func (w *watch) back() {
	if time.Since(w.trusted) > holdFor {
		w.hold = 0
	}
	w.hold = min(max(2*w.hold, holdMin), holdMax)
	w.trusted, w.asked = time.Time{}, time.Time{}
}

func (w *watch) check(ctx context.Context) {
	settings := time.Since(w.asked) > settingsEvery
	seen, err := w.s.look(ctx, settings)
	if ctx.Err() != nil {
		return
	}
	if err == nil && settings {
		w.asked = time.Now()
		w.warn(seen)
	}
	if err == nil {
		w.s.see(seen)
		err = w.s.judge(seen)
	}
	if err != nil {
		if !w.trusted.IsZero() || w.hold == 0 {
			w.back()
		}
		w.asked = time.Time{}
		w.s.distrust(err)
		return
	}
	if w.trusted.IsZero() {
		w.trusted = time.Now()
	}
	w.s.trust()
}

// see takes note of the stream.
func (s *Stream) see(seen sight) {
	if seen.explicit != nil { // of one that cannot be seen
		return
	}
	s.meet(seen.born, seen.same)
	s.forget(seen.first)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.length, s.bytes = seen.length, seen.bytes
}

// warn says once what the settings mean.
func (w *watch) warn(seen sight) {
	text := ""
	switch {
	case !seen.known:
		text = "Redis does not say whether it keeps events: without `appendonly yes` those that are not in the database yet are lost when it ends"
	case !seen.aof:
		text = "Redis keeps events in memory alone, as it has appendonly no: those that are not in the database yet are lost when it ends"
	case seen.evicts:
		text = "Redis may evict the stream of events when its memory is short: set maxmemory-policy noeviction or one of volatile-*"
	case w.s.cfg.Durable && seen.fsync != "always" && seen.fsync != "":
		text = "a crash of Redis while its disk is busy, or a power cut, may lose the events of its last two seconds, as it has appendfsync " + seen.fsync + ": set appendfsync always if that is too much"
	}
	if text != "" && text != w.warned {
		w.s.cfg.Logger.Warn(text)
	}
	w.warned = text
}
