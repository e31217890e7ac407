package simulator

import (
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// recordedBody bounds the body prefix kept per request.
const recordedBody = 64 << 10

// Received is a request as the simulator got it, credentials included.
type Received struct {
	// Time is when the request line and headers had arrived.
	Time time.Time
	// Method, Host, Path and RawQuery are as received.
	Method, Host, Path, RawQuery string
	// Header holds the received headers, canonicalised by net/http.
	Header http.Header
	// Body is the body's beginning, at most 64 KiB of what has been read.
	Body []byte
	// BodyBytes counts all body bytes read.
	BodyBytes int64
}

// recorder keeps the last requests, oldest first.
type recorder struct {
	limit int
	now   func() time.Time

	mu   sync.Mutex
	last []*Received
}

// record enters the request and wraps its body, which is captured as the
// handler reads it: waiting for the body here would change what is measured.
func (rec *recorder) record(r *http.Request) {
	if rec.limit <= 0 {
		return
	}
	entry := &Received{
		Time:     rec.now(),
		Method:   r.Method,
		Host:     r.Host,
		Path:     r.URL.Path,
		RawQuery: r.URL.RawQuery,
		Header:   r.Header.Clone(),
	}
	rec.mu.Lock()
	rec.last = append(rec.last, entry)
	if excess := len(rec.last) - rec.limit; excess > 0 {
		rec.last = slices.Delete(rec.last, 0, excess)
	}
	rec.mu.Unlock()
	r.Body = &recordingBody{ReadCloser: r.Body, rec: rec, entry: entry}
}

type recordingBody struct {
	io.ReadCloser
	rec   *recorder
	entry *Received
}

func (b *recordingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.rec.mu.Lock()
	defer b.rec.mu.Unlock()
	b.entry.BodyBytes += int64(n)
	b.entry.Body = append(b.entry.Body, p[:min(n, recordedBody-len(b.entry.Body))]...)
	return n, err
}

// Requests returns the last requests received, oldest first, at most
// [Options.Record] of them.
func (s *Server) Requests() []Received {
	s.recorder.mu.Lock()
	defer s.recorder.mu.Unlock()
	requests := make([]Received, len(s.recorder.last))
	for i, entry := range s.recorder.last {
		requests[i] = *entry
		requests[i].Header = entry.Header.Clone()
		requests[i].Body = slices.Clone(entry.Body)
	}
	return requests
}
