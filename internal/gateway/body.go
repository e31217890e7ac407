package gateway

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
)

// outboundBody makes a request body that can be sent again. net/http sends head
// and body in one write if it sees that the body is in memory, which it does for
// exactly this type.
func outboundBody(data []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(data)) }

// readBody reads a body of at most limit bytes. The buffer is not pooled: the
// transport may still be reading it when an early answer has ended the request.
func readBody(r *http.Request, limit int64, scratch *[1]byte) ([]byte, *apierr.Error) {
	if r.ContentLength > limit {
		return nil, errTooLarge
	}
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	if r.ContentLength > 0 {
		return readAnnounced(r, scratch)
	}
	// Grows as bytes arrive: a client that only announces a lot gets little.
	var buf bytes.Buffer
	n, err := buf.ReadFrom(io.LimitReader(r.Body, limit+1))
	switch {
	case err != nil:
		return nil, errBodyRead.WithCause(err)
	case n > limit:
		return nil, errTooLarge
	}
	return buf.Bytes(), nil
}

// maxTrustedLength is up to where a Content-Length is allocated at once. Of a
// longer body this much must arrive first.
const maxTrustedLength = 1 << 20

// readAnnounced reads a body with a Content-Length into a buffer of that size.
func readAnnounced(r *http.Request, scratch *[1]byte) ([]byte, *apierr.Error) {
	data := make([]byte, min(r.ContentLength, maxTrustedLength))
	n, err := io.ReadFull(r.Body, data)
	if err == nil && r.ContentLength > maxTrustedLength {
		whole := make([]byte, r.ContentLength)
		copy(whole, data)
		data = whole
		_, err = io.ReadFull(r.Body, data[n:])
	}
	if err != nil {
		return nil, errBodyRead.WithCause(err)
	}
	// The server ends the body here; reading the end lets it watch the connection
	// for a client that leaves.
	if k, err := r.Body.Read(scratch[:]); k > 0 || err != nil && !errors.Is(err, io.EOF) {
		return nil, errBodyRead.WithCause(err)
	}
	return data, nil
}

// uploadBody streams a body through up to a limit. The transport reads it on a
// goroutine of its own, and may still do so when it has given up on the request.
type uploadBody struct {
	body     io.ReadCloser
	left     int64
	sent     func() // nil, or called at the end of the body
	taken    atomic.Int64
	exceeded atomic.Bool
	failed   atomic.Bool // reading from the client failed
}

func (u *uploadBody) Read(p []byte) (int, error) {
	if int64(len(p)) > u.left+1 {
		p = p[:u.left+1]
	}
	n, err := u.body.Read(p)
	if int64(n) > u.left {
		u.exceeded.Store(true)
		return 0, errTooLarge
	}
	u.left -= int64(n)
	u.taken.Add(int64(n))
	switch {
	case err == nil:
	case !errors.Is(err, io.EOF):
		u.failed.Store(true)
	case u.sent != nil:
		u.sent()
	}
	return n, err
}

// Close leaves the client's body to the server, which owns it.
func (*uploadBody) Close() error { return nil }
