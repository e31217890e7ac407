package gateway_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

const ownKey = "sk-own-fedcba9876543210"

func own(providerName string) project.Credential {
	return project.Credential{KeyID: uuid.Must(uuid.NewV7()), Provider: providerName, Secret: secret.NewValue(ownKey)}
}

func owning(cc ...project.Credential) func(*project.Snapshot) {
	return func(p *project.Snapshot) { p.Credentials = cc }
}

// credentials are all values in a request that may be one.
func credentials(req *http.Request) string {
	var found []string
	for _, name := range []string{"Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key", "X-Custom", "Cookie", "Sec-Websocket-Protocol"} {
		for _, v := range req.Header[name] {
			found = append(found, name+": "+v)
		}
	}
	if req.URL.RawQuery != "" {
		found = append(found, "?"+req.URL.RawQuery)
	}
	return strings.Join(found, "\n")
}

func TestExactlyTheProvidersOwnCredentialIsSent(t *testing.T) {
	for name, tc := range map[string]struct {
		auth  provider.Auth
		query string
		want  string
	}{
		"bearer":                        {provider.Auth{Scheme: provider.AuthBearer}, "", "Authorization: Bearer " + sharedKey},
		"x-api-key":                     {provider.Auth{Scheme: provider.AuthHeader, Name: "x-api-key"}, "", "X-Api-Key: " + sharedKey},
		"custom header":                 {provider.Auth{Scheme: provider.AuthHeader, Name: "x-custom"}, "", "X-Custom: " + sharedKey},
		"query":                         {provider.Auth{Scheme: provider.AuthQuery, Name: "key"}, "", "?key=" + sharedKey},
		"query, more":                   {provider.Auth{Scheme: provider.AuthQuery, Name: "key"}, "&alt=sse&%6bey=$TOKEN", "?alt=sse&key=" + sharedKey},
		"query, another name":           {provider.Auth{Scheme: provider.AuthQuery, Name: "api token"}, "&a=1", "?a=1&api+token=" + sharedKey},
		"query, the client's own value": {provider.Auth{Scheme: provider.AuthQuery, Name: "token"}, "&a=1&token=mine&t%6fken=mine", "?a=1&token=" + sharedKey},
		"bearer, query of the client's": {provider.Auth{Scheme: provider.AuthBearer}, "&b=%2F+%zz&c", "Authorization: Bearer " + sharedKey + "\n?b=%2F+%zz&c"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, setup{
				provider: func(c *provider.Config) { c.Auth = &tc.auth },
				gateway:  func(c *gateway.Config) { c.ForwardHeaders = []string{"*"} },
			})
			req := r.request("GET", "/v1/models?key="+r.token+strings.ReplaceAll(tc.query, "$TOKEN", r.token), "",
				"Authorization: Bearer "+r.token, "Api-Key: "+r.token, "X-Goog-Api-Key: "+r.token, "X-Custom: mine", "Cookie: a=b",
				"Sec-WebSocket-Protocol: openai-insecure-api-key."+r.token, "Connection: Authorization, X-Custom, X-Api-Key")
			r.wantOK(r.do(req), "{}")
			got := r.upstream.only(t).Request
			if c := credentials(got); c != tc.want {
				t.Errorf("got\n%s\nwant\n%s", c, tc.want)
			}
			if got.Host != "api.openai.com" || got.URL.Host != "api.openai.com" || got.URL.Scheme != "https" {
				t.Errorf("sent to %s, Host %s", got.URL, got.Host)
			}
			if log := r.log.String(); strings.Contains(log, r.token) || strings.Contains(log, sharedKey) {
				t.Error("a credential is in the log")
			}
		})
	}
}

