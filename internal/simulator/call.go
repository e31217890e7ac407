package simulator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// call is one request being answered.
type call struct {
	s         *Server
	w         http.ResponseWriter
	r         *http.Request
	dialect   dialect
	key       credential
	requestID string
	hash      string // of path and body: the seed of every id in the answer
	began     time.Time
	streaming bool
}

func (s *Server) newCall(w http.ResponseWriter, r *http.Request, d dialect) *call {
	began := s.opt.Now()
	return &call{
		s: s, w: w, r: r, dialect: d, began: began,
		requestID: fmt.Sprintf("req_%08x%016x", uint32(began.Unix()), s.sequence.Add(1)),
	}
}

// decode reads the JSON body into dst. When it cannot, it answers and reports
// false.
func (c *call) decode(dst any) bool {
	body, ok := c.read()
	if !ok {
		return false
	}
	c.seed(body)
	if err := json.Unmarshal(body, dst); err != nil {
		c.refuse(badRequest("We could not parse the JSON body of your request. (" + err.Error() + ")"))
		return false
	}
	return true
}

// read reads the whole body, which is bounded; a declared length that is too
// large is refused before a byte is read.
func (c *call) read() ([]byte, bool) {
	var tooLarge *http.MaxBytesError
	if c.r.ContentLength <= maxBody {
		body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
		if err == nil {
			return body, true
		}
		if !errors.As(err, &tooLarge) {
			c.gone()
		}
	}
	c.refuse(problem{
		status:  http.StatusRequestEntityTooLarge,
		message: "Request exceeds the maximum allowed number of bytes.",
	})
	return nil, false
}

// seed derives the ids of the answer.
func (c *call) seed(body []byte) {
	h := sha256.New()
	_, _ = io.WriteString(h, c.r.URL.Path)
	_, _ = h.Write(body)
	c.hash = hex.EncodeToString(h.Sum(nil))
}

// id is a deterministic identifier with the provider's prefix.
func (c *call) id(prefix string) string { return prefix + c.hash[:24] }

// begin carries out what the model name orders before any answer, and reports
// whether there is an answer to give.
func (c *call) begin(model string, promptTokens int) (behaviour, bool) {
	b, ok := c.s.behaviourOf(model)
	if !ok {
		c.refuse(unknownModel(model))
		return b, false
	}
	if b.hang {
		<-c.r.Context().Done()
		c.gone()
	}
	c.wait(b.firstByte)
	if b.abortHeaders {
		panic(http.ErrAbortHandler)
	}
	c.dialect.limits(c.w.Header(), promptTokens, c.s.opt.Now())
	if b.redirect {
		c.stamp()
		http.Redirect(c.w, c.r, "/sim/elsewhere", http.StatusFound)
		return b, false
	}
	if b.status != 0 {
		c.refuse(c.injected(b.status))
		return b, false
	}
	if b.cookie {
		http.SetCookie(c.w, &http.Cookie{Name: "sim_session", Value: "1", Path: "/", HttpOnly: true})
	}
	return b, true
}

func (c *call) injected(status int) problem {
	if status != http.StatusUnauthorized {
		return injected(status)
	}
	p := c.dialect.unauthorized(c.key)
	p.status = status
	return p
}

// refuse answers with an error in the dialect.
func (c *call) refuse(p problem) {
	if p.status == http.StatusTooManyRequests {
		c.w.Header().Set("Retry-After", "1")
		c.w.Header().Set("Retry-After-Ms", "1000")
	}
	c.send(p.status, "application/json", encode(c.dialect.problem(p, c.requestID)))
}

// json answers 200 with an object.
func (c *call) json(o object) { c.send(http.StatusOK, "application/json", encode(o)) }

// send answers with a body, whole.
func (c *call) send(status int, contentType string, body []byte) {
	c.stamp()
	c.w.Header().Set("Content-Type", contentType)
	c.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(status)
	_, _ = c.w.Write(body)
}

// stamp sets the headers every answer of the provider has.
func (c *call) stamp() {
	c.dialect.headers(c.w.Header(), c.requestID, c.s.opt.Now().Sub(c.began))
}

// wait pauses. It does not return when the client goes meanwhile.
func (c *call) wait(d time.Duration) {
	ctx := c.r.Context()
	if !sleep(ctx, d) {
		c.gone()
	}
}

// sleep reports whether the pause ended before the context did.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// gone counts a client that left and ends the request. Ending by abort makes
// sure that nobody takes what was sent for a whole answer.
func (c *call) gone() {
	c.s.stats.update(func(s *Stats) {
		if c.streaming {
			s.CancelledStreams++
		} else {
			s.CancelledRequests++
		}
	})
	panic(http.ErrAbortHandler)
}
