package limit

// takeHere decides by this node's own counters about limits for which Redis
// cannot be asked since then: all are taken or none. ErrUnavailable: the share is
// too small to tell.
func (r *Redis) takeHere(all []held, v *view, since int64) (bool, error) {
	r.store.lock(all)
	defer unlock(all)
	now := r.clock()
	admitted, tiny := true, false
	for i := range all {
		h := &all[i]
		h.local = true
		h.share(v, now, since)
		if h.limit.Kind == Concurrency {
			h.checkSlots(h.entry.inflight)
		} else {
			h.entry.away = used(h.entry.away)
			h.check(h.entry.away, now)
		}
		admitted = admitted && h.fits
		tiny = tiny || h.weight > h.whole(v)
	}
	if tiny {
		return false, unavailable(v.err)
	}
	for i := range all {
		h := &all[i]
		e := h.entry
		switch {
		case h.limit.Kind == Concurrency && admitted:
			h.seq = r.setSlots(e, e.inflight+h.weight)
			h.sum += h.weight
			r.pending.slots(e.key)
		case h.limit.Kind == Concurrency:
		case admitted:
			h.take(e.away, now)
			r.mirror(e, h, now)
			e.unpushed = used(e.unpushed)
			e.unpushed.add(e.unpushed.index(now, h.width), h.weight)
		default:
			h.describe(e.away, now)
			if h.retry < 0 { // it fits a whole share, later
				h.retry = max(1, e.grace-now)
			}
		}
	}
	return admitted, nil
}

// whole is this node's share of the limit when what others took before Redis went
// away has left the window.
func (h *held) whole(v *view) int64 {
	if !v.ready || v.divisor < 1 {
		return 0
	}
	return h.limit.Amount / v.divisor
}

// share sets the ceiling to this node's share of the limit: of what was left
// of it when Redis was last asked, and after a window's length of all of it.
func (h *held) share(v *view, now, since int64) {
	h.ceiling = h.whole(v)
	if h.limit.Kind == Concurrency {
		h.shareSlots(v, now, since)
		return
	}
	e := h.entry
	e.grace = since + buckets*h.width
	if now >= e.grace || e.seenAt == 0 || now-e.seenAt >= buckets*h.width {
		return
	}
	if h.ceiling > 0 {
		h.ceiling = max(0, h.limit.Amount-e.seen) / v.divisor
	}
}

// shareSlots is share for Concurrency. What others use is in use for as long as their
// requests last, and they may have taken more since this node last heard of it: at
// first it goes by half of what was left, and by what it had.
func (h *held) shareSlots(v *view, now, since int64) {
	e, span := h.entry, slotsTrust.Microseconds()
	if now >= since+span || e.seenAt == 0 || since-e.seenAt >= span {
		return
	}
	if e.baseAt != since {
		e.base, e.baseAt = e.inflight, since
	}
	if h.ceiling > 0 {
		left := max(0, h.limit.Amount-e.seen-e.base)
		h.ceiling = min(h.ceiling, e.base+left/(2*v.divisor))
	}
}

// undoHere gives back what takeHere took.
func (r *Redis) undoHere(all []held) {
	if len(all) == 0 {
		return
	}
	r.store.lock(all)
	defer unlock(all)
	for i := range all {
		h := &all[i]
		e := h.entry
		h.sum -= h.weight
		if h.limit.Kind == Concurrency {
			r.setSlots(e, e.inflight-h.weight)
			r.pending.slots(e.key)
			continue
		}
		for _, w := range [...]*window{e.counts, e.away, e.unpushed} {
			if w != nil {
				w.refund(h.own, h.weight)
			}
		}
	}
}

// mirror counts what this node has admitted, to tell Redis again should it lose its
// counters. The entry is locked.
func (r *Redis) mirror(e *entry, h *held, now int64) {
	h.own = e.counts.index(now, h.width)
	e.counts.add(h.own, h.weight)
}

// setSlots changes how many slots this process uses. The entry is locked; later
// changes have higher numbers.
func (r *Redis) setSlots(e *entry, n int64) int64 {
	e.inflight = n
	e.seq = r.seq.Add(1)
	return e.seq
}
