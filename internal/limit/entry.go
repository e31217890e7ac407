package limit

import "sync"

// entry is the state of one limit in this process.
type entry struct {
	key   Key
	order uint64 // entries are locked in this order
	name  string // its key in Redis

	mu       sync.Mutex
	gone     bool    // taken out of the store
	counts   *window // admitted by this node; nil for Concurrency
	inflight int64   // slots in use by this process

	// What follows is for Redis alone.
	seq      int64   // of the last count of slots that was told or asked with
	toldAt   int64   // when Redis was last told of an admission; 0: never
	seen     int64   // sum over all nodes when Redis was last asked; of slots, over the others
	seenAt   int64   // when that was; 0: never
	away     *window // admitted by this node without Redis; nil: nothing
	unpushed *window // the part of away that Redis has not been told; nil: nothing
	grace    int64   // until when the share is what was left of the limit
	base     int64   // slots in use when Redis went away
	baseAt   int64   // when that was
}

// check sees whether the weight fits under the ceiling, by the counters of w.
func (h *held) check(w *window, now int64) {
	h.own = w.index(now, h.width)
	h.sum = w.live(h.own)
	h.fits = h.sum+h.weight <= h.ceiling
}

// take takes what was checked.
func (h *held) take(w *window, now int64) {
	w.add(h.own, h.weight)
	h.sum += h.weight
	h.describe(w, now)
}

// describe says how the limit stands, for headers and for who is refused.
func (h *held) describe(w *window, now int64) {
	h.reset = w.reset(h.own, now, h.width)
	switch {
	case h.fits:
	case h.weight > h.ceiling:
		h.retry = -1
	default:
		h.retry = w.wait(h.own, now, h.width, h.sum+h.weight-h.ceiling)
	}
}

// checkSlots is check for Concurrency.
func (h *held) checkSlots(inflight int64) {
	h.sum = inflight
	h.fits = inflight+h.weight <= h.ceiling
	h.retry = 0
	if h.weight > h.ceiling {
		h.retry = -1
	}
}

// used is a window to count in.
func used(w *window) *window {
	if w == nil {
		w = new(window)
	}
	return w
}
