package gateway

import (
	"bytes"
	"errors"
	"io"
	"net/http"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
)

// outboundBody is a request body that can be sent again.
type outboundBody struct {
	bytes.Reader
}

func (*outboundBody) Close() error { return nil }

func newOutboundBody(data []byte) *outboundBody {
	b := new(outboundBody)
	b.Reset(data)
	return b
}

// readBody reads a body of at most limit bytes. The buffer is not pooled: the
// transport may still be reading it when an early answer has ended the request.
func readBody(r *http.Request, limit int64, scratch *[1]byte) ([]byte, *apierr.Error) {
	if r.ContentLength > limit {
		return nil, errTooLarge
	}
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return nil, nil
	}
	if n := r.ContentLength; n > 0 && n <= maxTrustedLength {
		data := make([]byte, n)
		if _, err := io.ReadFull(r.Body, data); err != nil {
			return nil, errBodyRead.WithCause(err)
		}
		// The server ends the body after n bytes; reading the end lets it watch the
		// connection for a client that leaves.
		if k, err := r.Body.Read(scratch[:]); k > 0 || err != nil && !errors.Is(err, io.EOF) {
			return nil, errBodyRead.WithCause(err)
		}
		return data, nil
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

// maxTrustedLength is up to where a Content-Length is allocated at once.
const maxTrustedLength = 1 << 20

// uploadBody streams a body through up to a limit.
type uploadBody struct {
	body     io.ReadCloser
	left     int64
	exceeded bool
	failed   bool // reading from the client failed
}

func (u *uploadBody) Read(p []byte) (int, error) {
	if int64(len(p)) > u.left+1 {
		p = p[:u.left+1]
	}
	n, err := u.body.Read(p)
	if int64(n) > u.left {
		u.exceeded = true
		return 0, errTooLarge
	}
	u.left -= int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		u.failed = true
	}
	return n, err
}

// Close leaves the client's body to the server, which owns it.
func (*uploadBody) Close() error { return nil }
