package gateway

import (
	"bytes"
	"io"
	"net/http"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

// screenLimit is how much of an error answer is looked at.
const screenLimit = 64 << 10

// screen holds back answers about the provider's credential: they echo part of
// our key, and would make the client doubt its own token. Every other error answer
// passes byte for byte.
func (x *exchange) screen(resp *http.Response, credential secret.Value) *apierr.Error {
	if resp.StatusCode < 400 {
		return nil
	}
	if resp.StatusCode == http.StatusUnauthorized {
		return x.keyRefused(resp)
	}
	if resp.StatusCode >= 500 || credential.IsZero() {
		return nil
	}
	head, err := io.ReadAll(io.LimitReader(resp.Body, screenLimit))
	rest := io.Reader(resp.Body)
	if err != nil {
		rest = failingReader{err}
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), rest), resp.Body}
	if bytes.Contains(head, []byte(credential.Reveal())) {
		return x.keyRefused(resp)
	}
	for _, text := range x.route.Provider.KeyRefusals {
		if bytes.Contains(head, []byte(text)) {
			return x.keyRefused(resp)
		}
	}
	return nil
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