func TestWhichKeyIsSent(t *testing.T) {
	working, broken, other := own("openai"), own("openai"), own("gemini")
	broken.Err = errors.New("cannot be opened")
	broken.Secret = secret.Value{}
	unshared := func(cc ...project.Credential) func(*project.Snapshot) {
		return func(p *project.Snapshot) { p.Credentials, p.UseSharedKeys = cc, false }
	}
	none := func(c *provider.Config) { c.APIKey = secret.Value{} }
	local := func(c *provider.Config) {
		c.Name, c.Type, c.BaseURL, c.APIKey = "openai", "ollama", "http://localhost:11434/v1", secret.Value{}
	}
	for name, tc := range map[string]struct {
		setup setup
		want  string // "-": no credential at all; "": refused
		keyID uuid.UUID
	}{
		"own before shared":            {setup{project: owning(working)}, ownKey, working.KeyID},
		"shared":                       {setup{}, sharedKey, uuid.Nil},
		"another provider's":           {setup{project: owning(other)}, sharedKey, uuid.Nil},
		"broken does not fall back":    {setup{project: owning(broken)}, "", uuid.Nil},
		"broken beside working":        {setup{project: owning(broken, working)}, ownKey, working.KeyID},
		"shared not used":              {setup{project: unshared()}, "", uuid.Nil},
		"own without shared":           {setup{project: unshared(working)}, ownKey, working.KeyID},
		"none":                         {setup{provider: none}, "", uuid.Nil},
		"keyless":                      {setup{provider: local}, "-", uuid.Nil},
		"keyless, own":                 {setup{provider: local, project: owning(working)}, ownKey, working.KeyID},
		"keyless, broken":              {setup{provider: local, project: owning(broken)}, "", uuid.Nil},
		"keyless, without shared keys": {setup{provider: local, project: unshared()}, "-", uuid.Nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, tc.setup)
			a := r.do(r.chat(`{"model":"m"}`))
			if a.rec.KeyID != tc.keyID {
				t.Errorf("key id %s, want %s", a.rec.KeyID, tc.keyID)
			}
			if tc.want == "" {
				r.wantRefused(a, http.StatusBadGateway, apierr.CredentialsExhausted)
				if a.Header().Get("X-Should-Retry") != "false" || strings.Contains(a.Body.String(), "opened") {
					t.Errorf("%v %s", a.Header(), a.Body)
				}
				return
			}
			r.wantOK(a, "{}")
			want := "Authorization: Bearer " + tc.want
			if tc.want == "-" {
				want = ""
			}
			if c := credentials(r.upstream.only(t).Request); c != want {
				t.Errorf("sent %q, want %q", c, want)
			}
		})
	}
}

func TestWhatTheProviderSees(t *testing.T) {
	r := newRig(t, setup{})
	const body = ` {"model":"gpt-4o","x":"\u00e9"} `
	r.wantOK(r.do(r.request("POST", "//v1//chat/%63ompletions?b=2&a=1", body, "Content-Type: application/json", "Accept-Encoding: gzip", "X-Forwarded-For: 1.2.3.4", "Host: evil")), "{}")
	got := r.upstream.only(t)
	if got.URL.String() != "https://api.openai.com/v1/chat/completions?b=2&a=1" || got.Method != "POST" || string(got.body) != body {
		t.Errorf("%s %s %q", got.Method, got.URL, got.body)
	}
	if got.Header.Get("Accept-Encoding") != "identity" || got.Header.Get("X-Forwarded-For") != "" || got.Header.Get("Content-Type") != "application/json" {
		t.Errorf("header %v", got.Header)
	}
}

