package ledger

import "sync/atomic"

// Ticket is what a request holds. It belongs to the request, as a part of its own
// struct, and may be used again once it is settled. The zero value holds nothing. It
// must not be copied.
type Ticket struct {
	ledger  *Ledger
	held    []hold
	inline  [maxDemands]hold
	holding atomic.Bool
}

// hold is what a request holds of one account.
type hold struct {
	entry   *entry
	amount  int64
	version int64
	limit   int64
	epoch   uint32
	lacks   bool // while the request is decided
}

// Unknown is the cost of an attempt that may be billed, and brought no final usage.
const Unknown int64 = -1

// Holds reports whether the ticket holds something.
func (t *Ticket) Holds() bool { return t.holding.Load() }

// Held is what the ticket holds of money, the most if there are several accounts.
func (t *Ticket) Held() (nano int64) {
	if t.holding.Load() {
		for i := range t.held {
			if t.held[i].entry.key.Unit == Money {
				nano = max(nano, t.held[i].amount)
			}
		}
	}
	return nano
}

// Settle ends the holds of an attempt that may have reached the provider: its cost is
// charged, all of the hold if it is [Unknown], and the request counts. The first call
// of Settle or Release counts.
func (t *Ticket) Settle(nano int64) {
	if t.holding.Swap(false) {
		t.ledger.settle(t.held, true, nano)
	}
}

// Release gives everything back: nothing has reached a provider. The first call of
// Settle or Release counts.
func (t *Ticket) Release() {
	if t.holding.Swap(false) {
		t.ledger.settle(t.held, false, 0)
	}
}

// settle ends holds.
func (l *Ledger) settle(held []hold, sent bool, nano int64) {
	for i := range held {
		h := &held[i]
		cost := int64(0)
		switch {
		case !sent:
		case h.entry.key.Unit == Requests || nano < 0:
			cost = h.amount
		default:
			cost = min(nano, max(h.amount, maxCost))
		}
		h.entry.mu.Lock()
		h.entry.settle(h, cost)
		h.entry.mu.Unlock()
		if over := cost - h.amount; over > 0 && l.onOvershoot != nil {
			l.onOvershoot(h.entry.key.Account, over)
		}
	}
}
