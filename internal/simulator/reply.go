package simulator

import (
	"net/http"
	"strconv"
)

const trailerName = "X-Sim-Trailer"

// frame is one event of a stream.
type frame struct {
	event string // SSE event name, empty for none
	data  []byte
}

// form is how one endpoint writes an answer down, whole or as a stream.
type form interface {
	whole() object
	// open is sent before the first piece.
	open() []frame
	// piece is sent for the answer's i-th piece.
	piece(i int) []frame
	// end is sent after the last piece: finish reason, usage, end mark.
	end() []frame
	// failure is the dialect's error in the middle of a stream.
	failure(p problem) frame
}

// reply gives the answer in its form.
func (c *call) reply(p *prompt, b behaviour, a *answer, f form) {
	if p.stream {
		c.stream(f, a, b, sse(b.crlf))
		return
	}
	if b.errorMidstream {
		c.refuse(injected(http.StatusInternalServerError))
		return
	}
	c.s.stats.tokens(a.usage.prompt, a.emitted(len(a.pieces)))
	c.body(b, "application/json", encode(f.whole()))
}

// body answers 200 with the faults that concern bodies: cut in half, silent in
// the middle, with a trailer.
func (c *call) body(b behaviour, contentType string, body []byte) {
	if b.trailer {
		c.w.Header().Set("Trailer", trailerName)
		defer c.w.Header().Set(trailerName, "done")
	} else {
		c.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	c.stamp()
	c.w.Header().Set("Content-Type", contentType)
	c.w.WriteHeader(http.StatusOK)
	if b.abort || b.silent > 0 {
		half := len(body) / 2
		_, _ = c.w.Write(body[:half])
		_ = http.NewResponseController(c.w).Flush()
		if b.abort {
			panic(http.ErrAbortHandler)
		}
		c.wait(b.silent)
		body = body[half:]
	}
	_, _ = c.w.Write(body)
}
