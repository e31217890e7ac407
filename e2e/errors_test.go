package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// refusal is one way for a request to fail. Its zero fields leave the good
// request as it is.
type refusal struct {
	name     string
	provider string // the variant of the dialect's provider that is asked
	policy   object // of the token
	model    string
	body     string
	path     string // appended to the provider's
	method   string
	header   http.Header
	token    func(t *testing.T, a *account) string

	status  int
	code    string
	retry   string   // x-should-retry
	asked   int      // requests that reach the provider
	only    dialect  // where just one dialect can be asked so
	headers []string // further headers that the answer must have
}

// errorSite has, for each dialect, a provider for each kind of rule.
func errorSite(t *testing.T, sim *provider) site {
	s := against(sim)
	s.options = make(map[string]string)
	s.handler = "max_body 64KiB\n\tmax_upload 64KiB"
	for _, d := range allDialects {
		base := s.providers[string(d)]
		s.options[string(d)] = "" // projects bring their own keys
		for variant, options := range map[string]string{
			"params":  "allow_param model gpt-4o* claude-* gemini-*\nallow_param service_tier auto default",
			"headers": "require_headers X-Team",
			"origins": "allow_origins https://app.example.com",
			"browser": "require_headers Origin",
			"slow":    "response_header_timeout 200ms",
			"nokey":   "",
			"closed":  "",
		} {
			name := string(d) + "-" + variant
			s.providers[name] = base
			if variant == "closed" {
				s.providers[name] = unused(t) + strings.TrimPrefix(base, sim.url)
			}
			s.options[name] = "type " + string(d) + "\n" + options
			if variant != "nokey" {
				s.options[name] += "\napi_key {env.SHARED_KEY}"
			}
		}
	}
	return s
}

