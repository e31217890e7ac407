package gateway

import (
	"net/http"
	"net/url"
	"strings"
)

// protocolKeyPrefix is how OpenAI's browser SDK passes a key with a WebSocket.
const protocolKeyPrefix = "openai-insecure-api-key."

// keyName is the query parameter that may carry a credential.
const keyName = "key"

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
			if value, is := queryParam(pair, keyName); is {
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

// queryParam reads a "name=…" pair of a raw query, its name escaped or not.
func queryParam(pair, name string) (value string, is bool) {
	n, value, _ := strings.Cut(pair, "=")
	if n != name {
		if strings.IndexByte(n, '%') < 0 {
			return "", false
		}
		if decoded, err := url.QueryUnescape(n); err != nil || decoded != name {
			return "", false
		}
	}
	if decoded, err := url.QueryUnescape(value); err == nil {
		return decoded, true
	}
	return value, true
}

// withoutKey is the raw query less its credentials, otherwise byte for byte.
func withoutKey(raw string) string { return withoutParam(raw, keyName) }

func withoutParam(raw, name string) string {
	if !strings.Contains(raw, name) && strings.IndexByte(raw, '%') < 0 {
		return raw
	}
	var b strings.Builder
	separator := ""
	for pair := range strings.SplitSeq(raw, "&") {
		if _, is := queryParam(pair, name); is {
			continue
		}
		b.WriteString(separator)
		b.WriteString(pair)
		separator = "&"
	}
	return b.String()
}

// queryValues are the decoded values of one parameter, in any case, of a raw
// query. A ";" separates too, as some servers have it.
func queryValues(raw, name string) []string {
	var values []string
	for pair := range strings.FieldsFuncSeq(raw, func(r rune) bool { return r == '&' || r == ';' }) {
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
