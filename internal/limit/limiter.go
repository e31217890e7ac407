package limit

import (
	"context"
	"errors"
	"time"
)

// ErrUnavailable means that nobody can say whether the request fits: Redis is
// away, and the policy or the size of this node's share leaves no answer.
var ErrUnavailable = errors.New("the shared counters cannot be reached: see whether Redis runs")

// Policy is what happens while Redis is away.
type Policy uint8

// The policies.
const (
	// Local admits what this node's share of each limit allows.
	Local Policy = iota
	// Deny admits nothing.
	Deny
)

// Request is what one request demands.
type Request struct {
	// Demands are the limits that apply. Of two with one key the smaller amount and
	// the larger weight count, once.
	Demands []Demand

	OnFailure Policy
}

// Limiter admits requests: each against all of its limits, at once or not at all.
type Limiter interface {
	// Take takes what the request demands and notes it in the ticket, or takes
	// nothing and says why. The ticket must hold nothing from a call before. Errors
	// are ErrUnavailable, wrapped, or tell of demands that are out of bounds. It never
	// takes longer than 100 ms; ctx ending does not end it sooner, lest nobody knew
	// what had been taken.
	Take(ctx context.Context, r Request, t *Ticket) (Decision, error)
}

// Decision is the answer to a request.
type Decision struct {
	Admitted bool

	// Refused is the limit that did not allow it; of several, the one that will stand
	// in the way longest.
	Refused Limit

	// RetryAfter is when enough will have left the window for the request to fit, if
	// nobody else takes it first. It is a second for Concurrency, of which nobody
	// knows.
	RetryAfter time.Duration

	// Never says that no wait helps: the request weighs more than the whole limit.
	Never bool

	// Requests and Tokens are the tightest limit of each kind, for headers.
	Requests, Tokens Quota
}

// Quota is how a limit stands after the decision.
type Quota struct {
	Present   bool // a limit of this kind applies
	Limit     int64
	Remaining int64
	Reset     time.Duration // until all of the limit is free, if nothing more is taken
}

// slotRetry is the wait that is advised when a slot is missing.
const slotRetry = time.Second

// decide sums up what was found for each limit.
func decide(all []held) Decision {
	d := Decision{Admitted: true}
	for i := range all {
		h := &all[i]
		switch h.limit.Kind {
		case Requests:
			d.Requests.tighten(h)
		case Tokens:
			d.Tokens.tighten(h)
		}
		if h.fits {
			continue
		}
		never, wait := h.retry < 0, time.Duration(max(h.retry, 0))*time.Microsecond
		if h.limit.Kind == Concurrency && !never {
			wait = slotRetry
		}
		longer := never && !d.Never || never == d.Never && wait > d.RetryAfter
		// Of two that take as long, always the same: limits come in any order here.
		same := never == d.Never && wait == d.RetryAfter
		if d.Admitted || longer || same && h.limit.before(&d.Refused) {
			d.Refused, d.RetryAfter, d.Never = h.limit, wait, never
		}
		d.Admitted = false
	}
	return d
}

// tooHeavy refuses demands that fit at no time, without a look at the counters.
func tooHeavy(all []held) (d Decision, refused bool) {
	for i := range all {
		if h := &all[i]; h.weight > h.ceiling {
			return Decision{Refused: h.limit, Never: true}, true
		}
	}
	return Decision{Admitted: true}, false
}

// tighten makes q the tighter one of itself and a limit.
func (q *Quota) tighten(h *held) {
	other := Quota{
		Present:   true,
		Limit:     h.limit.Amount,
		Remaining: max(0, h.ceiling-h.sum),
		Reset:     time.Duration(h.reset) * time.Microsecond,
	}
	if !q.Present || other.Remaining < q.Remaining || other.Remaining == q.Remaining && other.Reset > q.Reset {
		*q = other
	}
}
