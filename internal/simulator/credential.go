package simulator

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// credential is one API key found in a request and where it was found.
type credential struct {
	kind  string // "bearer", "x-api-key", "api-key", "x-goog-api-key", "key"
	value string
}

// realtimeKeyProtocol is the WebSocket subprotocol through which browsers,
// which cannot set headers, hand over an OpenAI key.
const realtimeKeyProtocol = "openai-insecure-api-key."

// credentials returns every credential of the request. There should be one;
// a gateway that forwards its client's next to its own would show here.
func credentials(r *http.Request) []credential {
	var found []credential
	add := func(kind, value string) {
		if value = strings.TrimSpace(value); value != "" {
			found = append(found, credential{kind, value})
		}
	}
	for _, v := range r.Header.Values("Authorization") {
		scheme, value, _ := strings.Cut(v, " ")
		add(strings.ToLower(scheme), value)
	}
	for _, name := range []string{"x-api-key", "api-key", "x-goog-api-key"} {
		for _, v := range r.Header.Values(name) {
			add(name, v)
		}
	}
	if strings.Contains(r.URL.RawQuery, "key=") {
		for _, v := range r.URL.Query()["key"] {
			add("key", v)
		}
	}
	for _, v := range r.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(v, ",") {
			if key, ok := strings.CutPrefix(strings.TrimSpace(p), realtimeKeyProtocol); ok {
				add("subprotocol", key)
			}
		}
	}
	return found
}

// usable reports whether the credential may carry an API key at all, as
// opposed to, say, HTTP basic authentication.
func (c credential) usable() bool {
	return c.kind != "basic" && c.kind != "digest"
}

// authenticate returns the request's credential and whether it is accepted.
// The zero credential means that there was none.
func (s *Server) authenticate(r *http.Request) (credential, bool) {
	found := slices.DeleteFunc(credentials(r), func(c credential) bool { return !c.usable() })
	if len(found) == 0 {
		return credential{}, false
	}
	for _, c := range found {
		if len(s.opt.Keys) > 0 && !slices.Contains(s.opt.Keys, c.value) {
			return c, false
		}
	}
	return found[0], true
}

// masked shows a key the way OpenAI's 401 does: enough to recognise it, too
// little to use it.
func masked(key string) string {
	if len(key) < 12 {
		return "***"
	}
	return key[:5] + "***" + key[len(key)-4:]
}

// shown returns the first characters of a credential, at most four and never
// more than half of it.
func shown(key string) string {
	return key[:min(4, len(key)/2)]
}

// shownQuery is the query without credential values.
func shownQuery(q url.Values) object {
	var o object
	for _, name := range slices.Sorted(maps.Keys(q)) {
		value := strings.Join(q[name], ",")
		if lower := strings.ToLower(name); strings.Contains(lower, "key") || strings.Contains(lower, "token") {
			value = shown(value)
		}
		o = append(o, name, value)
	}
	return o
}
