package httpcache_test

import (
	"io"
	"net/http"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache/cachetests"
)

// over asks an origin through HTTP. No answer at all is a Disconnect.
func over(transport http.RoundTripper, base string) func(method, target string, header http.Header) cachetests.Reply {
	return func(method, target string, header http.Header) cachetests.Reply {
		req, err := http.NewRequest(method, base+target, nil)
		if err != nil {
			return cachetests.Reply{Disconnect: true}
		}
		req.Header = header.Clone()
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return cachetests.Reply{Disconnect: true}
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return cachetests.Reply{Disconnect: true}
		}
		return cachetests.Reply{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}
	}
}

// ServeHTTP makes the reference a proxy.
func (c *reference) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resp, err := c.RoundTrip(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}
