package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Demand is what a request may use of an account.
type Demand struct {
	Limit
	Amount int64 // at most this: an upper bound of the request's cost, or 1 request
}

const (
	maxDemands = 4
	// patience is how long a request waits for the database.
	patience = 1500 * time.Millisecond
	// refusalLasts is how long nobody asks the database again for as much as did not fit.
	refusalLasts = 200 * time.Millisecond
)

var (
	errDemands = fmt.Errorf("a request with more than %d accounts, or with one of them twice", maxDemands)
	errTicket  = errors.New("the ticket still holds what another request asked for")
)

// Hold holds all that is demanded, and notes it in the ticket, or nothing, and says
// why. It takes no time as long as this process has leases of all accounts, and else
// waits for the database. Errors are [ErrUnavailable], wrapped, that of ctx, or tell of
// demands that make no sense.
func (l *Ledger) Hold(ctx context.Context, demands []Demand, t *Ticket) (Refusal, error) {
	if len(demands) > maxDemands {
		return Refusal{}, errDemands
	}
	if t.holding.Load() {
		return Refusal{}, errTicket
	}
	if len(demands) == 0 {
		return Refusal{}, nil
	}
	held, refusal, err := l.hold(ctx, demands, t.inline[:0])
	if err != nil || refusal.Kind != Admitted {
		return refusal, err
	}
	t.ledger, t.held = l, held
	t.holding.Store(true)
	return Refusal{}, nil
}

// Again holds as much money for another attempt of the same request as the ticket
// does. The last attempt's, which may be billed, is then settled at its hold; the
// request counts once. If it is refused the ticket holds what it did.
func (l *Ledger) Again(ctx context.Context, t *Ticket) (Refusal, error) {
	if !t.holding.Load() {
		return Refusal{}, nil
	}
	var demands [maxDemands]Demand
	n := 0
	for i := range t.held {
		if h := &t.held[i]; h.entry.key.Unit == Money {
			demands[n] = Demand{Limit{h.entry.key.Account, h.limit, h.version}, h.amount}
			n++
		}
	}
	if n == 0 {
		return Refusal{}, nil
	}
	var room [maxDemands]hold
	held, refusal, err := l.hold(ctx, demands[:n], room[:0])
	if err != nil || refusal.Kind != Admitted {
		return refusal, err
	}
	n = 0
	for i := range t.held {
		if h := &t.held[i]; h.entry.key.Unit == Money {
			old := *h
			*h = held[n]
			n++
			l.settle([]hold{old}, true, Unknown)
		}
	}
	return Refusal{}, nil
}

func (l *Ledger) hold(ctx context.Context, demands []Demand, held []hold) ([]hold, Refusal, error) {
	if l.closed.Load() {
		return nil, Refusal{}, fmt.Errorf("%w: %w", ErrUnavailable, errClosed)
	}
	for i := range demands {
		d := &demands[i]
		if err := d.validate(); err != nil {
			return nil, Refusal{}, err
		}
		if d.Amount < 0 || d.Limit.Amount < 0 {
			return nil, Refusal{}, fmt.Errorf("an amount of %d, or a limit of %d: expected neither to be negative", d.Amount, d.Limit.Amount)
		}
		for k := range i {
			if demands[k].Account == d.Account {
				return nil, Refusal{}, errDemands
			}
		}
		if spanOf(d.Period) > 0 && !l.clock.known() {
			if err := l.learn(ctx); err != nil {
				return nil, Refusal{}, err
			}
		}
	}
	now := l.clock.mono()
	held, refusal, ok := l.try(demands, held, now)
	if ok {
		return held, refusal, nil
	}
	return l.wait(ctx, demands, held, now+patience)
}

// learn asks for the database's time.
func (l *Ledger) learn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	sent := l.clock.mono()
	_, now, err := l.store.LedgerRows(ctx, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	l.clock.set(now, sent, l.clock.mono())
	return nil
}