var refusals = []refusal{
	{name: "param", provider: "-params", body: `{"model":"gpt-4o","service_tier":"flex"}`, status: 400, code: "param_not_allowed"},
	{name: "param of another type", provider: "-params", body: `{"model":"gpt-4o","service_tier":["auto"]}`, status: 400, code: "param_not_allowed"},
	{name: "model by provider rule", provider: "-params", model: "o3", status: 400, code: "param_not_allowed"},
	{name: "not JSON", provider: "-params", body: `model=gpt-4o`, status: 400, code: "invalid_json"},
	{name: "repeated member", provider: "-params", body: `{"model":"gpt-4o","service_tier":"auto","service_tier":"flex"}`, status: 400, code: "invalid_json"},
	{name: "header", provider: "-headers", status: 400, code: "header_required"},
	{name: "origin missing", provider: "-browser", status: 400, code: "origin_required"},
	{name: "no token", token: func(*testing.T, *account) string { return "" }, status: 401, code: "invalid_token", retry: "false"},
	{name: "malformed token", token: func(_ *testing.T, a *account) string { return a.token[:len(a.token)-1] }, status: 401, code: "invalid_token", retry: "false"},
	{name: "foreign token", token: func(*testing.T, *account) string { return "sk-proj-abcdefghijklmnopqrstuvwxyz" }, status: 401, code: "invalid_token", retry: "false"},
	{name: "unknown token", token: func(t *testing.T, _ *account) string { return mint(t) }, status: 401, code: "invalid_token", retry: "false"},
	{name: "wrong secret", token: forged, status: 401, code: "invalid_token", retry: "false"},
	{name: "conflicting tokens", header: http.Header{"X-Api-Key": {"sk-other"}}, status: 401, code: "invalid_token", retry: "false"},
	{name: "management token", token: func(*testing.T, *account) string { return managementToken }, status: 401, code: "invalid_token", retry: "false"},
	{name: "expired token", token: expired, status: 401, code: "token_expired", retry: "false"},
	{name: "revoked token", token: revoked, status: 401, code: "token_inactive", retry: "false"},
	{name: "revoked token, wrong secret", token: func(t *testing.T, a *account) string { revoked(t, a); return forged(t, a) }, status: 401, code: "invalid_token", retry: "false"},
	{name: "inactive project", token: deactivated, status: 403, code: "project_inactive", retry: "false"},
	{name: "model by token", policy: object{"allowed_models": []string{"tiny-*"}}, status: 403, code: "model_not_allowed", retry: "false"},
	{name: "no model", policy: object{"allowed_models": []string{"gpt-4o*"}}, body: `{"messages":[]}`, only: openAIDialect, status: 403, code: "model_not_allowed", retry: "false"},
	{name: "provider", policy: object{"allowed_providers": []string{"mistral"}}, status: 403, code: "provider_not_allowed", retry: "false"},
	{name: "endpoint by token", policy: object{"allowed_endpoints": []string{"/v1/models"}}, status: 404, code: "endpoint_not_found"},
	{name: "origin", provider: "-origins", header: http.Header{"Origin": {"https://evil.example.com"}}, status: 403, code: "origin_not_allowed", retry: "false"},
	{name: "address", policy: object{"allowed_ips": []string{"10.0.0.0/8"}}, status: 403, code: "ip_not_allowed", retry: "false"},
	{name: "forged address", policy: object{"allowed_ips": []string{"10.0.0.0/8"}}, header: http.Header{"X-Forwarded-For": {"10.1.2.3"}}, status: 403, code: "ip_not_allowed", retry: "false"},
	{name: "endpoint", path: "/../organization", only: openAIDialect, status: 404, code: "endpoint_not_found"},
	{name: "method", method: "PUT", status: 405, code: "method_not_allowed", headers: []string{"Allow"}},
	{name: "too large", body: `{"model":"gpt-4o","messages":"` + strings.Repeat("x", 64<<10) + `"}`, status: 413, code: "request_too_large"},
	{name: "dial", provider: "-closed", status: 502, code: "upstream_error"},
	{name: "abort before the answer", model: "sim-abort-headers", status: 502, code: "upstream_error", asked: 1},
	{name: "no key", provider: "-nokey", status: 502, code: "upstream_credentials_exhausted", retry: "false"},
	{name: "key refused", model: "sim-error-401", status: 502, code: "upstream_credentials_exhausted", retry: "false", asked: 1},
	{name: "no requests a minute", policy: object{"rpm": 0}, status: 429, code: "rate_limit_exceeded", retry: "false"},
	{name: "more tokens than a minute has", policy: object{"tpm": 1}, status: 429, code: "rate_limit_exceeded", retry: "false"},
	{name: "no request at a time", policy: object{"concurrency": 0}, status: 429, code: "rate_limit_exceeded", retry: "false"},
	{name: "no requests at all", policy: object{"max_requests": 0}, status: 429, code: "quota_exceeded", retry: "false"},
	{name: "dearer than the budget", policy: object{"budget_usd": "0.000000001"}, status: 402, code: "budget_hold_too_large", retry: "false"},
	{name: "no price", policy: object{"budget_usd": "1000"}, model: "nobodys-model", status: 403, code: "model_not_allowed", retry: "false"},
	{name: "hosted tool", policy: object{"budget_usd": "1000"}, body: `{"model":"gpt-4o","max_tokens":9,"tools":[{"type":"code_interpreter"}]}`, status: 403, code: "endpoint_not_budgetable", retry: "false"},
	{name: "background", policy: object{"budget_usd": "1000"}, path: "/responses", body: `{"model":"gpt-4o","input":"hello","background":true}`, only: openAIDialect, status: 403, code: "endpoint_not_budgetable", retry: "false"},
	{name: "batch", policy: object{"budget_usd": "1000"}, path: "/batches", body: `{"input_file_id":"file-1","endpoint":"/v1/responses","completion_window":"24h"}`, only: openAIDialect, status: 403, code: "endpoint_not_budgetable", retry: "false"},
	{name: "fine-tuning", policy: object{"budget_usd": "1000"}, path: "/fine_tuning/jobs", body: `{"model":"gpt-4o","training_file":"file-1"}`, only: openAIDialect, status: 403, code: "endpoint_not_budgetable", retry: "false"},
	{name: "message batch", policy: object{"budget_usd": "1000"}, path: "/v1/messages/batches", body: `{"requests":[]}`, only: anthropicDialect, status: 403, code: "endpoint_not_budgetable", retry: "false"},
	{name: "time out", provider: "-slow", model: "sim-hang", status: 504, code: "upstream_timeout", asked: 1},
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, d := range allDialects {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			sim := newProvider(t, simulator.Options{})
			p := start(t, errorSite(t, sim), "SHARED_KEY=sk-shared-0123456789")
			for i, c := range refusals {
				if c.only != "" && c.only != d {
					continue
				}
				t.Run(c.name, func(t *testing.T) { c.check(t, p, sim, d, allProtocols[i%len(allProtocols)]) })
			}
		})
	}
}

