package gateway_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"
)

// page is a client's side whose every operation is noted, and which can stop
// reading.
type page struct {
	header http.Header

	mu      sync.Mutex
	status  int
	body    bytes.Buffer
	ops     []string
	lagging time.Duration // how long each write takes
	stalled bool          // writes wait for a deadline
	expired chan struct{} // closed when the write deadline is in the past
	readEnd bool          // the read deadline is in the past
}

func newPage() *page { return &page{header: make(http.Header), expired: make(chan struct{})} }

func (p *page) Header() http.Header { return p.header }

func (p *page) WriteHeader(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = status
	p.ops = append(p.ops, fmt.Sprintf("header %d", status))
}

func (p *page) Write(b []byte) (int, error) {
	if p.lagging > 0 {
		<-time.After(p.lagging)
	}
	if p.stalled {
		<-p.expired
		return 0, os.ErrDeadlineExceeded
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ops = append(p.ops, fmt.Sprintf("write %d", len(b)))
	return p.body.Write(b)
}

func (p *page) Flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ops = append(p.ops, "flush")
}

func (p *page) SetWriteDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !t.After(time.Now()) {
		select {
		case <-p.expired:
		default:
			close(p.expired)
		}
	}
	return nil
}

func (p *page) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readEnd = !t.After(time.Now())
	return nil
}

func (p *page) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.body.String()
}

// script is a provider's body: each piece is one read, after its wait.
type script struct {
	pieces []piece
	end    error           // what follows the last piece; nil: io.EOF
	gone   <-chan struct{} // closed when the request is over; nil: never
}

type piece struct {
	wait time.Duration
	text string
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.pieces) == 0 {
		if s.end == nil {
			return 0, io.EOF
		}
		return 0, s.end
	}
	next := &s.pieces[0]
	if next.wait != 0 {
		var arrived <-chan time.Time // negative: never
		if next.wait > 0 {
			arrived = time.After(next.wait)
		}
		select {
		case <-arrived:
		case <-s.gone:
			return 0, errGone
		}
		next.wait = 0
	}
	n := copy(p, next.text)
	if next.text = next.text[n:]; next.text == "" {
		s.pieces = s.pieces[1:]
	}
	return n, nil
}

func (s *script) Close() error { return nil }

var errGone = fmt.Errorf("the connection is gone")

// streams answers with a script of unknown length.
func streams(contentType string, end error, pieces ...piece) roundTripper {
	return func(req *http.Request) (*http.Response, error) {
		resp := reply(http.StatusOK, contentType, "")
		resp.ContentLength = -1
		resp.Body = &script{pieces: slices.Clone(pieces), end: end, gone: req.Context().Done()}
		return resp, nil
	}
}

// at is a piece that comes at once.
func at(text string) piece { return piece{text: text} }

// never is a piece that does not come.
var never = piece{wait: -1}
