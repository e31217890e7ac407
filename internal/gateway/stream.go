package gateway

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
)

// copyBufferSize is the most that is read from a provider at once.
const copyBufferSize = 32 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copyBufferSize]byte) }}

// relay passes the provider's answer on, as it comes.
func (x *exchange) relay(resp *http.Response) *apierr.Error {
	h := x.w.Header()
	copyResponseHeader(h, resp.Header)
	if x.cached != nil && !x.fetching {
		x.cached.status.Set(h)
	}
	x.addHeaders(h)
	x.rec.Status = resp.StatusCode
	x.rec.UpstreamRequestID = upstreamRequestID(resp.Header)
	events := isEventStream(resp.Header)
	x.rec.Stream = x.rec.Stream || events
	x.rec.Overhead = max(0, time.Since(x.rec.Started)-x.rec.Upstream-x.reading)
	if len(resp.Trailer) > 0 {
		h["Trailer"] = []string{strings.Join(slices.Sorted(maps.Keys(resp.Trailer)), ", ")}
	}
	out := outlet{w: x.w}
	if x.meter.begin(x, resp, &out, events); x.meter.filter != nil {
		delete(h, "Content-Length") // some of it is taken out
	}
	x.wrote = true
	x.w.WriteHeader(resp.StatusCode)

	// Anything without a length may be a stream, whatever its type says: Gemini
	// streams JSON arrays.
	if events || resp.ContentLength < 0 {
		out.rc = http.NewResponseController(x.w)
	}
	if events {
		out.flush() // the client learns of its stream before the first event
	}
	err := x.copyBody(&out, resp.Body)
	if err == nil {
		maps.Copy(h, resp.Trailer)
		if a, ok := x.w.(*fillAnswer); ok {
			a.trailer = resp.Trailer
		}
		return nil
	}
	x.abort(&out, err, events)
	return nil
}

func isEventStream(h http.Header) bool {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "text/event-stream")
}

// outlet writes to the client.
type outlet struct {
	w       http.ResponseWriter
	rc      *http.ResponseController // nil: the server's buffering is fine
	tail    [2]byte                  // the last bytes written
	clients bool                     // an error was the client's side's
	written int64
	flushed int64 // of written, when flush was last called
}

// Write implements [io.Writer].
func (o *outlet) Write(p []byte) (int, error) {
	if err := o.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (o *outlet) write(p []byte) error {
	if _, err := o.w.Write(p); err != nil {
		o.clients = true
		return err
	}
	o.written += int64(len(p))
	switch n := len(p); {
	case n >= 2:
		o.tail = [2]byte(p[n-2:])
	case n == 1:
		o.tail = [2]byte{o.tail[1], p[0]}
	}
	return nil
}

func (o *outlet) flush() {
	if o.rc != nil {
		o.flushed = o.written
		_ = o.rc.Flush() // not supported: then there is no buffer; a dead client shows at the next write
	}
}

// copyBody copies until the provider's clean end. While it waits for the
// provider, and only then, the idle timeout runs.
func (x *exchange) copyBody(out *outlet, body io.Reader) error {
	buf := copyBuffers.Get().(*[copyBufferSize]byte)
	defer copyBuffers.Put(buf)
	idle := x.route.Provider.IdleTimeout
	for {
		x.g.cfg.Inflight.await(&x.flight, idle)
		n, readErr := body.Read(buf[:])
		x.flight.arrived()
		if n > 0 {
			if x.rec.FirstByte == 0 {
				x.rec.FirstByte = time.Since(x.rec.Started)
			}
			err := x.pass(out, buf[:n])
			x.rec.BytesOut = out.written
			if err != nil {
				return err
			}
		}
		switch {
		case readErr == io.EOF:
			return x.complete(out)
		case readErr != nil:
			return readErr
		case out.written > out.flushed:
			out.flush()
		}
	}
}

// abort ends an answer that has begun so that nobody takes it for complete: a
// stream gets an error event in its dialect, then the connection is broken off.
func (x *exchange) abort(out *outlet, err error, events bool) {
	problem := errUpstream
	switch cause := x.cause(); {
	case cause != nil && errors.As(cause, &problem):
		x.rec.Outcome = OutcomeCut
		if problem == errUpstreamTimeout {
			x.rec.Outcome = OutcomeUpstreamError
		}
	case cause != nil, out.clients:
		x.rec.Outcome = OutcomeClientCancelled
	case errors.As(err, &problem):
		x.rec.Outcome = OutcomeCut
	default:
		x.rec.Outcome = OutcomeUpstreamError
	}
	x.rec.Code = problem.Code
	if x.rec.Outcome == OutcomeClientCancelled {
		x.rec.Code = ""
	} else {
		x.g.cfg.Logger.Warn("answer broken off", "request_id", x.rec.RequestID, "provider", x.rec.Provider,
			"outcome", x.rec.Outcome, "code", problem.Code, "bytes", x.rec.BytesOut, "cause", err)
		if events && (x.meter.filter == nil || x.meter.filter.Close() == nil) {
			x.rec.BytesOut = out.written
			x.sendErrorEvent(out, problem)
		}
	}
	panic(http.ErrAbortHandler)
}

func (x *exchange) sendErrorEvent(out *outlet, problem *apierr.Error) {
	if x.rec.BytesOut > 0 && out.tail != [2]byte{'\n', '\n'} {
		_ = out.write([]byte("\n\n")) // ends the event that was under way
	}
	err := out.write(x.dialect().Event(problem, x.rec.RequestID))
	out.flush()
	if err == nil && !x.fetching {
		x.lingerForReset()
	}
}

// lingerForReset waits for a moment before a stream of HTTP/3 is reset.
func (x *exchange) lingerForReset() {
	if x.r.ProtoMajor != 3 {
		return
	}
	timer := time.NewTimer(resetDelay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-x.r.Context().Done():
	}
}

// resetDelay keeps a stream of HTTP/3 open after its last event: the reset that
// follows would overtake what the client has not read yet (RFC 9000, 3.2).
const resetDelay = 200 * time.Millisecond
