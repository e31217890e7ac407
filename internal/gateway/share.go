package gateway

import (
	"crypto/rand"
	"errors"
	"io"
	"maps"
	"net/http"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/fill"
	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
)

// share gets the answer from a fill: one under way for the same request, or one that
// begins with this.
func (x *exchange) share(req *http.Request) *apierr.Error {
	c := x.cached
	key := fill.Key(c.primary)
	if !c.decision.Join {
		_, _ = rand.Read(key[:]) // it wants an answer of its own; never fails
	}
	f := x.fork(req)
	reader, _ := x.g.cfg.Cache.Fills.Join(key, x.start(f))
	defer func() {
		if reader.Close(); reader.Role() == fill.Leader { // which does not change any more
			x.fetched, x.governed = f, nil
		}
	}()
	shared, err := x.follow(reader, f)
	if shared {
		return err
	}
	reader.Close()
	return x.forward(req)
}

// follow answers the client from a fill. Not shared: the answer turned out to be
// somebody else's, and nothing of it has been passed on.
func (x *exchange) follow(reader *fill.Reader, f *fetch) (shared bool, _ *apierr.Error) {
	head, err := reader.Header(x.ctx)
	leads := reader.Role() == fill.Leader
	switch {
	case err == nil:
	case errors.Is(err, fill.ErrNotShared), !leads && x.othersKey(err):
		return false, nil
	default:
		return true, x.fillFailure(err, leads, f)
	}
	h := head.About.(*heading)
	if !leads && !x.sharing(h) {
		return false, nil
	}
	x.headerT = time.Now()
	if leads {
		x.rec.Attempts, x.rec.Upstream, x.rec.KeyID, x.rec.UpstreamRequestID = h.attempts, h.upstream, h.keyID, h.id
		if h.renewed {
			x.rec.Cache = CacheRevalidated
		}
		if head.Status >= 500 && x.standsIn(head.Status) {
			return true, nil
		}
	} else {
		x.rec.Cache = CacheCoalesced
		x.returnHolds()
	}
	if h.meta != nil && httpcache.NotModified(&x.cached.req, h.meta) {
		x.cached.status.Upstream = http.StatusOK
		if h.renewed {
			x.cached.status.Upstream = http.StatusNotModified
		}
		x.writeNotModified(h.meta, !leads)
		return true, nil
	}
	x.writeShared(head, h, leads)
	return true, x.passShared(reader, head)
}

// othersKey reports whether what has failed is the key of another project, which says
// nothing of this one's.
func (x *exchange) othersKey(err error) bool {
	var ours *apierr.Error
	return x.g.cfg.Cache.Rules.Scope == httpcache.Shared && errors.As(err, &ours) && ours.Code == apierr.CredentialsExhausted
}

// sharing reports whether an answer to another request is one to this. If its header
// had come before this request, it is held against the rules like one that is stored:
// waiting for the rest makes it no newer.
func (x *exchange) sharing(h *heading) bool {
	c := x.cached
	if h.meta == nil || h.variant != c.variant(h.meta.Vary) {
		c.status.Forward = httpcache.ForwardVaryMiss
		return false
	}
	if !h.meta.AlwaysConfirm && !x.rec.Started.After(h.meta.ResponseTime) {
		return true
	}
	d := httpcache.Evaluate(&c.req, h.meta, time.Now(), &x.g.cfg.Cache.Rules)
	if d.Action == httpcache.Answer {
		return true
	}
	c.status.Forward, c.status.Detail = d.Forward, d.Reason
	return false
}

// fillFailure explains why a fill has no answer.
func (x *exchange) fillFailure(err error, leads bool, f *fetch) *apierr.Error {
	if x.cause() != nil { // the client has left, or we have cut it
		return errUpstream.WithCause(err)
	}
	if leads {
		f.mu.Lock()
		if f.over {
			x.adopt(f)
		}
		f.mu.Unlock()
	}
	if x.standsIn(0) {
		return nil
	}
	var ours *apierr.Error
	if errors.As(err, &ours) {
		return ours
	}
	return errUpstream.WithCause(err)
}

