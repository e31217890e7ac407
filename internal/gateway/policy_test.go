package gateway_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// watchedBody records whether anybody read it.
type watchedBody struct {
	io.Reader
	reads int
}

func (b *watchedBody) Read(p []byte) (int, error) { b.reads++; return b.Reader.Read(p) }
func (b *watchedBody) Close() error               { return nil }

// ladder is a rig whose every check refuses something.
func ladder(t *testing.T) *rig {
	return newRig(t, setup{
		provider: func(c *provider.Config) {
			c.Methods = []string{"POST", "DELETE"}
			c.Endpoints = []string{"/v1/chat/completions", "/v1/embeddings"}
			c.Origins = []string{"https://app.example"}
			c.RequiredHeaders = []string{"X-Team"}
			c.Params = map[string][]string{"model": {"gpt-*"}, "temperature": {"0", "1"}}
		},
		others: []provider.Config{{Name: "ollama"}},
		token: func(tok *token.Token) {
			tok.Policy = project.Policy{
				AllowedModels: []string{"gpt-4o*", "gpt-5"}, AllowedProviders: []string{"openai"},
				AllowedEndpoints: []string{"/v1/chat/completions"}, AllowedIPs: []string{"10.0.0.0/8"},
			}
		},
		project: func(p *project.Snapshot) { p.Policy.AllowedModels = []string{"gpt-4o*"} },
		gateway: func(c *gateway.Config) {
			c.MaxBody = 200
			c.ClientIP = func(r *http.Request) netip.Addr {
				addr, _ := netip.ParseAddr(r.Header.Get("X-Test-Ip"))
				return addr
			}
		},
	})
}

// Each rung breaks one more rule; the refusal is always that of the first check
// that fails, so the rungs below it must not show.
func TestChecksComeInOrder(t *testing.T) {
	type attempt struct {
		method, target, body string
		lines                []string
	}
	ok := attempt{"POST", "/v1/chat/completions", `{"model":"gpt-4o","temperature":0}`, []string{"Origin: https://app.example", "X-Test-Ip: 10.1.2.3", "X-Team: a"}}
	replace := func(a *attempt, i int, line string) { a.lines = slices.Clone(a.lines); a.lines[i] = line }
	rungs := []struct {
		name   string
		spoil  func(*attempt)
		status int
		code   string
	}{
		{"param", func(a *attempt) { a.body = `{"model":"gpt-4o","temperature":2}` }, 400, apierr.ParamNotAllowed},
		{"provider's model", func(a *attempt) { a.body = `{"model":"gpt-5","temperature":2}` }, 403, apierr.ModelNotAllowed},
		{"model", func(a *attempt) { a.body = `{"model":"o3","temperature":2}` }, 403, apierr.ModelNotAllowed},
		{"JSON", func(a *attempt) { a.body = `{"model":"o3","temperature":2` }, 400, apierr.InvalidJSON},
		{"body", func(a *attempt) { a.body = string(make([]byte, 201)) }, 413, apierr.RequestTooLarge},
		{"header", func(a *attempt) { replace(a, 2, "X-Other: a") }, 400, apierr.HeaderRequired},
		{"address", func(a *attempt) { replace(a, 1, "X-Test-Ip: 11.0.0.1") }, 403, apierr.IPNotAllowed},
		{"origin", func(a *attempt) { replace(a, 0, "Origin: https://evil.example") }, 403, apierr.OriginNotAllowed},
		{"endpoint", func(a *attempt) { a.target = "/v1/embeddings" }, 404, apierr.EndpointNotFound},
		{"provider", func(a *attempt) { a.target = "/ollama/v1/embeddings" }, 403, apierr.ProviderNotAllowed},
		{"method", func(a *attempt) { a.method, a.target = "PATCH", "/v1/embeddings" }, 405, apierr.MethodNotAllowed},
		{"credential", func(a *attempt) { a.lines = append(slices.Clone(a.lines), "Api-Key: another") }, 401, apierr.InvalidToken},
		{"path", func(a *attempt) { a.target = "/v1/chat%2fcompletions" }, 404, apierr.EndpointNotFound},
	}
	r := ladder(t)
	r.wantOK(r.do(r.request(ok.method, ok.target, ok.body, ok.lines...)), "{}")
	for _, rung := range rungs {
		rung.spoil(&ok)
		t.Run(rung.name, func(t *testing.T) {
			r := ladder(t)
			r.wantRefused(r.do(r.request(ok.method, ok.target, ok.body, ok.lines...)), rung.status, rung.code)
		})
	}
}

