package e2e

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// hostile is a client's header with all that must not reach a provider.
const hostile = `User-Agent: client/1.0
Accept: application/json
Accept-Encoding: gzip, br
Accept-Language: de
Idempotency-Key: abc
OpenAI-Beta: assistants=v2
OpenAI-Organization: org-client
OpenAI-Project: proj-client
Anthropic-Version: 2023-06-01
Anthropic-Beta: a,b
X-Stainless-Lang: go
X-Stainless-Dropped: 1
X-Claude-Code-Session-Id: s
X-Goog-Api-Client: gl-go
X-Goog-Iam-Authorization-Token: secret
X-Forwarded-For: 10.1.2.3
X-Forwarded-Host: evil.example.com
X-Forwarded-Proto: http
X-Real-IP: 10.1.2.3
True-Client-IP: 10.1.2.3
CF-Connecting-IP: 10.1.2.3
Forwarded: for=10.1.2.3
Via: 1.1 client
Cookie: session=secret
Referer: https://app.example.com/?key=secret
Origin: https://app.example.com
Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
Tracestate: a=b
Baggage: user=secret
X-LLM-Proxy-Provider: evil
X-Body-Hash: sha256(x)
X-HTTP-Method-Override: DELETE
X-Api-Base: https://evil.example.com
Proxy-Authorization: Basic secret
Proxy-Connection: keep-alive
Keep-Alive: timeout=5
TE: trailers
Upgrade: h2c
HTTP2-Settings: AAMAAABkAAQAAP__
Early-Data: 1
Connection: keep-alive, Upgrade, HTTP2-Settings, Authorization, X-Api-Key, Api-Key, X-Goog-Api-Key, X-Stainless-Dropped, TE
`

// passing are the headers above that a provider should see, and net/http's own.
var passing = []string{
	"User-Agent", "Accept", "Accept-Encoding", "Accept-Language", "Idempotency-Key", "Openai-Beta", "Anthropic-Version", "Anthropic-Beta",
	"X-Stainless-Lang", "X-Claude-Code-Session-Id", "X-Goog-Api-Client", "Content-Type", "Content-Length",
}

// TestProviderSeesItsOwnCredential looks at requests from a provider's side.
func TestProviderSeesItsOwnCredential(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	s := against(sim)
	s.options = map[string]string{"openai": "", "anthropic": "", "gemini": "", "custom": "type openai\nauth header x-secret-key", "param": "type gemini\nauth query key"}
	s.providers["custom"], s.providers["param"] = sim.url+"/v1", sim.url
	s.routes = "request_header Traceparent 00-11111111111111111111111111111111-2222222222222222-01\n\tllm_proxy\n\tllm_proxy_admin"
	p := start(t, s)
	a := p.account(t)
	for _, name := range []string{"custom", "param"} {
		p.manage(t, "POST", "projects/"+a.projectID+"/keys", object{"provider": name, "api_key": a.key})
	}
	for _, c := range []struct {
		provider, path, body, carrier string
		scheme                        string // the one place where the key is expected
	}{
		{"openai", "/v1/chat/completions", goodModel, "Authorization: Bearer {t}", "Authorization"},
		{"openai, x-api-key", "/v1/chat/completions", goodModel, "X-Api-Key: {t}", "Authorization"},
		{"openai, query", "/openai/v1/chat/completions?key={t}", goodModel, "", "Authorization"},
		{"anthropic", "/anthropic/v1/messages", messagesBody("m", false), "Authorization: Bearer {t}", "X-Api-Key"},
		{"anthropic, x-api-key", "/anthropic/v1/messages", messagesBody("m", false), "X-Api-Key: {t}", "X-Api-Key"},
		{"gemini", "/gemini/v1beta/models/m:generateContent?key={t}&alt=json", generateBody, "", "X-Goog-Api-Key"},
		{"custom", "/custom/chat/completions", goodModel, "Api-Key: {t}", "X-Secret-Key"},
		{"query", "/param/v1beta/models/m:generateContent?alt=json", generateBody, "X-Goog-Api-Key: {t}", "query"},
		{"query, from query", "/param/v1beta/models/m:generateContent?key={t}&alt=json", generateBody, "", "query"},
	} {
		t.Run(c.provider, func(t *testing.T) {
			fill := strings.NewReplacer("{t}", a.token)
			before := sim.count()
			head := postHead(fill.Replace(c.path), "", jsonType+hostile, c.body, 0)
			head = strings.Replace(head, "Authorization: Bearer \n", "", 1)
			if c.carrier != "" {
				head += fill.Replace(c.carrier) + "\n"
			}
			got := p.raw(t, head, c.body)
			all := sim.sightings("")
			if len(all) != before+1 {
				t.Fatalf("%d requests reached the provider; answer %d %s", len(all)-before, got.status, got.body)
			}
			seen := all[before]
			want := slices.Clone(passing)
			query := url.Values{}
			if strings.Contains(c.path, "alt=json") {
				query.Set("alt", "json")
			}
			switch c.scheme {
			case "query":
				query.Set("key", a.key)
			default:
				want = append(want, c.scheme)
				if v := seen.header[c.scheme]; len(v) != 1 || strings.TrimPrefix(v[0], "Bearer ") != a.key {
					t.Errorf("%s: %q", c.scheme, v)
				}
			}
			slices.Sort(want)
			if names := slices.Sorted(maps.Keys(seen.header)); !slices.Equal(names, want) {
				t.Errorf("headers\n%v, want\n%v", names, want)
			}
			if seen.header.Get("Accept-Encoding") != "identity" || seen.header.Get("User-Agent") != "client/1.0" {
				t.Errorf("Accept-Encoding %q, User-Agent %q", seen.header.Get("Accept-Encoding"), seen.header.Get("User-Agent"))
			}
			u, err := url.Parse(seen.uri)
			if err != nil || u.Query().Encode() != query.Encode() {
				t.Errorf("URI %s, want the query %s", seen.uri, query.Encode())
			}
			if host := strings.TrimPrefix(sim.url, "http://"); seen.host != host {
				t.Errorf("Host %q, want %q", seen.host, host)
			}
		})
	}
}

// TestForwardHeaders lets an operator add headers, but never credentials or
// addresses.
func TestForwardHeaders(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	s := against(sim)
	s.handler = "forward_headers OpenAI-* X-Trace-Id *"
	p := start(t, s)
	a := p.account(t)
	got := p.raw(t, postHead("", a.token, jsonType+strings.ReplaceAll(hostile, "Authorization, ", "")+"X-Trace-Id: 7\n", goodModel, 0), goodModel)
	if got.status != http.StatusOK {
		t.Fatalf("status %d: %s", got.status, got.body)
	}
	h := sim.last(t, a.key).header
	for _, name := range []string{"Openai-Organization", "Openai-Project", "X-Trace-Id"} {
		if h.Get(name) == "" {
			t.Errorf("%s is missing", name)
		}
	}
	for _, name := range []string{
		"Cookie", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Forwarded", "Via", "True-Client-Ip", "Cf-Connecting-Ip", "Upgrade", "Http2-Settings",
		"Proxy-Authorization", "X-Goog-Iam-Authorization-Token", "X-Llm-Proxy-Provider", "Te", "Connection", "Keep-Alive", "X-Stainless-Dropped",
	} {
		if v := h.Get(name); v != "" {
			t.Errorf("%s: %q", name, v)
		}
	}
	if v := h["Authorization"]; len(v) != 1 || v[0] != "Bearer "+a.key {
		t.Errorf("Authorization: %q", v)
	}
}
