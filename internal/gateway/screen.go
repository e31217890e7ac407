package gateway

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

// screenLimit is how much of an error answer is looked at.
const screenLimit = 64 << 10

// screen holds back answers about the provider's credential: they echo part of
// our key, and would make the client doubt its own token. Every other error answer
// passes byte for byte, unless it holds the whole key: redirects repeat a query,
// and with it a key that is sent there.
func (x *exchange) screen(resp *http.Response, credential secret.Value) *apierr.Error {
	if resp.StatusCode < 300 {
		return nil
	}
	if resp.StatusCode == http.StatusUnauthorized {
		return x.keyRefused(resp)
	}
	if credential.IsZero() {
		return nil
	}
	x.g.cfg.Inflight.await(&x.flight, x.route.Provider.IdleTimeout)
	head, err := io.ReadAll(io.LimitReader(resp.Body, screenLimit))
	x.flight.arrived()
	rest := io.Reader(resp.Body)
	if err != nil {
		if x.cause() != nil {
			return x.upstreamFailure(&http.Request{}, err)
		}
		rest = failingReader{err}
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), rest), resp.Body}
	client := resp.StatusCode >= 400 && resp.StatusCode < 500 // the fault is in the request, which may mean its key
	if tells(resp.Header, head, credential.Reveal()) {
		if client {
			return x.keyRefused(resp)
		}
		return errUpstream.WithCause(errors.New("the provider's answer holds the key that it was sent"))
	}
	if client {
		for _, text := range x.route.Provider.KeyRefusals {
			if bytes.Contains(head, []byte(text)) {
				return x.keyRefused(resp)
			}
		}
	}
	return nil
}

// tells reports whether an answer holds the key, as it is or as in a query.
func tells(h http.Header, head []byte, key string) bool {
	escaped := url.QueryEscape(key)
	if bytes.Contains(head, []byte(key)) || escaped != key && bytes.Contains(head, []byte(escaped)) {
		return true
	}
	for _, values := range h {
		for _, v := range values {
			if strings.Contains(v, key) || escaped != key && strings.Contains(v, escaped) {
				return true
			}
		}
	}
	return false
}

func (x *exchange) keyRefused(resp *http.Response) *apierr.Error {
	x.rec.UpstreamRequestID = upstreamRequestID(resp.Header)
	x.g.cfg.Logger.Error("the provider refused the project's key",
		"request_id", x.rec.RequestID, "provider", x.rec.Provider, "key_id", x.rec.KeyID.String(),
		"project_id", x.rec.ProjectID.String(), "status", resp.StatusCode)
	return errCredential
}

func upstreamRequestID(h http.Header) string {
	if id := h.Get("X-Request-Id"); id != "" {
		return id
	}
	return h.Get("Request-Id")
}

// failingReader repeats an error that came while an answer was looked at.
type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }
