package limit

import (
	"errors"
	"sync/atomic"
)

// Ticket is what a request has taken. It belongs to the request, as a part of its
// own struct, and may be used again once it holds no slot. The zero value holds
// nothing. It must not be copied.
type Ticket struct {
	owner    owner
	held     []held
	inline   [6]held
	settled  atomic.Bool
	released atomic.Bool
}

// owner is the limiter that a ticket is from.
type owner interface {
	settle(t *Ticket, actual int64)
	release(t *Ticket)
}

// held is one limit of a request.
type held struct {
	limit  Limit
	weight int64
	width  int64

	entry *entry // while the request is decided

	ceiling int64 // what sum and weight may come to: the amount, or this node's share
	fits    bool
	sum     int64 // what counts, with the weight if it was taken
	reset   int64 // µs
	retry   int64 // µs; below zero: never

	local bool  // decided by this node's counters
	own   int64 // bucket of this node's counters
	index int64 // bucket of Redis's; slots of other processes
	seq   int64 // of this process's slots
}

var errTicket = errors.New("the ticket still holds slots of another request")

// begin fills the ticket with a request's demands, one for each key.
func (t *Ticket) begin(demands []Demand) error {
	if t.owner != nil && !t.released.Load() && t.holdsSlots() {
		return errTicket
	}
	t.owner = nil
	t.settled.Store(false)
	t.released.Store(false)
	if t.held == nil {
		t.held = t.inline[:0]
	}
	t.held = t.held[:0]
	if len(demands) > maxDemands {
		return errDemands
	}
next:
	for i := range demands {
		d := &demands[i]
		if err := d.validate(); err != nil {
			return err
		}
		for k := range t.held {
			if h := &t.held[k]; h.limit.Key == d.Key {
				h.limit.Amount = min(h.limit.Amount, d.Amount)
				h.ceiling = h.limit.Amount
				h.weight = max(h.weight, d.Weight)
				continue next
			}
		}
		t.held = append(t.held, held{limit: d.Limit, weight: d.Weight, width: width(d.Window), ceiling: d.Amount})
	}
	return nil
}

func (t *Ticket) holdsSlots() bool {
	for i := range t.held {
		if t.held[i].limit.Kind == Concurrency {
			return true
		}
	}
	return false
}

// Settle says how many tokens the request used in truth. What it used beyond its
// estimate is charged to the newest bucket of its token limits, and what it did not
// use goes back to the bucket it was taken from, if that still counts. The first
// call counts.
func (t *Ticket) Settle(actual int64) {
	if t.owner != nil && !t.settled.Swap(true) {
		t.owner.settle(t, min(max(actual, 0), MaxAmount))
	}
}

// Release gives the slots of concurrency limits back. The first call counts.
func (t *Ticket) Release() {
	if t.owner != nil && !t.released.Swap(true) {
		t.owner.release(t)
	}
}
