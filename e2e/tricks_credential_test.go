package e2e

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// TestCredentialTricks finds a token wherever clients put it, and refuses what
// could be read as two.
func TestCredentialTricks(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, against(sim))
	a, b := p.account(t), p.account(t)
	basic := base64.StdEncoding.EncodeToString([]byte("user:" + a.token))
	for _, c := range []struct {
		name  string
		lines string // header lines, {a} and {b} are tokens
		query string
		ok    bool
	}{
		{name: "bearer", lines: "Authorization: Bearer {a}", ok: true},
		{name: "lower-case bearer", lines: "Authorization: bearer {a}", ok: true},
		{name: "upper-case bearer", lines: "AUTHORIZATION: BEARER {a}", ok: true},
		{name: "spaces around", lines: "Authorization: Bearer   {a}  ", ok: true},
		{name: "x-api-key", lines: "x-api-key: {a}", ok: true},
		{name: "api-key", lines: "api-key: {a}", ok: true},
		{name: "x-goog-api-key", lines: "x-goog-api-key: {a}", ok: true},
		{name: "query", query: "?key={a}", ok: true},
		{name: "query, escaped name", query: "?k%65y={a}", ok: true},
		{name: "query beside others", query: "?limit=1&key={a}&after=x", ok: true},
		{name: "subprotocol", lines: "Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.{a}", ok: true},
		{name: "same token twice", lines: "Authorization: Bearer {a}\nx-api-key: {a}", query: "?key={a}", ok: true},
		{name: "nothing"},
		{name: "two different", lines: "Authorization: Bearer {a}\nx-api-key: {b}"},
		{name: "header and query", lines: "Authorization: Bearer {a}", query: "?key={b}"},
		{name: "header and escaped query", lines: "Authorization: Bearer {a}", query: "?%6bey={b}"},
		{name: "two in the query", query: "?key={a}&key={b}"},
		{name: "goog and azure", lines: "x-goog-api-key: {a}\napi-key: {b}"},
		{name: "subprotocol and header", lines: "Authorization: Bearer {a}\nSec-WebSocket-Protocol: openai-insecure-api-key.{b}"},
		{name: "repeated header", lines: "Authorization: Bearer {a}\nAuthorization: Bearer {a}"},
		{name: "repeated header, different", lines: "Authorization: Bearer {a}\nAuthorization: Bearer {b}"},
		{name: "repeated x-api-key", lines: "x-api-key: {a}\nX-Api-Key: {a}"},
		{name: "list in one header", lines: "Authorization: Bearer {a}, Bearer {b}"},
		{name: "basic", lines: "Authorization: Basic " + basic},
		{name: "no scheme", lines: "Authorization: {a}"},
		{name: "empty bearer", lines: "Authorization: Bearer "},
		{name: "cookie", lines: "Cookie: key={a}"},
		{name: "proxy authorization", lines: "Proxy-Authorization: Bearer {a}"},
		{name: "upper-case token", lines: "Authorization: Bearer {A}"},
		{name: "token and more", lines: "Authorization: Bearer {a}x"},
		{name: "NUL escape in the query", query: "?key={a}%00"},
		{name: "very long", lines: "Authorization: Bearer " + strings.Repeat("a", 8000)},
		{name: "quoted", lines: `Authorization: Bearer "{a}"`},
		{name: "provider key", lines: "Authorization: Bearer " + a.key},
	} {
		t.Run(c.name, func(t *testing.T) {
			fill := strings.NewReplacer("{a}", a.token, "{b}", b.token, "{A}", strings.ToUpper(a.token))
			before := sim.count()
			head := "GET /v1/models" + fill.Replace(c.query) + " HTTP/1.1\nHost: localhost\n"
			if c.lines != "" {
				head += fill.Replace(c.lines) + "\n"
			}
			got := p.raw(t, head, "")
			if !c.ok {
				openAIDialect.refused(t, got, http.StatusUnauthorized, "invalid_token")
				sim.untouched(t, before)
				return
			}
			if got.status != http.StatusOK {
				t.Fatalf("status %d: %s", got.status, got.body)
			}
			seen := sim.last(t, a.key)
			query, err := url.Parse(seen.uri)
			if err != nil || query.Query().Has("key") || strings.Contains(seen.uri, a.token) {
				t.Errorf("the provider saw %s", seen.uri)
			}
			if strings.Contains(c.query, "limit") && query.RawQuery != "limit=1&after=x" {
				t.Errorf("the query became %q", query.RawQuery)
			}
		})
	}
}
