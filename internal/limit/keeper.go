package limit

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

const (
	// beatEvery is how often a node shows that it lives and tells its slots; others
	// forget it after ten seconds.
	beatEvery = 2 * time.Second
	// listedFor is how long after a beat a node is certainly known to the others.
	listedFor = 8 * time.Second
	// probeEvery is how often a Redis that is away is asked whether it is back.
	probeEvery = 250 * time.Millisecond
)

// keep looks after the view and what is pending until ctx ends. It closes first
// when Redis has been asked once.
func (r *Redis) keep(ctx context.Context, first chan<- struct{}) {
	r.beat(ctx)
	close(first)
	timer := time.NewTimer(r.pause())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			r.part(ctx)
			return
		case <-r.pending.wake:
			r.flush(ctx)
			continue
		case <-r.probe:
			if why := r.view.Load().err; !errors.Is(why, errEpoch) && !errors.Is(why, errLost) {
				timer.Reset(r.pause())
				continue
			}
		case <-timer.C:
		}
		r.beat(ctx)
		timer.Reset(r.pause())
	}
}

// pause is the time to the next beat; nodes do not fall into step.
func (r *Redis) pause() time.Duration {
	every := r.every
	if !r.view.Load().up {
		every = probeEvery
	}
	return every*9/10 + rand.N(every/5)
}

// beat asks how the nodes and the counters are. If Redis was away or has lost
// something, it is told what this node knows before anybody asks it again.
func (r *Redis) beat(ctx context.Context) {
	old := r.view.Load()
	heard, err := r.ask(ctx, old)
	if err != nil {
		if ctx.Err() == nil {
			r.failedBeat(old, err)
		}
		return
	}
	lost := old.met && heard.epoch != old.epoch
	if err := r.push(ctx, lost); err != nil {
		return
	}
	r.enter(heard)
	r.flush(ctx) // what could not be told before
}

func (r *Redis) failedBeat(old *view, err error) {
	if !old.met { // nothing is known, and a single attempt says enough
		r.leave(r.conn.Explain(err))
		return
	}
	r.failed(err)
}

// ask runs beat.lua and puts its times on our clock. The answer is on its way for a
// while, so that what has happened seems later than it was, and is waited for longer.
func (r *Redis) ask(ctx context.Context, old *view) (view, error) {
	r.mu.Lock()
	missing := 0
	if r.missing != "" && r.missing == old.epoch {
		missing = 1
	}
	r.mu.Unlock()
	timeout := r.timeout
	if !old.met { // the first connection takes longer, and nobody waits for it
		timeout *= tellTimeouts
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answers, err := run(bounded, r.client, []call{{
		script: r.scripts.beat,
		keys:   []string{epochKey, nodesKey},
		args:   []any{r.node, old.epoch, random(), missing, max(1, old.divisor)},
	}})
	if err != nil {
		return view{}, err
	}
	return parseBeat(answers[0], old, r.clock())
}

// parseBeat reads an answer of beat.lua that came now.
func parseBeat(answer any, old *view, now int64) (view, error) {
	values, ok := answer.([]any)
	if !ok || len(values) != 6 {
		return view{}, errAnswer
	}
	id, ok := values[0].(string)
	if !ok || id == "" {
		return view{}, errAnswer
	}
	var n [5]int64
	for i := range n {
		if n[i], ok = values[1+i].(int64); !ok {
			return view{}, errAnswer
		}
	}
	lost, made, there, nodes, ready := n[0], n[1], n[2], n[3], n[4]
	if nodes < 1 || lost < 0 || made < 0 || there < 0 {
		return view{}, errAnswer
	}
	v := view{epoch: id, lost: never, made: now - max(0, there-made), nodes: nodes, divisor: nodes, ready: ready == 1, heard: now}
	if old.ready && old.epoch == id && nodes >= old.divisor && now-old.heard < listedFor.Microseconds() {
		// Nobody has forgotten this node, so that they divide by as many as it did, or
		// more. It is for who has come to wait until all know.
		v.ready = true
	}
	switch {
	case id == old.epoch: // Redis's clock may have been set since
		v.lost, v.made = old.lost, old.made
	case lost > 0:
		v.lost = now - max(0, there-lost)
	}
	if now-v.lost < slotsTrust.Microseconds() {
		// The list of nodes is as new: those who are missing live on with the part that
		// they had, so that this node keeps its own, and has none if it is new.
		v.ready = old.ready
		v.divisor = max(old.divisor, nodes)
	}
	return v, nil
}

// push tells Redis what it does not know: the slots of this process, and what
// this node admitted without it, or if counters were lost, all that this node
// admitted.
func (r *Redis) push(ctx context.Context, lost bool) error {
	var calls []call
	var windows []*entry
	taken := make(map[*entry]*window)
	now := r.clock()
	r.store.each(func(e *entry) {
		if e.counts == nil {
			if e.inflight > 0 {
				calls = append(calls, r.apply(e.name, "slots", r.node, e.inflight, r.setSlots(e, e.inflight)))
			}
			return
		}
		w := e.unpushed
		if w != nil {
			windows, taken[e], e.unpushed = append(windows, e), w, nil
		}
		if lost {
			w = e.counts
		}
		if w != nil {
			if args := history(w, width(e.key.Window), now); args != nil {
				calls = append(calls, r.apply(e.name, args...))
			}
		}
	})
	err := r.tell(ctx, calls)
	for _, e := range windows {
		e.mu.Lock()
		if err != nil {
			e.unpushed = used(e.unpushed)
			e.unpushed.merge(taken[e])
		} else {
			e.toldAt = max(1, now)
		}
		e.mu.Unlock()
	}
	return err
}

// history is what a window counts, as arguments of apply.lua; nil: nothing. A weight
// is as old as its bucket's end, or younger: it counts too long rather than too short.
func history(w *window, b, now int64) []any {
	i := w.index(now, b)
	var args []any
	for j := max(0, i-buckets+1); j <= w.newest; j++ {
		if n := w.at(j, i); n > 0 {
			args = append(args, max(0, now-(j+1)*b), n)
		}
	}
	if args == nil {
		return nil
	}
	return append([]any{"add", b}, args...)
}

// part tells Redis what is pending, and that this node is gone.
func (r *Redis) part(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tellTimeouts*r.timeout)
	defer cancel()
	r.flush(ctx)
	if r.view.Load().up {
		_ = r.client.HDel(ctx, nodesKey, r.node).Err() // or it is forgotten in ten seconds
	}
}
