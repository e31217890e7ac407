// Package guest is what modules of other people implement to extend caddy-llm-proxy
// in the same Caddy binary.
//
// A sink receives events: those of requests, and alerts about what they have used. It is
// a type that implements [caddy.Module],
// with an ID below llm_proxy.sinks, and [Sink]. It may implement
// caddy.Provisioner, caddy.Validator, caddy.CleanerUpper and, for the Caddyfile,
// caddyfile.Unmarshaler besides. docs/events.md has an example.
//
// [caddy.Module]: https://pkg.go.dev/github.com/caddyserver/caddy/v2#Module
package guest

import (
	"context"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

// Event is what is known of one request when it is over, or an [Alert]: then its Alert is
// not nil, and it has an ID, a Time, a ProjectID and maybe a TokenID, and nothing else.
// Whoever counts requests leaves those out. Its ID is the same however often the event is
// delivered.
type Event = event.Event

// Alert says that so much of a quota or budget is used.
type Alert = event.Alert

// Sink is where events go.
type Sink interface {
	// Deliver hands over a batch of at least one event, in the order in which they
	// were recorded. nil says that the receiver has all of them. Any error has the
	// same events delivered again after a while, unless it comes from [Permanent],
	// [Reject] or [RetryAfter].
	//
	// Every event is delivered at least once, and after a crash or a time-out maybe
	// once more, with the same ID.
	//
	// Deliver is called again only when it has returned, and must return soon after
	// ctx ends. It must neither keep nor change the events. Its errors are shown to
	// operators: they must not hold secrets.
	Deliver(ctx context.Context, events []Event) error
}

// Permanent says that trying these events again is of no use, as the receiver
// refuses what they are. A batch is then delivered in halves, until those that are
// refused stand alone: they become dead letters, which an operator may requeue.
func Permanent(err error) error { return delivery.Permanent(err) }

// Reject says that the receiver has all events of the batch but these, by their
// index, which it will never accept: they become dead letters. Of an empty map it
// makes nil.
func Reject(events map[int]error) error { return delivery.Reject(events) }

// RetryAfter says that the receiver wants to be left alone for a time, of which an
// hour counts at most.
func RetryAfter(after time.Duration, err error) error { return delivery.RetryAfter(after, err) }

var _ delivery.Sink = Sink(nil)