// Whatever a provider answers passes, headers and bytes.
func TestAnswersPass(t *testing.T) {
	for name, tc := range map[string]struct {
		status  int
		method  string
		body    string
		header  string
		value   string
		outcome string
	}{
		"OK":            {200, "POST", "{\"a\": 1}\n", "X-Ratelimit-Remaining-Tokens", "7", gateway.OutcomeOK},
		"created":       {201, "POST", "{}", "", "", gateway.OutcomeOK},
		"no content":    {204, "DELETE", "", "", "", gateway.OutcomeOK},
		"not modified":  {304, "GET", "", "Etag", `"x"`, gateway.OutcomeOK},
		"HEAD":          {200, "HEAD", "", "Content-Length", "1234", gateway.OutcomeOK},
		"redirect":      {307, "GET", "moved", "Location", "https://elsewhere.example/x?y=1", gateway.OutcomeOK},
		"bad request":   {400, "POST", `{"error": {"message":"é"}} `, "", "", gateway.OutcomeUpstreamError},
		"forbidden":     {403, "POST", `{"error":{"code":"country"}}`, "", "", gateway.OutcomeUpstreamError},
		"not found":     {404, "GET", "nothing", "Content-Type", "text/plain", gateway.OutcomeUpstreamError},
		"rate limit":    {429, "POST", `{"error":{"code":"rate_limit"}}`, "Retry-After", "3", gateway.OutcomeUpstreamError},
		"server error":  {500, "POST", "<html>", "", "", gateway.OutcomeUpstreamError},
		"overloaded":    {529, "POST", `{"type":"error"}`, "Request-Id", "req_1", gateway.OutcomeUpstreamError},
		"partial":       {206, "GET", "part", "Content-Range", "bytes 0-3/9", gateway.OutcomeOK},
		"provider time": {200, "GET", "{}", "Server-Timing", "theirs;dur=1", gateway.OutcomeOK},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, setup{})
			r.upstream.answer = func(*http.Request) (*http.Response, error) {
				resp := reply(tc.status, "application/json", tc.body)
				if tc.header != "" {
					resp.Header.Set(tc.header, tc.value)
				}
				return resp, nil
			}
			a := r.do(r.request(tc.method, "/v1/files/f1", ""))
			if a.Code != tc.status || a.Body.String() != tc.body || a.aborted {
				t.Errorf("%d %q, aborted %t", a.Code, a.Body, a.aborted)
			}
			if tc.header != "" && a.Header()[tc.header][0] != tc.value {
				t.Errorf("%s: %q", tc.header, a.Header()[tc.header])
			}
			if a.rec.Status != tc.status || a.rec.Outcome != tc.outcome || a.rec.Code != "" || a.rec.BytesOut != int64(len(tc.body)) {
				t.Errorf("record %+v", a.rec)
			}
			if len(r.upstream.requests()) != 1 {
				t.Error("it was tried again, or followed")
			}
		})
	}
}

func TestExposedHeaders(t *testing.T) {
	for _, hide := range []bool{false, true} {
		r := newRig(t, setup{gateway: func(c *gateway.Config) { c.HideHeaders = hide }})
		r.upstream.answer = func(*http.Request) (*http.Response, error) {
			resp := reply(200, "application/json", "{}")
			resp.Header["X-Request-Id"] = []string{"req_theirs"}
			resp.Header["X-Llm-Proxy-Attempts"] = []string{"99"}
			return resp, nil
		}
		for _, target := range []string{chatPath, "/v1/nothing/here"} {
			a := r.do(r.request("POST", target, `{"model":"m"}`))
			names := []string{"X-Llm-Proxy-Request-Id", "X-Llm-Proxy-Provider", "X-Llm-Proxy-Attempts", "Server-Timing"}
			for _, name := range names {
				if got := a.Header()[name]; (len(got) == 0) != hide || len(got) > 1 {
					t.Errorf("hidden %t, %s: %s is %q", hide, target, name, got)
				}
			}
			if hide {
				continue
			}
			attempts, id := "1", a.rec.RequestID
			if target != chatPath {
				attempts = "0"
			} else if a.Header().Get("X-Request-Id") != "req_theirs" || a.rec.UpstreamRequestID != "req_theirs" {
				t.Errorf("the provider's request id is %q", a.Header().Get("X-Request-Id"))
			}
			if a.Header().Get("X-Llm-Proxy-Attempts") != attempts || a.Header().Get("X-Llm-Proxy-Request-Id") != id || a.Header().Get("X-Llm-Proxy-Provider") != "openai" {
				t.Errorf("%s: header %v", target, a.Header())
			}
		}
	}
}