// writeShared sends the header of an answer that comes from a fill.
func (x *exchange) writeShared(head fill.Head, answer *heading, leads bool) {
	h := x.w.Header()
	c := x.cached
	if leads {
		maps.Copy(h, answer.raw)
		c.status.Stored = head.Storable
		if !head.Storable && c.status.Detail == httpcache.ReasonNone {
			c.status.Detail = answer.reason
		}
	} else {
		answer.meta.CopyHeader(h, time.Now())
		c.status.Collapsed = true
	}
	if answer.renewed {
		c.status.Upstream = http.StatusNotModified
	}
	c.status.Set(h)
	x.rec.Status = head.Status
	x.rec.Stream = x.rec.Stream || isEventStream(head.Header)
	x.rec.Overhead = max(0, time.Since(x.rec.Started)-x.rec.Upstream-x.reading)
	x.addHeaders(h)
	x.wrote = true
	x.w.WriteHeader(head.Status)
}

// passShared passes the body of an answer on as it comes.
func (x *exchange) passShared(reader *fill.Reader, head fill.Head) *apierr.Error {
	out := outlet{w: x.w}
	if events := isEventStream(head.Header); events || head.Length == 0 {
		out.rc = http.NewResponseController(x.w)
		if events {
			out.flush()
		}
	}
	x.meter.response.limit = x.g.cfg.Capture.Response
	last := x.beginLast(head)
	for {
		chunk, err := reader.Next(x.ctx)
		switch {
		case err == io.EOF:
			maps.Copy(x.w.Header(), reader.Trailer())
			if x.durableReader(reader, head.Status) {
				if err := x.publishDurably(); err != nil {
					x.abort(&out, err, out.rc != nil)
				}
			}
			return nil
		case err != nil:
			x.breakOff(&out, err, isEventStream(head.Header))
		}
		if x.rec.FirstByte == 0 {
			x.rec.FirstByte = time.Since(x.rec.Started)
			if reader.Role() == fill.Follower {
				x.rec.TTFT = x.rec.FirstByte
			}
		}
		x.meter.response.add(chunk.Data)
		if last.is(chunk.Data) && x.durableReader(reader, head.Status) {
			x.rec.BytesOut = out.written + int64(len(chunk.Data)) // which go out if the event is safe
			if err := x.publishDurably(); err != nil {
				x.abort(&out, err, out.rc != nil)
			}
		}
		err = out.write(chunk.Data)
		x.rec.BytesOut = out.written
		if err != nil {
			x.abort(&out, err, false)
		}
		if !chunk.More {
			out.flush()
		}
	}
}

// breakOff ends an answer whose fill has not come to its end. The fetch has told the
// readers of a stream why, in a last event.
func (x *exchange) breakOff(out *outlet, err error, events bool) {
	if x.cause() != nil || errors.Is(err, fill.ErrTooSlow) {
		x.abort(out, err, events)
	}
	x.rec.Outcome, x.rec.Code = OutcomeUpstreamError, errUpstream.Code
	if out.flush(); events && x.r.ProtoMajor == 3 {
		x.lingerForReset()
	}
	panic(http.ErrAbortHandler)
}

// refresh has what is stored and stale replaced behind the client's back. The request
// pays for it, in an event of its own.
func (x *exchange) refresh(req *http.Request) {
	f := x.fork(req)
	fresh := newRecord()
	f.record.ID, f.record.RequestID, f.record.Time, f.record.Started = fresh.ID, fresh.RequestID, fresh.Time, fresh.Started
	f.record.Cache, f.record.Latency = CacheMiss, 0
	f.cached.decision = httpcache.Decision{Action: httpcache.SendOn, Store: true}
	if f.cached.meta().Validated() {
		f.cached.decision.Action = httpcache.Confirm
	}
	f.alone = true
	start := x.start(f)
	start.Expected = true
	reader, _ := x.g.cfg.Cache.Fills.Join(fill.Key(x.cached.primary), start)
	reader.Close()
	if reader.Role() == fill.Leader {
		x.governed = nil
	}
}

// ender finds the last piece of an answer, for an event that has to be safe before.
type ender struct {
	left  int64
	known bool
}

// beginLast prepares for it.
func (x *exchange) beginLast(head fill.Head) ender {
	return ender{left: head.Length, known: head.Length > 0}
}

func (e *ender) is(p []byte) bool {
	e.left -= int64(len(p))
	return e.known && e.left <= 0
}

// durableReader reports whether the end of the answer waits for this request's own
// event: that of the request that leads is published by the fetch, unless it has
// failed, when something else may yet stand in.
func (x *exchange) durableReader(reader *fill.Reader, status int) bool {
	return x.g.cfg.Durable && !x.meter.published && (reader.Role() == fill.Follower || status >= http.StatusMultipleChoices)
}
