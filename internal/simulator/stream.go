package simulator

import (
	"errors"
	"net/http"
)

// framing is how frames are laid out in the response body.
type framing struct {
	contentType string
	// before and after enclose a whole stream, between separates two frames.
	before, between, after string
	// lineEnd ends the lines of server-sent events; empty for none.
	lineEnd string
	// comment precedes each event.
	comment string
}

// sse is the framing of server-sent events, on request in the rarer shape the
// specification allows as well.
func sse(crlf bool) framing {
	if crlf {
		return framing{contentType: "text/event-stream; charset=utf-8", lineEnd: "\r\n", comment: ": simulated keep-alive\r\n"}
	}
	return framing{contentType: "text/event-stream; charset=utf-8", lineEnd: "\n"}
}

// jsonArray is Gemini's framing without alt=sse: a JSON array that arrives
// element by element.
var jsonArray = framing{contentType: "application/json; charset=UTF-8", before: "[", between: ",\r\n", after: "]"}

// stream writes the frames of one answer.
type stream struct {
	c       *call
	rc      *http.ResponseController
	framing framing
	buf     []byte
	sent    int
}

// stream gives the answer frame by frame, with the faults that concern streams.
func (c *call) stream(f form, a *answer, b behaviour, fr framing) {
	c.streaming = true
	c.s.stats.update(func(s *Stats) { s.Streams++; s.OpenStreams++ })
	defer c.s.stats.update(func(s *Stats) { s.OpenStreams-- })

	if b.trailer {
		c.w.Header().Set("Trailer", trailerName)
		defer c.w.Header().Set(trailerName, "done")
	}
	c.stamp()
	c.w.Header().Set("Content-Type", fr.contentType)
	c.w.Header().Set("Cache-Control", "no-cache")
	c.w.WriteHeader(http.StatusOK)

	st := &stream{c: c, rc: http.NewResponseController(c.w), framing: fr}
	c.s.stats.tokens(a.usage.prompt, 0)
	st.send(f.open()...)
	half := (len(a.pieces) + 1) / 2
	for i := range a.pieces {
		if i > 0 {
			c.wait(b.pace)
		}
		c.s.stats.tokens(0, a.emitted(i+1)-a.emitted(i))
		st.send(f.piece(i)...)
		if i+1 != half {
			continue
		}
		switch {
		case b.abort:
			panic(http.ErrAbortHandler)
		case b.truncate:
			return
		case b.errorMidstream:
			st.send(f.failure(injected(http.StatusInternalServerError)))
			st.finish()
			return
		}
		c.wait(b.silent)
	}
	st.send(f.end()...)
	st.finish()
}

// send writes the frames, each flushed: a client must see every chunk when it
// was made, and a failed flush is how a gone client shows.
func (st *stream) send(frames ...frame) {
	for _, f := range frames {
		st.buf = st.framing.append(st.buf[:0], f, st.sent)
		st.sent++
		st.write()
	}
}

func (st *stream) finish() {
	st.buf = append(st.buf[:0], st.framing.after...)
	if len(st.buf) > 0 {
		st.write()
	}
}

func (st *stream) write() {
	if _, err := st.c.w.Write(st.buf); err != nil {
		st.c.gone()
	}
	if err := st.rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		st.c.gone()
	}
}

// append lays out the n-th frame.
func (fr framing) append(dst []byte, f frame, n int) []byte {
	if n == 0 {
		dst = append(dst, fr.before...)
	} else {
		dst = append(dst, fr.between...)
	}
	if fr.lineEnd == "" {
		return append(dst, f.data...)
	}
	dst = append(dst, fr.comment...)
	if f.event != "" {
		dst = append(dst, "event: "...)
		dst = append(dst, f.event...)
		dst = append(dst, fr.lineEnd...)
	}
	dst = append(dst, "data: "...)
	dst = append(dst, f.data...)
	dst = append(dst, fr.lineEnd...)
	return append(dst, fr.lineEnd...)
}
