package gateway

import (
	"context"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

// EventLog takes events.
type EventLog interface {
	// Append takes an event and its ownership. It must not block.
	Append(*event.Event)
	// AppendDurable is Append, but returns when the event is safe, or with an error
	// when it may not be.
	AppendDurable(context.Context, *event.Event) error
}

// Capture is how many bytes of a request's and an answer's body an event may
// hold; 0: none.
type Capture struct{ Request, Response int }

// publish hands the request's event over, unless that has happened.
func (x *exchange) publish() {
	if ev := x.event(); ev != nil {
		x.g.cfg.Events.Append(ev)
	}
}

// publishDurably is publish for an answer whose last bytes wait for it.
func (x *exchange) publishDurably() error {
	x.rec.Latency = time.Since(x.rec.Started)
	x.conclude(true)
	x.account()
	ev := x.event()
	if ev == nil {
		return nil
	}
	if err := x.g.cfg.Events.AppendDurable(x.ctx, ev); err != nil {
		x.meter.published = false // it is handed over once more when the request is over
		x.rec.Outcome = ""
		return errStore.WithCause(err)
	}
	return nil
}

// publishRefusal has an error of ours wait for its event as well. If that is not
// safe, the answer is not better for being held back.
func (x *exchange) publishRefusal() {
	if x.g.cfg.Durable && x.cause() == nil {
		_ = x.publishDurably()
	}
}

// event is a copy of the request's, or nil if it has none, or is out already.
func (x *exchange) event() *event.Event {
	if x.g.cfg.Events == nil || x.identity.Token == nil || x.meter.published || x.rec.Endpoint == SelfPath {
		return nil
	}
	x.meter.published = true
	ev := event.Get()
	*ev = x.rec.Event
	ev.Metadata = x.identity.Token.Policy.Metadata
	if ev.ClientIP = x.g.cfg.ClientIP(x.r); ev.EndUser == "" {
		ev.EndUser = headerEndUser(x.r.Header)
	}
	x.fillCaptured(ev)
	return ev
}
