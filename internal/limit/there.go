package limit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// takeTimeout is what Redis has to answer a request, with a second round trip if
// it does not know the script.
const takeTimeout = 50 * time.Millisecond

var (
	errEpoch  = errors.New("redis was emptied or replaced")
	errLost   = errors.New("redis lost a counter")
	errAnswer = errors.New("redis gave an answer that makes no sense")
)

// Statuses of take.lua.
const (
	statusTaken = 1
	statusEpoch = -1
	statusLost  = -2

	perLimit = 5 // values for each limit in an answer
)

// takeThere has Redis decide about limits. On an error nothing counts as taken,
// whatever Redis may have done: it has counted too much then, for a window's
// length, and is told the right number of slots.
func (r *Redis) takeThere(ctx context.Context, all []held, v *view) error {
	groups := r.group(all)
	r.reserve(all)
	calls := make([]call, 0, 2)
	for _, g := range groups {
		calls = append(calls, r.question(g, v))
	}
	// Not the request's own context: if its client left now, nobody would know what
	// was taken.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.timeout)
	defer cancel()
	r.stats.takes.Add(1)
	answers, err := run(ctx, r.client, calls)
	if err != nil {
		err = fmt.Errorf("asking Redis: %w", r.conn.Explain(r.unanswered(err)))
	} else {
		r.slow.Store(0)
		for i, g := range groups {
			if err = errors.Join(err, parse(answers[i], g)); err != nil {
				r.miss(v, err)
				break
			}
		}
	}
	r.conclude(all, groups, err)
	return err
}

// unanswered takes note of an error of the client.
func (r *Redis) unanswered(err error) error {
	r.failed(err)
	return err
}

// miss has the keeper look after lost counters, and nobody ask until it has.
func (r *Redis) miss(v *view, why error) {
	if errors.Is(why, errLost) {
		r.mu.Lock()
		r.missing = v.epoch
		r.mu.Unlock()
	}
	if r.view.Load().epoch == v.epoch {
		r.leave(why)
	}
}

// group puts limits together that one call can take.
func (r *Redis) group(all []held) [][]held {
	if !r.cluster {
		return [][]held{all}
	}
	slices.SortFunc(all, func(a, b held) int { return cmp.Compare(tag(&a.limit.Key), tag(&b.limit.Key)) })
	var groups [][]held
	for start, i := 0, 1; i <= len(all); i++ {
		if i == len(all) || tag(&all[i].limit.Key) != tag(&all[start].limit.Key) {
			groups = append(groups, all[start:i])
			start = i
		}
	}
	return groups
}

// reserve counts the slots as used, since Redis is told absolute numbers.
func (r *Redis) reserve(all []held) {
	for i := range all {
		h := &all[i]
		h.local = false
		if h.limit.Kind == Concurrency {
			e := r.store.locked(&h.limit.Key)
			h.seq = r.setSlots(e, e.inflight+h.weight)
			h.sum = e.inflight
			e.mu.Unlock()
		}
	}
}

// question is the call that takes limits of one slot.
func (r *Redis) question(all []held, v *view) call {
	c := call{script: r.scripts.take, keys: make([]string, 0, len(all)+1), args: make([]any, 0, 2+5*len(all))}
	epoch := ""
	if !r.cluster || tag(&all[0].limit.Key) == common {
		epoch = v.epoch
		c.keys = append(c.keys, epochKey)
	}
	c.args = append(c.args, epoch, r.node)
	now := r.clock()
	for i := range all {
		h := &all[i]
		e := r.store.locked(&h.limit.Key)
		c.keys = append(c.keys, e.name)
		if h.limit.Kind == Concurrency {
			c.args = append(c.args, "s", h.limit.Amount, h.sum, h.seq, 0)
		} else {
			there := 0
			// What was told to Redis in the last half of the window is there still.
			if e.toldAt > max(0, now-(buckets/2)*h.width) {
				there = 1
			}
			c.args = append(c.args, "w", h.limit.Amount, h.weight, h.width, there)
		}
		e.mu.Unlock()
	}
	return c
}

// parse reads an answer of take.lua.
func parse(answer any, all []held) error {
	values, ok := answer.([]any)
	if !ok || len(values) < 2 {
		return errAnswer
	}
	status, ok := values[0].(int64)
	switch {
	case !ok:
		return errAnswer
	case status == statusEpoch:
		return errEpoch
	case status == statusLost:
		return errLost
	case len(values) != 2+perLimit*len(all):
		return errAnswer
	}
	taken := true
	for i := range all {
		var n [perLimit]int64
		for k := range n {
			if n[k], ok = values[2+perLimit*i+k].(int64); !ok {
				return errAnswer
			}
		}
		h := &all[i]
		h.fits, h.sum, h.index, h.reset, h.retry = n[0] == 1, n[1], n[2], n[3], n[4]
		taken = taken && h.fits
	}
	if taken != (status == statusTaken) {
		return errAnswer
	}
	return nil
}

// conclude notes what was taken, or undoes it.
func (r *Redis) conclude(all []held, groups [][]held, err error) {
	admitted := err == nil && fit(all)
	now := max(1, r.clock())
	for _, g := range groups {
		taken := err == nil && fit(g) // Redis has counted it
		for i := range g {
			h := &g[i]
			e := r.store.locked(&h.limit.Key)
			if h.limit.Kind == Concurrency && err == nil {
				e.seen, e.seenAt = h.index, now
			}
			switch {
			case h.limit.Kind == Concurrency && !admitted:
				// A later number may have been told that includes this one.
				if taken || err != nil || e.seq != h.seq {
					r.pending.slots(e.key)
				}
				r.setSlots(e, e.inflight-h.weight)
			case h.limit.Kind == Concurrency: // admitted
			case err == nil:
				e.seen, e.seenAt = h.sum, now
				if admitted {
					r.mirror(e, h, now)
					e.toldAt = now
				} else if taken {
					r.pending.refund(e.key, h.index, h.weight)
					h.sum -= h.weight
				}
			}
			e.mu.Unlock()
		}
	}
}

func fit(all []held) bool {
	for i := range all {
		if !all[i].fits {
			return false
		}
	}
	return true
}
