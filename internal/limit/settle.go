package limit

// settle charges or refunds tokens: in this node's counters at once, in Redis soon.
func (r *Redis) settle(t *Ticket, actual int64) {
	for i := range t.held {
		h := &t.held[i]
		if h.limit.Kind != Tokens || actual == h.weight {
			continue
		}
		k := h.limit.Key
		e := r.store.locked(&k)
		now := r.clock()
		if actual > h.weight {
			excess := actual - h.weight
			e.counts.add(e.counts.index(now, h.width), excess)
			if v := r.view.Load(); v.shared(h, now, Local, 0) {
				r.pending.charge(k, excess)
			} else {
				e.away, e.unpushed = used(e.away), used(e.unpushed)
				e.away.add(e.away.index(now, h.width), excess)
				e.unpushed.add(e.unpushed.index(now, h.width), excess)
			}
			e.mu.Unlock()
			continue
		}
		surplus := h.weight - actual
		e.counts.refund(h.own, surplus)
		switch {
		case !h.local:
			r.pending.refund(k, h.index, surplus)
		default:
			if e.away != nil {
				e.away.refund(h.own, surplus)
			}
			if e.unpushed != nil {
				e.unpushed.refund(h.own, surplus)
			}
		}
		e.mu.Unlock()
	}
}

// release gives slots back: in this process at once, in Redis soon.
func (r *Redis) release(t *Ticket) {
	for i := range t.held {
		h := &t.held[i]
		if h.limit.Kind != Concurrency {
			continue
		}
		e := r.store.locked(&h.limit.Key)
		r.setSlots(e, e.inflight-h.weight)
		r.pending.slots(e.key)
		e.mu.Unlock()
	}
}
