package e2e

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// TestTokenEndpoint lets the holder of a token read about it.
func TestTokenEndpoint(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, against(sim))
	a := p.account(t, object{"name": "ci", "expires_at": nil, "allowed_models": []string{"gpt-4o*"}, "allowed_ips": []string{"127.0.0.0/8"}})
	a.patchProject(t, object{"allowed_providers": []string{"openai"}})
	for _, proto := range allProtocols {
		t.Run(string(proto), func(t *testing.T) {
			got := p.do(t, request{path: "/v1/llm-proxy/token", token: a.token, proto: proto})
			if got.status != http.StatusOK || got.header.Get("Content-Type") != "application/json" || got.header.Get("Cache-Control") != "no-store" {
				t.Fatalf("%d %v %s", got.status, got.header, got.body)
			}
			type policy struct {
				Models    []string `json:"allowed_models"`
				Providers []string `json:"allowed_providers"`
				IPs       []string `json:"allowed_ips"`
			}
			var self struct {
				ID, Name  string
				IssuedAt  time.Time  `json:"issued_at"`
				ExpiresAt *time.Time `json:"expires_at"`
				Project   struct{ ID, Name string }
				Limits    struct{ Token, Project policy }
			}
			if err := json.Unmarshal([]byte(got.body), &self); err != nil {
				t.Fatal(err)
			}
			if self.ID != a.tokenID || self.Name != "ci" || self.ExpiresAt != nil || self.Project.ID != a.projectID || time.Since(self.IssuedAt).Abs() > time.Hour {
				t.Errorf("%s", got.body)
			}
			if !slices.Equal(self.Limits.Token.Models, []string{"gpt-4o*"}) || self.Limits.Token.Providers != nil ||
				!slices.Equal(self.Limits.Project.Providers, []string{"openai"}) || !slices.Equal(self.Limits.Token.IPs, []string{"127.0.0.0/8"}) {
				t.Errorf("%s", got.body)
			}
		})
	}
	for name, c := range map[string]struct {
		r      request
		status int
		code   string
	}{
		"no token":    {request{path: "/v1/llm-proxy/token"}, 401, "invalid_token"},
		"forged":      {request{path: "/v1/llm-proxy/token", token: forged(t, a)}, 401, "invalid_token"},
		"address":     {request{path: "/v1/llm-proxy/token", token: p.account(t, object{"allowed_ips": []string{"10.0.0.0/8"}}).token}, 403, "ip_not_allowed"},
		"POST":        {request{path: "/v1/llm-proxy/token", token: a.token, body: "{}"}, 405, "method_not_allowed"},
		"another":     {request{path: "/v1/llm-proxy/other", token: a.token}, 404, "endpoint_not_found"},
		"by provider": {request{path: "/openai/v1/llm-proxy/token", token: a.token}, 404, "endpoint_not_found"},
		"inactive":    {request{path: "/v1/llm-proxy/token", token: deactivated(t, p.account(t))}, 403, "project_inactive"},
	} {
		t.Run(name, func(t *testing.T) { openAIDialect.refused(t, p.do(t, c.r), c.status, c.code) })
	}
	sim.untouched(t, 0)
}
