package gateway

import (
	"net/http"
	"net/url"
	"strings"
)

// protocolKeyPrefix is how OpenAI's browser SDK passes a key with a WebSocket.
const protocolKeyPrefix = "openai-insecure-api-key."

// keyHeaders carry a bare credential.
var keyHeaders = [...]string{"X-Api-Key", "Api-Key", "X-Goog-Api-Key"}

// clientCredential finds the one credential of a request. It is refused (ok
// false) when there is none, when two places disagree, or when one header
// appears twice: servers behind us might read the other one.
func clientCredential(r *http.Request) (credential string, ok bool) {
	c := collector{ok: true}
	if vv := r.Header["Authorization"]; len(vv) > 0 {
		c.once(vv)
		scheme, value, _ := strings.Cut(vv[0], " ")
		if strings.EqualFold(scheme, "Bearer") {
			c.add(strings.TrimSpace(value))
		}
	}
	for _, name := range keyHeaders {
		if vv := r.Header[name]; len(vv) > 0 {
			c.once(vv)
			c.add(strings.TrimSpace(vv[0]))
		}
	}
	if raw := r.URL.RawQuery; raw != "" {
		for pair := range strings.SplitSeq(raw, "&") {
			if value, is := keyParam(pair); is {
				c.add(value)
			}
		}
	}
	for _, line := range r.Header["Sec-Websocket-Protocol"] {
		for protocol := range strings.SplitSeq(line, ",") {
			if value, is := strings.CutPrefix(strings.TrimSpace(protocol), protocolKeyPrefix); is {
				c.add(value)
			}
		}
	}
	return c.value, c.ok && c.value != ""
}

type collector struct {
	value string
	ok    bool
}

func (c *collector) add(value string) {
	switch {
	case value == "" || value == c.value:
	case c.value == "":
		c.value = value
	default:
		c.ok = false
	}
}

func (c *collector) once(values []string) {
	if len(values) > 1 {
		c.ok = false
	}
}

// keyParam reads a "key=…" pair of a raw query, its name escaped or not.
func keyParam(pair string) (value string, is bool) {
	name, value, _ := strings.Cut(pair, "=")
	if name != "key" {
		if strings.IndexByte(name, '%') < 0 {
			return "", false
		}
		if decoded, err := url.QueryUnescape(name); err != nil || decoded != "key" {
			return "", false
		}
	}
	if decoded, err := url.QueryUnescape(value); err == nil {
		return decoded, true
	}
	return value, true
}

// withoutKey is the raw query less its credentials, otherwise byte for byte.
func withoutKey(raw string) string {
	if !strings.Contains(raw, "key") && strings.IndexByte(raw, '%') < 0 {
		return raw
	}
	var b strings.Builder
	for pair := range strings.SplitSeq(raw, "&") {
		if _, is := keyParam(pair); is {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(pair)
	}
	return b.String()
}

// queryValues are the decoded values of one parameter of a raw query.
func queryValues(raw, name string) []string {
	var values []string
	for pair := range strings.SplitSeq(raw, "&") {
		n, v, _ := strings.Cut(pair, "=")
		if decoded, err := url.QueryUnescape(n); err != nil || !strings.EqualFold(decoded, name) {
			continue
		}
		if decoded, err := url.QueryUnescape(v); err == nil {
			v = decoded
		}
		values = append(values, v)
	}
	return values
}
