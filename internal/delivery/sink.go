// Package delivery brings the events of the log to sinks: each at its own pace,
// in the order of the log, every event at least once.
package delivery

import (
	"cmp"
	"context"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

// Event is what is delivered. Its ID is the same however often it is delivered.
type Event = event.Event

// Sink is where events go.
type Sink interface {
	// Deliver hands over a batch of at least one event, in the order of the log. It
	// returns nil when the receiver has all of them: they are not delivered again
	// then, unless the process dies before that is noted. Any other error means that
	// the batch is delivered again, after a while; [Permanent], [Reject] and
	// [RetryAfter] say more. It must return soon after ctx ends, is not called again
	// before it has returned, and must not keep or change the events.
	Deliver(ctx context.Context, events []Event) error
}

// Defaults of a [Spec].
const (
	DefaultBatch   = 100
	DefaultLinger  = 200 * time.Millisecond
	DefaultTimeout = 30 * time.Second
)

// Spec is a sink with what is wanted of its deliveries. Name and Sink are required.
type Spec struct {
	Name string // its cursor's, so that a sink that changes its type keeps its place
	Sink Sink

	// FromBeginning has a sink that is new start with the oldest event that the log
	// has, not with those that are still to come.
	FromBeginning bool

	Batch   int           // events at a time, at most; 0: DefaultBatch
	Linger  time.Duration // how long to wait for a batch to fill up; 0: DefaultLinger, negative: not at all
	Timeout time.Duration // of one attempt; 0: DefaultTimeout
	Backoff Backoff       // zero fields: those of DefaultBackoff
}

func (s Spec) withDefaults() Spec {
	s.Batch = cmp.Or(s.Batch, DefaultBatch)
	s.Linger = max(0, cmp.Or(s.Linger, DefaultLinger))
	s.Timeout = cmp.Or(s.Timeout, DefaultTimeout)
	s.Backoff.Attempts = cmp.Or(s.Backoff.Attempts, DefaultBackoff.Attempts)
	s.Backoff.For = cmp.Or(s.Backoff.For, DefaultBackoff.For)
	return s
}
