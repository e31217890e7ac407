package ledger

import (
	"errors"
	"time"
)

// Errors of [Ledger.Hold].
var (
	// ErrUnavailable says that the database is away, and no lease is left.
	ErrUnavailable = errors.New("the quotas and budgets cannot be reached: see whether the database answers")

	errClosed = errors.New("the ledger is closed")
)

// Kind is why a request does not fit.
type Kind uint8

// The kinds. The zero Kind is no refusal.
const (
	Admitted     Kind = iota
	HoldTooLarge      // it asks for more than the whole limit
	Exceeded          // too much is spent in this period
	InFlight          // too much is held by other requests: some of it will be free again
)

// Refusal is why a request does not fit. The zero Refusal is none.
type Refusal struct {
	Kind Kind
	Balance
}

// Balance is how an account stands in its current period.
type Balance struct {
	Account
	Limit     int64
	Used      int64     // spent, or forfeited
	Held      int64     // by requests, or leased to another node
	Available int64     // what is left
	ResetsAt  time.Time // UTC; zero: never
}

// balance is the row's, seen by a process that has that much of it free, and has
// settled that much of which the database does not know.
func (r *Row) balance(k *Key, free, unflushed int64) Balance {
	b := Balance{Account: k.Account, Limit: r.Limit, Used: r.Spent + r.Forfeited + unflushed, Held: max(0, r.Leased-unflushed-max(free, 0))}
	b.Available = max(0, b.Limit-b.Used-b.Held)
	if spanOf(k.Period) > 0 {
		_, b.ResetsAt = Span(k.Period, time.UnixMicro(k.Start))
	}
	return b
}

// refuse says why the amount does not fit, which the caller has found.
func (e *entry) refuse(amount int64) Refusal {
	r := Refusal{Kind: InFlight, Balance: e.row.balance(&e.key, e.free, e.unflushed)}
	switch {
	case amount > r.Limit && e.key.Unit == Money:
		r.Kind = HoldTooLarge
	case amount > r.Limit-r.Used:
		r.Kind = Exceeded
	}
	return r
}

// refuses reports whether an amount that the lease does not have is known not to fit.
func (e *entry) refuses(amount, version int64, now time.Duration) bool {
	return e.refused > 0 && amount >= e.refused && now-e.refusedAt < refusalLasts && version <= e.row.Version
}
