package gateway_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

func TestSelf(t *testing.T) {
	expires := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	for name, s := range map[string]setup{
		"plain": {},
		"expires": {
			token: func(tok *token.Token) {
				tok.ExpiresAt = &expires
				tok.Policy = project.Policy{AllowedModels: []string{"gpt-*"}, AllowedEndpoints: []string{"/v1/models"}, Metadata: map[string]string{"team": "a"}}
			},
			project: func(p *project.Snapshot) {
				p.Policy.AllowedProviders = []string{"anthropic"}
				p.Credentials = []project.Credential{own("openai")}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, s)
			a := r.do(r.request("GET", gateway.SelfPath, ""))
			var got map[string]any
			if err := json.Unmarshal(a.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			issued, _ := got["issued_at"].(string)
			if at, err := time.Parse(time.RFC3339, issued); err != nil || time.Since(at) > time.Minute {
				t.Errorf("issued_at %q", issued)
			}
			delete(got, "issued_at")
			policy := func(set map[string]any) map[string]any {
				all := map[string]any{
					"allowed_models": nil, "allowed_providers": nil, "allowed_endpoints": nil, "allowed_ips": nil,
					"rpm": nil, "tpm": nil, "concurrency": nil, "max_requests": nil, "budget_usd": nil,
				}
				maps.Copy(all, set)
				return all
			}
			want := map[string]any{
				"id": r.tokenID.String(), "name": "laptop", "expires_at": nil,
				"project": map[string]any{"id": r.projectID.String(), "name": "acme"},
				"limits":  map[string]any{"token": policy(nil), "project": policy(nil)},
			}
			if name == "expires" {
				want["expires_at"] = expires.Format(time.RFC3339)
				want["limits"] = map[string]any{
					"token":   policy(map[string]any{"allowed_models": []any{"gpt-*"}, "allowed_endpoints": []any{"/v1/models"}}),
					"project": policy(map[string]any{"allowed_providers": []any{"anthropic"}}),
				}
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
			h := a.Header()
			if a.Code != 200 || h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" || h.Get("Content-Length") != strconv.Itoa(a.Body.Len()) {
				t.Errorf("%d %v", a.Code, h)
			}
			if text := a.Body.String(); strings.Contains(text, r.token) || strings.Contains(text, ownKey) || strings.Contains(text, "hash") {
				t.Errorf("tells too much: %s", text)
			}
			if a.rec.Outcome != gateway.OutcomeOK || a.rec.Attempts != 0 || a.rec.Provider != "" || a.rec.Endpoint != gateway.SelfPath || a.rec.TokenID != r.tokenID {
				t.Errorf("record %+v", a.rec)
			}
			if len(r.upstream.requests()) != 0 {
				t.Error("a provider was asked")
			}
		})
	}
}

func TestSelfRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		method string
		lines  []string
		setup  setup
		status int
		code   string
	}{
		"no token": {lines: []string{"X-Api-Key:"}, status: 401, code: apierr.InvalidToken},
		"POST":     {method: "POST", status: 405, code: apierr.MethodNotAllowed},
		"DELETE":   {method: "DELETE", status: 405, code: apierr.MethodNotAllowed},
		"address":  {setup: setup{token: func(tok *token.Token) { tok.Policy.AllowedIPs = []string{"10.0.0.0/8"} }}, status: 403, code: apierr.IPNotAllowed},
		"expired":  {setup: setup{token: expire}, status: 401, code: apierr.TokenExpired},
		"inactive": {setup: setup{project: func(p *project.Snapshot) { p.Active = false }}, status: 403, code: apierr.ProjectInactive},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, tc.setup)
			if tc.method == "" {
				tc.method = "GET"
			}
			a := r.do(r.request(tc.method, gateway.SelfPath, "", tc.lines...))
			r.wantRefused(a, tc.status, tc.code)
			if tc.status == 405 && a.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("Allow %q", a.Header().Get("Allow"))
			}
		})
	}
}

func TestSelfHead(t *testing.T) {
	r := newRig(t, setup{})
	a := r.do(r.request("HEAD", gateway.SelfPath, ""))
	if n, _ := strconv.Atoi(a.Header().Get("Content-Length")); a.Code != http.StatusOK || a.Body.Len() != 0 || n == 0 {
		t.Errorf("%d %v %q", a.Code, a.Header(), a.Body)
	}
}

// Only the path itself is ours; what comes near it is the provider's, which
// has no such endpoint.
func TestSelfIsOnePath(t *testing.T) {
	for _, target := range []string{"/v1//llm-proxy/token", "/v1/llm-proxy/token/", "/v1/llm-proxy/tokens", "/v1/llm-proxy", "/v1/LLM-proxy/token", "/ollama/v1/llm-proxy/token"} {
		r := newRig(t, setup{others: []provider.Config{{Name: "ollama"}}})
		r.wantRefused(r.do(r.request("GET", target, "")), http.StatusNotFound, apierr.EndpointNotFound)
	}
}
