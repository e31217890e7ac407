package limit

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxSlow is how many calls in a row may go unanswered before Redis counts as
	// away.
	maxSlow = 2

	// slotsTrust is how long after a loss the counts of slots and the list of nodes are
	// not relied upon: by then everybody who lives is in them again.
	slotsTrust = 10 * time.Second

	// youngEpoch is how long a new epoch is not relied upon under [Deny]: by then every
	// node that has known another one has noticed.
	youngEpoch = 5 * time.Second
)

// never is a time before all others.
const never = math.MinInt64 / 2

// view is what this node knows of the others. It is replaced, not changed.
type view struct {
	met     bool // Redis has answered since the start
	up      bool // Redis is asked
	epoch   string
	lost    int64 // when Redis last lost counters, by our clock
	made    int64 // when the epoch was made, by our clock
	nodes   int64
	divisor int64 // of limits, without Redis: at least the number of nodes
	ready   bool  // the others' divisors allow for this node
	heard   int64 // when Redis last told of the others, by our clock
	since   int64 // when Redis was last found away, by our clock
	changed time.Time
	err     error // why it is away
}

// shared reports whether Redis decides about a limit now: whether its counters
// hold all that was admitted in the limit's window.
func (v *view) shared(h *held, now int64, p Policy, young int64) bool {
	span := buckets * h.width
	if h.limit.Kind == Concurrency {
		span = slotsTrust.Microseconds()
	}
	return v.up && now-v.lost >= span && (p != Deny || now-v.made >= min(young, span))
}

// split puts the limits last that Redis decides about, and counts them.
func (v *view) split(all []held, now int64, p Policy, young int64) int {
	end := len(all)
	for i := 0; i < end; {
		if v.shared(&all[i], now, p, young) {
			end--
			all[i], all[end] = all[end], all[i]
			continue
		}
		i++
	}
	return len(all) - end
}

// kind of failure.
type failure int

const (
	unanswered failure = iota // once is chance
	refused                   // certain
)

func classify(err error) failure {
	var timeout net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, redis.ErrPoolTimeout):
		return unanswered
	case errors.As(err, &timeout) && timeout.Timeout():
		return unanswered
	}
	return refused
}

// failed takes note of a call that Redis did not answer as it should.
func (r *Redis) failed(err error) {
	if classify(err) == unanswered && r.slow.Add(1) < maxSlow {
		r.logger.Debug("Redis did not answer a question about rate limits in time; if it does not answer the next one it counts as away")
		return
	}
	r.leave(r.conn.Explain(err))
}

// leave stops asking Redis, until the keeper finds it well.
func (r *Redis) leave(why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.view.Load()
	if !old.up {
		if !old.met && old.err == nil {
			v := *old
			v.err = why
			r.view.Store(&v)
			r.logger.Error("rate limits cannot be shared: requests with limits are refused until Redis was reached once", "error", why)
		}
		return
	}
	v := *old
	v.up, v.since, v.changed, v.err = false, r.clock(), time.Now(), why
	r.view.Store(&v)
	r.stats.outages.Add(1)
	r.logger.Error("rate limits are not shared: this node goes by its part of them, or denies, as on_limiter_failure says",
		"error", why, "nodes", v.divisor)
	notify(r.probe)
}

// enter makes what was heard the view, after an outage or not.
func (r *Redis) enter(heard view) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.view.Load()
	heard.met, heard.up, heard.since, heard.changed = true, true, old.since, old.changed
	if !old.up {
		heard.changed = time.Now()
	}
	r.slow.Store(0)
	r.view.Store(&heard)
	switch {
	case !old.met:
		r.logger.Info("rate limits are shared through Redis", "nodes", heard.nodes)
	case !old.up:
		r.logger.Info("rate limits are shared again", "away", heard.changed.Sub(old.changed))
	}
	if old.met && old.epoch != heard.epoch {
		r.stats.losses.Add(1)
		r.logger.Warn("Redis lost counters of rate limits: each limit is divided among the nodes for the length of its window",
			slog.String("see", "appendonly and maxmemory-policy of Redis"))
	}
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