// try decides without the database: ok, unless a lease lacks something.
func (l *Ledger) try(demands []Demand, held []hold, now time.Duration) (_ []hold, refusal Refusal, ok bool) {
	held = l.lock(demands, held, now)
	ok = true
	for i := range held {
		h := &held[i]
		e := h.entry
		if h.version > e.version || e.version == 0 {
			e.version, e.limit = h.version, h.limit
		}
		h.lacks = e.free < h.amount || now >= e.until
		switch {
		case refusal.Kind != Admitted:
		case h.amount > e.limit:
			refusal = e.tooLarge()
		case e.free < h.amount && e.refuses(h.amount, h.version, now):
			refusal = e.refuse(h.amount)
		}
		ok = ok && !h.lacks
	}
	ok = ok && refusal.Kind == Admitted
	if ok {
		for i := range held {
			h := &held[i]
			h.epoch = h.entry.epoch
			h.entry.take(h.amount, now)
			l.refill(h.entry)
		}
	}
	unlock(held)
	return held, refusal, ok || refusal.Kind != Admitted
}

// lock finds and locks the accounts' entries, sorted as all others lock them, so that
// nobody waits for each other.
func (l *Ledger) lock(demands []Demand, held []hold, now time.Duration) []hold {
	for {
		held = held[:0]
		for i := range demands {
			d := &demands[i]
			period := spanOf(d.Period)
			e := l.entries.get(&d.Account, period, l.clock.start(period, now))
			held = append(held, hold{entry: e, amount: d.Amount, version: d.Version, limit: min(d.Limit.Amount, MaxAmount)})
			for k := i; k > 0 && held[k].entry.order < held[k-1].entry.order; k-- {
				held[k], held[k-1] = held[k-1], held[k]
			}
		}
		removed := false
		for i := range held {
			held[i].entry.mu.Lock()
			removed = removed || held[i].entry.removed
		}
		if !removed {
			return held
		}
		unlock(held)
	}
}

func unlock(held []hold) {
	for i := range held {
		held[i].entry.mu.Unlock()
	}
}

// tooLarge is the answer to a hold above the whole limit, which needs no database.
func (e *entry) tooLarge() Refusal {
	row := e.row
	row.Limit = e.limit
	r := Refusal{Kind: HoldTooLarge, Balance: row.balance(&e.key, e.free, e.unflushed)}
	if e.key.Unit == Requests { // a request is never too large: there are no more of them
		r.Kind = Exceeded
	}
	return r
}

// wait waits for leases until the request is decided.
func (l *Ledger) wait(ctx context.Context, demands []Demand, held []hold, deadline time.Duration) ([]hold, Refusal, error) {
	timer := time.NewTimer(deadline - l.clock.mono())
	defer timer.Stop()
	for {
		for _, t := range l.join(held) {
			select {
			case <-ctx.Done():
				return nil, Refusal{}, fmt.Errorf("waiting for a lease of the budget: %w", ctx.Err())
			case <-timer.C:
				return nil, Refusal{}, fmt.Errorf("%w: no answer for %s", ErrUnavailable, patience)
			case <-l.done:
				return nil, Refusal{}, fmt.Errorf("%w: %w", ErrUnavailable, errClosed)
			case <-t.done:
			}
			if t.err != nil {
				return nil, Refusal{}, fmt.Errorf("%w: %w", ErrUnavailable, t.err)
			}
		}
		var refusal Refusal
		var ok bool
		if held, refusal, ok = l.try(demands, held, l.clock.mono()); ok {
			return held, refusal, nil
		}
	}
}

// join has the next operations of the leases that lack something include the request.
func (l *Ledger) join(held []hold) []*turn {
	var turns []*turn
	for i := range held {
		h := &held[i]
		if !h.lacks {
			continue
		}
		e := h.entry
		e.mu.Lock()
		if !e.removed {
			if e.next == nil {
				e.next = &turn{done: make(chan struct{})}
				if !e.busy {
					l.queue.push(e, true)
				}
			}
			e.next.needs = append(e.next.needs, h.amount)
			turns = append(turns, e.next)
		}
		e.mu.Unlock()
	}
	return turns
}

// refill asks for more when half of the chunk is used up.
func (l *Ledger) refill(e *entry) {
	if e.free < e.chunk/2 && !e.refill && !e.busy {
		e.refill = true
		l.queue.push(e, false)
	}
}
