package gateway

import (
	"net/http"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

// replay answers with what is stored.
func (x *exchange) replay() *apierr.Error {
	c := x.cached
	e := c.stored
	if x.rec.Cache = CacheHit; c.decision.Stale {
		x.rec.Cache = CacheStale
	}
	x.rec.ResponseModel, x.rec.ServiceTier = e.Usage.Model, e.Usage.ServiceTier
	x.rec.SavedTokens = e.Usage.Input + e.Usage.Output
	if c.decision.NotModified {
		x.writeNotModified(&e.Meta, true)
		return nil
	}
	h := x.w.Header()
	e.Meta.CopyStored(h)
	paced, length := x.g.cfg.Cache.Paced && len(e.Marks) > 1, len(e.Body)
	if paced {
		length = -1
	}
	x.rec.Stream = x.rec.Stream || isEventStream(h)
	x.beginReplay(e.Meta.Status, &e.Meta, length)
	x.meter.response.limit = x.g.cfg.Capture.Response
	x.meter.response.add(e.Body)
	if x.g.cfg.Durable && !x.meter.published {
		if x.method != http.MethodHead {
			x.rec.BytesOut = int64(len(e.Body))
		}
		if err := x.publishDurably(); err != nil {
			x.rec.BytesOut = 0
			x.abort(&outlet{w: x.w}, err, false)
		}
	}
	if x.method == http.MethodHead {
		return nil
	}
	x.rec.FirstByte = time.Since(x.rec.Started)
	x.rec.TTFT = x.rec.FirstByte
	out := outlet{w: x.w}
	var err error
	if paced {
		err = x.replayPaced(&out, e)
	} else {
		err = out.write(e.Body)
	}
	if x.rec.BytesOut = out.written; err != nil {
		x.abort(&out, err, x.rec.Stream)
	}
	return nil
}

// writeNotModified says that the client has what is stored. The event is this request's
// own, or the fetch's.
func (x *exchange) writeNotModified(m *httpcache.Meta, own bool) {
	m.CopyNotModified(x.w.Header(), time.Now())
	x.beginReplay(http.StatusNotModified, m, -1)
	if x.g.cfg.Durable && !x.meter.published && own {
		_ = x.publishDurably() // there is nothing that it could be held back from
	}
}

// beginReplay sends the header of an answer of our own.
func (x *exchange) beginReplay(status int, m *httpcache.Meta, length int) {
	x.rec.Status, x.wrote = status, true
	x.rec.Overhead = max(0, time.Since(x.rec.Started)-x.rec.Upstream-x.reading)
	x.addStored(x.w.Header(), m, length)
	x.w.WriteHeader(status)
}

// replayPaced writes a stream piece by piece, as it came.
func (x *exchange) replayPaced(out *outlet, e *respcache.Entry) error {
	out.rc = http.NewResponseController(x.w)
	out.flush()
	began, from := time.Now(), int64(0)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for _, m := range e.Marks {
		if wait := m.At - time.Since(began); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-x.ctx.Done():
				return x.cause()
			}
		}
		if err := out.write(e.Body[from:m.End]); err != nil {
			return err
		}
		out.flush()
		from = m.End
	}
	return out.write(e.Body[from:])
}