func TestNothingIsReadBeforeAuthentication(t *testing.T) {
	for name, tc := range map[string]struct {
		lines  []string
		target string
		status int
		code   string
		spoil  func(*rig)
	}{
		"no token":         {lines: []string{"X-Api-Key:"}, status: 401, code: apierr.InvalidToken},
		"malformed token":  {lines: []string{"X-Api-Key:", "Authorization: Bearer sk-wt-x"}, status: 401, code: apierr.InvalidToken},
		"two tokens":       {lines: []string{"Authorization: Bearer sk-wt-x"}, status: 401, code: apierr.InvalidToken},
		"revoked":          {status: 401, code: apierr.TokenInactive, spoil: func(r *rig) { r.announce(r.store.revoke(r.tokenID)) }},
		"expired":          {status: 401, code: apierr.TokenExpired, spoil: func(r *rig) { r.announce(r.store.changeToken(r.tokenID, expire)) }},
		"project inactive": {status: 403, code: apierr.ProjectInactive, spoil: func(r *rig) { r.announce(r.store.deactivate(r.projectID)) }},
		"store away":       {status: 503, code: apierr.StoreUnavailable, spoil: func(r *rig) { r.store.setAway(errors.New("connection refused")) }},
		"endpoint":         {target: "/v1/organization/users", status: 404, code: apierr.EndpointNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, setup{})
			if tc.spoil != nil {
				tc.spoil(r)
			}
			target := "/v1/chat/completions"
			if tc.target != "" {
				target = tc.target
			}
			req := r.request("POST", target, `{"model":"gpt-4o"}`, tc.lines...)
			body := &watchedBody{Reader: req.Body}
			req.Body = body
			a := r.do(req)
			r.wantRefused(a, tc.status, tc.code)
			if body.reads != 0 {
				t.Errorf("the body was read %d times", body.reads)
			}
			if tc.status != 503 && tc.status != 404 && a.Header().Get("X-Should-Retry") != "false" {
				t.Errorf("X-Should-Retry %q", a.Header().Get("X-Should-Retry"))
			}
		})
	}
}

func expire(tok *token.Token) {
	past := time.Now().Add(-time.Minute)
	tok.ExpiresAt = &past
}

func TestNotReady(t *testing.T) {
	ready := gateway.ErrStarting
	r := newRig(t, setup{gateway: func(c *gateway.Config) { c.Ready = func(context.Context) *apierr.Error { return ready } }})
	a := r.do(r.chat(`{"model":"gpt-4o"}`))
	r.wantRefused(a, http.StatusServiceUnavailable, apierr.Starting)
	if a.Header().Get("Retry-After") != "2" {
		t.Errorf("Retry-After %q", a.Header().Get("Retry-After"))
	}
	if r.store.lookups != 0 {
		t.Error("the token was looked up")
	}
	ready = nil
	r.wantOK(r.do(r.chat(`{"model":"gpt-4o"}`)), "{}")
}

// A replayed early-data request must not cost money twice (RFC 8470).
func TestEarlyData(t *testing.T) {
	r := newRig(t, setup{})
	req := r.chat(`{"model":"gpt-4o"}`)
	req.TLS = new(tls.ConnectionState)
	r.wantRefused(r.do(req), http.StatusTooEarly, apierr.TooEarly)
	req.TLS.HandshakeComplete = true
	r.wantOK(r.do(req), "{}")
	req = r.request("GET", "/v1/models", "")
	req.TLS = new(tls.ConnectionState)
	if a := r.do(req); a.Code != http.StatusOK {
		t.Errorf("GET: status %d", a.Code)
	}
}

func TestMethods(t *testing.T) {
	for _, method := range []string{"GET", "HEAD", "POST", "DELETE"} {
		r := newRig(t, setup{})
		if a := r.do(r.request(method, "/v1/files/f1", "")); a.Code != http.StatusOK {
			t.Errorf("%s: status %d", method, a.Code)
		}
	}
	for _, method := range []string{"PUT", "PATCH", "OPTIONS", "TRACE", "get", "CONNECT", "PROPFIND", "POST "} {
		r := newRig(t, setup{})
		req := r.request("GET", "/v1/files/f1", "", "X-HTTP-Method-Override: GET")
		req.Method = method
		a := r.do(req)
		r.wantRefused(a, http.StatusMethodNotAllowed, apierr.MethodNotAllowed)
		if a.Header().Get("Allow") != "GET, HEAD, POST, DELETE" {
			t.Errorf("%s: Allow %q", method, a.Header().Get("Allow"))
		}
	}
}

func TestAddresses(t *testing.T) {
	for _, tc := range []struct {
		remote         string
		token, project []string
		ok             bool
	}{
		{"10.1.2.3:4000", []string{"10.0.0.0/8"}, nil, true},
		{"[::ffff:10.1.2.3]:4000", []string{"10.0.0.0/8"}, nil, true},
		{"[fe80::1%eth0]:4000", nil, []string{"fe80::/10"}, true},
		{"11.1.2.3:4000", []string{"10.0.0.0/8"}, nil, false},
		{"10.1.2.3:4000", []string{"10.0.0.0/8"}, []string{"10.1.0.0/24"}, false},
		{"not an address", []string{"0.0.0.0/0", "::/0"}, nil, false},
		{"@", nil, nil, true},
	} {
		r := newRig(t, setup{
			token:   func(tok *token.Token) { tok.Policy.AllowedIPs = tc.token },
			project: func(p *project.Snapshot) { p.Policy.AllowedIPs = tc.project },
		})
		req := r.chat(`{"model":"gpt-4o"}`, "X-Forwarded-For: 10.1.0.1")
		req.RemoteAddr = tc.remote
		if a := r.do(req); tc.ok {
			r.wantOK(a, "{}")
		} else {
			r.wantRefused(a, http.StatusForbidden, apierr.IPNotAllowed)
		}
	}
}
