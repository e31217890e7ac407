package limit

import (
	"context"
	"sync"
)

const (
	// maxPending bounds what waits to be told to Redis: beyond it refunds are given up,
	// which errs on the side of the limit.
	maxPending = 1 << 16
	// batch is how many calls go into one pipeline.
	batch = 128
	// tellTimeouts is what Redis has to answer one, in takeTimeouts: nobody waits.
	tellTimeouts = 5
)

// pending is what Redis is to be told, soon and not by a request's own goroutine.
type pending struct {
	wake chan struct{}

	mu      sync.Mutex
	charges map[Key]int64
	refunds map[place]int64
	counts  map[Key]struct{}
}

// place is a bucket of a window in Redis.
type place struct {
	key   Key
	index int64
}

func (p *pending) charge(k Key, weight int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.charges == nil {
		p.charges = make(map[Key]int64)
	}
	p.charges[k] = min(p.charges[k]+weight, MaxAmount)
	notify(p.wake)
}

func (p *pending) refund(k Key, index, weight int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refunds == nil {
		p.refunds = make(map[place]int64)
	}
	at := place{k, index}
	if _, ok := p.refunds[at]; ok || len(p.refunds) < maxPending {
		p.refunds[at] += weight
	}
	notify(p.wake)
}

func (p *pending) slots(k Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.counts == nil {
		p.counts = make(map[Key]struct{})
	}
	p.counts[k] = struct{}{}
	notify(p.wake)
}

// later puts counts of slots back that could not be told.
func (p *pending) later(counts map[Key]struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.counts == nil {
		p.counts = counts
		return
	}
	for k := range counts {
		p.counts[k] = struct{}{}
	}
}

// flush tells Redis what is pending. Without it, charges wait with what this node
// admitted alone, and slots until it is back; refunds are given up.
func (r *Redis) flush(ctx context.Context) {
	p := &r.pending
	p.mu.Lock()
	charges, refunds, counts := p.charges, p.refunds, p.counts
	p.charges, p.refunds, p.counts = nil, nil, nil
	p.mu.Unlock()
	if !r.view.Load().up {
		for k, weight := range charges {
			r.keepCharge(k, weight)
		}
		p.later(counts)
		return
	}
	var calls []call
	for at, weight := range refunds {
		calls = append(calls, r.apply(redisName(at.key), "refund", width(at.key.Window), at.index, weight))
	}
	for k := range counts {
		calls = append(calls, r.slotsCall(k))
	}
	if err := r.tell(ctx, calls); err != nil {
		p.later(counts)
	}
	calls = calls[:0]
	keys := make([]Key, 0, len(charges))
	for k, weight := range charges {
		keys = append(keys, k)
		calls = append(calls, r.apply(redisName(k), "add", width(k.Window), 0, weight))
	}
	if err := r.tell(ctx, calls); err != nil {
		for _, k := range keys {
			r.keepCharge(k, charges[k])
		}
	}
}

// keepCharge keeps a charge for when Redis is back.
func (r *Redis) keepCharge(k Key, weight int64) {
	e := r.store.locked(&k)
	defer e.mu.Unlock()
	e.unpushed = used(e.unpushed)
	e.unpushed.add(e.unpushed.index(r.clock(), width(k.Window)), weight)
}

func (r *Redis) apply(name string, args ...any) call {
	return call{script: r.scripts.apply, keys: []string{name}, args: args}
}

// slotsCall tells how many slots this process uses.
func (r *Redis) slotsCall(k Key) call {
	e := r.store.locked(&k)
	defer e.mu.Unlock()
	return r.apply(e.name, "slots", r.node, e.inflight, r.setSlots(e, e.inflight))
}

// tell runs calls, a pipeline after the other, until one fails.
func (r *Redis) tell(ctx context.Context, calls []call) error {
	for len(calls) > 0 {
		n := min(batch, len(calls))
		bounded, cancel := context.WithTimeout(ctx, tellTimeouts*r.timeout)
		_, err := run(bounded, r.client, calls[:n])
		cancel()
		if err != nil {
			r.failed(err)
			return err
		}
		calls = calls[n:]
	}
	return nil
}