func (c refusal) check(t *testing.T, p *proxy, sim *provider, d dialect, proto protocol) {
	a := p.account(t, c.policy)
	model := c.model
	if model == "" {
		model = map[dialect]string{openAIDialect: "gpt-4o", anthropicDialect: "claude-sonnet-4-5", geminiDialect: "gemini-2.5-flash"}[d]
	}
	r := d.ask(string(d)+c.provider, a.token, model, false)
	r.proto, r.method = proto, c.method
	if c.path != "" {
		r.path = "/" + string(d) + c.path
	}
	if c.body != "" {
		r.body = c.body
	}
	for name, values := range c.header {
		if r.header == nil {
			r.header = make(http.Header)
		}
		r.header[name] = values
	}
	if c.token != nil {
		r.token = c.token(t, a)
	}
	before := sim.count()
	got := p.do(t, r)
	problem := d.refused(t, got, c.status, c.code)
	if retry := got.header.Get("X-Should-Retry"); retry != c.retry {
		t.Errorf("X-Should-Retry %q, want %q", retry, c.retry)
	}
	for _, name := range c.headers {
		if got.header.Get(name) == "" {
			t.Errorf("no header %s", name)
		}
	}
	for _, secret := range []string{a.key, r.token, "SHARED_KEY", "127.0.0.1"} {
		if secret != "" && strings.Contains(got.body, secret) {
			t.Errorf("the answer tells %q: %s", secret, got.body)
		}
	}
	if n := sim.count() - before; n != c.asked {
		t.Errorf("%d requests reached the provider, want %d", n, c.asked)
	}
	if problem.kind == "" {
		t.Error("no type")
	}
}

// mint makes a token that no proxy knows.
func mint(t *testing.T) string {
	t.Helper()
	text, _, err := token.Mint(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// forged is the account's token with another secret.
func forged(t *testing.T, a *account) string {
	t.Helper()
	const id = len(token.Prefix) + 22
	body := a.token[:id] + mint(t)[id:token.Length-6]
	return body + checksum(body)
}

func expired(t *testing.T, a *account) string {
	t.Helper()
	at := time.Now().Add(300 * time.Millisecond)
	_, text := a.mint(t, object{"expires_at": at.UTC().Format(time.RFC3339Nano)})
	eventually(t, "the token is expired", func() bool { return time.Now().After(at) })
	return text
}

func revoked(t *testing.T, a *account) string {
	t.Helper()
	a.revoke(t)
	return a.token
}

func deactivated(t *testing.T, a *account) string {
	t.Helper()
	a.patchProject(t, object{"is_active": false})
	return a.token
}

// TestAllow holds the Allow header of a 405 against the methods that work.
func TestAllow(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	s := against(sim)
	s.options = map[string]string{"openai": "allow_methods GET POST"}
	p := start(t, s)
	a := p.account(t)
	for method, allow := range map[string]string{"DELETE": "GET, POST", "PATCH": "GET, POST", "PUT": "GET, POST", "TRACE": "GET, POST", "get": "GET, POST"} {
		t.Run(method, func(t *testing.T) {
			got := p.do(t, request{method: method, path: "/v1/models", token: a.token})
			openAIDialect.refused(t, got, http.StatusMethodNotAllowed, "method_not_allowed")
			if got.header.Get("Allow") != allow {
				t.Errorf("Allow %q, want %q", got.header.Get("Allow"), allow)
			}
		})
	}
	t.Run("own endpoint", func(t *testing.T) {
		got := p.do(t, request{method: "DELETE", path: "/v1/llm-proxy/token", token: a.token})
		openAIDialect.refused(t, got, http.StatusMethodNotAllowed, "method_not_allowed")
		if got.header.Get("Allow") != "GET, HEAD" {
			t.Errorf("Allow %q", got.header.Get("Allow"))
		}
	})
	sim.untouched(t, 0)
}

// checksum is the end of a token: CRC-32 in base62.
func checksum(body string) string {
	const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	sum, digits := crc(body), make([]byte, 6)
	for i := range digits {
		digits[len(digits)-1-i] = base62[sum%62]
		sum /= 62
	}
	return string(digits)
}
