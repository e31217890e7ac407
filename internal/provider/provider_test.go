package provider_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

func TestPresetsAreSound(t *testing.T) {
	seen := make(map[string]bool)
	for _, pre := range provider.Presets() {
		t.Run(pre.Type, func(t *testing.T) {
			if seen[pre.Type] {
				t.Fatal("two presets have this type")
			}
			seen[pre.Type] = true
			if err := provider.CheckName(pre.Type); err != nil {
				t.Errorf("the type is the default name: %v", err)
			}
			if len(pre.Endpoints) == 0 || len(pre.Methods) == 0 {
				t.Error("no endpoints or no methods")
			}
			for i, e := range pre.Endpoints {
				if err := project.CheckEndpoint(e); err != nil {
					t.Errorf("endpoint: %v", err)
				}
				if slices.Contains(pre.Endpoints[:i], e) {
					t.Errorf("endpoint %s is listed twice", e)
				}
			}
			p := preset(t, pre.Type, "")
			if p.Type != pre.Type || p.Auth != pre.Auth || p.Allow != strings.Join(pre.Methods, ", ") {
				t.Errorf("New made type %s, auth %s, methods %q", p.Type, p.Auth, p.Allow)
			}
			if p.Auth.Scheme == provider.AuthHeader && http.CanonicalHeaderKey(p.Auth.Name) != p.Auth.Name {
				t.Errorf("header %q is not in canonical form", p.Auth.Name)
			}
			got, ok := provider.PresetFor(pre.Type)
			if !ok || got.Type != pre.Type {
				t.Errorf("PresetFor = %v, %v", got.Type, ok)
			}
		})
	}
	for _, kind := range strings.Fields("openai anthropic gemini azure_openai openrouter mistral groq deepseek xai ollama vllm") {
		if !seen[kind] {
			t.Errorf("no preset %s", kind)
		}
	}
	if _, ok := provider.PresetFor("nobody"); ok {
		t.Error("a preset for nobody")
	}
}

func TestAuthString(t *testing.T) {
	for want, auth := range map[string]provider.Auth{
		"bearer":           {},
		"header X-Api-Key": {Scheme: provider.AuthHeader, Name: "X-Api-Key"},
		"query key":        {Scheme: provider.AuthQuery, Name: "key"},
	} {
		if got := auth.String(); got != want {
			t.Errorf("String = %q, want %q", got, want)
		}
	}
}

func TestNewErrorsNameTheOption(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*provider.Config)
		want   string // how the error begins, or contains
	}{
		{"no name", func(c *provider.Config) { c.Name = "" }, "cannot name a provider"},
		{"reserved name", func(c *provider.Config) { c.Name = "v1" }, `"v1" cannot name a provider`},
		{"reserved name", func(c *provider.Config) { c.Name = "manage" }, `"manage" cannot name a provider`},
		{"slash in the name", func(c *provider.Config) { c.Name = "a/b" }, `"a/b" cannot name a provider`},
		{"dot segment as name", func(c *provider.Config) { c.Name = ".." }, `".." cannot name a provider`},
		{"unknown type", func(c *provider.Config) { c.Type = "skynet" }, `type: "skynet" is not a preset; expected one of anthropic, azure_openai`},
		{"name that is no type", func(c *provider.Config) { c.Name, c.Type = "mine", "" }, `type: "mine" is not a preset`},
		{"azure without base", func(c *provider.Config) { c.Type = "azure_openai" }, "base_url: is required for type azure_openai"},
		{"relative base", func(c *provider.Config) { c.BaseURL = "/v1" }, "base_url: expected an absolute URL"},
		{"base without scheme", func(c *provider.Config) { c.BaseURL = "api.example.com/v1" }, "base_url: expected an absolute URL"},
		{"base of another scheme", func(c *provider.Config) { c.BaseURL = "ftp://api.example.com" }, "base_url: expected an absolute URL"},
		{"base without host", func(c *provider.Config) { c.BaseURL = "https:///v1" }, "base_url: expected an absolute URL"},
		{"base with a port alone", func(c *provider.Config) { c.BaseURL = "https://:443/v1" }, "base_url: expected an absolute URL"},
		{"base that does not parse", func(c *provider.Config) { c.BaseURL = "https://a b/%zz" }, "base_url: expected an absolute URL"},
		{"base with a password", func(c *provider.Config) { c.BaseURL = "https://u:hunter2@h" }, "base_url: must not hold a user"},
		{"base with a query", func(c *provider.Config) { c.BaseURL = "https://h/?key=hunter2" }, "base_url: must not hold a query"},
		{"base with a fragment", func(c *provider.Config) { c.BaseURL = "https://h/#x" }, "base_url: must not hold a query"},
		{"base with dot segments", func(c *provider.Config) { c.BaseURL = "https://h/a/../v1" }, "base_url: its path must be plain"},
		{"base with an escaped slash", func(c *provider.Config) { c.BaseURL = "https://h/a%2Fv1" }, "base_url: its path must be plain"},
		{"header auth without name", func(c *provider.Config) { c.Auth = &provider.Auth{Scheme: provider.AuthHeader} }, "auth: "},
		{"header auth with a bad name", func(c *provider.Config) { c.Auth = &provider.Auth{Scheme: provider.AuthHeader, Name: "X Y"} }, `auth: "X Y"`},
		{"query auth without name", func(c *provider.Config) { c.Auth = &provider.Auth{Scheme: provider.AuthQuery} }, "auth: "},
		{"unknown auth", func(c *provider.Config) { c.Auth = &provider.Auth{Scheme: 99} }, "auth: "},
		{"endpoint without slash", func(c *provider.Config) { c.Endpoints = []string{"/v1/models", "v1/files"} }, `allow_endpoints: "v1/files"`},
		{"endpoint with a star inside", func(c *provider.Config) { c.Endpoints = []string{"/v1/*/x"} }, `allow_endpoints: "/v1/*/x"`},
		{"method in small letters", func(c *provider.Config) { c.Methods = []string{"get"} }, `allow_methods: "get"`},
		{"method that is no token", func(c *provider.Config) { c.Methods = []string{"GET POST"} }, `allow_methods: "GET POST"`},
		{"empty method", func(c *provider.Config) { c.Methods = []string{""} }, `allow_methods: ""`},
		{"CONNECT", func(c *provider.Config) { c.Methods = []string{"CONNECT"} }, `allow_methods: "CONNECT"`},
		{"TRACE", func(c *provider.Config) { c.Methods = []string{"TRACE"} }, `allow_methods: "TRACE"`},
		{"origin without scheme", func(c *provider.Config) { c.Origins = []string{"app.example.com"} }, `allow_origins: "app.example.com"`},
		{"origin with a path", func(c *provider.Config) { c.Origins = []string{"https://app.example.com/"} }, `allow_origins: "https://app.example.com/"`},
		{"origin with a fragment", func(c *provider.Config) { c.Origins = []string{"https://app.example.com#x"} }, `allow_origins: "https://app.example.com#x"`},
		{"origin with a user", func(c *provider.Config) { c.Origins = []string{"https://u@app.example.com"} }, `allow_origins: `},
		{"wildcard origin", func(c *provider.Config) { c.Origins = []string{"*"} }, `allow_origins: "*"`},
		{"header with a colon", func(c *provider.Config) { c.RequiredHeaders = []string{"X-A:"} }, `require_headers: "X-A:"`},
		{"negative dial timeout", func(c *provider.Config) { c.DialTimeout = -1 }, "dial_timeout: "},
		{"negative header timeout", func(c *provider.Config) { c.ResponseHeaderTimeout = -1 }, "response_header_timeout: "},
		{"negative connections", func(c *provider.Config) { c.MaxIdleConnsPerHost = -1 }, "max_idle_conns_per_host: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := provider.Config{Name: "openai", APIKey: secret.NewValue("sk-hunter2-hunter2")}
			tc.change(&c)
			p, err := provider.New(c)
			if err == nil || p != nil {
				t.Fatalf("accepted: %+v", c)
			}
			if !strings.Contains(err.Error(), tc.want) || strings.HasSuffix(tc.want, ": ") && !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("error %q, want %q", err, tc.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error holds a secret: %v", err)
			}
		})
	}
}

func TestNewCompletesAndOverrides(t *testing.T) {
	p := mustNew(t, provider.Config{Name: "openai"})
	if p.DialTimeout != provider.DefaultDialTimeout || p.IdleTimeout != provider.DefaultIdleTimeout || p.ResponseHeaderTimeout != 0 ||
		p.MaxIdleConnsPerHost != provider.DefaultMaxIdleConnsPerHost || p.Host() != "api.openai.com" || p.Scheme() != "https" || p.BaseURL() != "https://api.openai.com/v1" {
		t.Errorf("defaults: %+v of %s", p, p.BaseURL())
	}
	p = mustNew(t, provider.Config{
		Name: "mine", Type: "anthropic", BaseURL: "http://127.0.0.1:9/x/v2/", Auth: &provider.Auth{Scheme: provider.AuthHeader, Name: "x-my-key"},
		APIKey: secret.NewValue("k"), Endpoints: []string{"/v1/messages"}, Methods: []string{"POST"}, RequiredHeaders: []string{"x-tenant", "ORIGIN"},
		DialTimeout: time.Second, ResponseHeaderTimeout: time.Minute, IdleTimeout: -1, MaxIdleConnsPerHost: 3,
	})
	if p.Name != "mine" || p.Type != "anthropic" || p.BaseURL() != "http://127.0.0.1:9/x/v2" || p.Auth.Name != "X-My-Key" || p.APIKey.Reveal() != "k" ||
		!slices.Equal(p.Endpoints, []string{"/v1/messages"}) || p.Allow != "POST" || !slices.Equal(p.RequiredHeaders, []string{"X-Tenant"}) ||
		p.DialTimeout != time.Second || p.ResponseHeaderTimeout != time.Minute || p.IdleTimeout != 0 || p.MaxIdleConnsPerHost != 3 {
		t.Errorf("overrides: %+v of %s", p, p.BaseURL())
	}
	pre, _ := provider.PresetFor("anthropic")
	if len(pre.Endpoints) < 2 {
		t.Error("an override reached the preset")
	}
}

func TestCheckOrigin(t *testing.T) {
	allowed := []string{"https://app.example.com", "http://localhost:3000", "null"}
	for _, tc := range []struct {
		name    string
		origins []string
		require bool
		values  []string
		want    string // code; "": allowed
	}{
		{"nothing asked, nothing sent", nil, false, nil, ""},
		{"nothing asked, one sent", nil, false, []string{"https://evil.example"}, ""},
		{"not a browser", allowed, false, nil, ""},
		{"empty", allowed, false, []string{""}, ""},
		{"listed", allowed, false, []string{"https://app.example.com"}, ""},
		{"listed, in another case", allowed, false, []string{"HTTPS://App.Example.com"}, ""},
		{"listed with its port", allowed, false, []string{"http://localhost:3000"}, ""},
		{"null is listed", allowed, false, []string{"null"}, ""},
		{"another", allowed, false, []string{"https://evil.example"}, apierr.OriginNotAllowed},
		{"another scheme", allowed, false, []string{"http://app.example.com"}, apierr.OriginNotAllowed},
		{"another port", allowed, false, []string{"https://app.example.com:8443"}, apierr.OriginNotAllowed},
		{"a longer name", allowed, false, []string{"https://app.example.com.evil.example"}, apierr.OriginNotAllowed},
		{"two", allowed, false, []string{"https://app.example.com", "https://evil.example"}, apierr.OriginNotAllowed},
		{"two, the first empty", allowed, false, []string{"", "https://evil.example"}, apierr.OriginNotAllowed},
		{"null is not listed", allowed[:1], false, []string{"null"}, apierr.OriginNotAllowed},
		{"required and missing", nil, true, nil, apierr.OriginRequired},
		{"required and empty", nil, true, []string{""}, apierr.OriginRequired},
		{"required and sent", nil, true, []string{"https://any.example"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := provider.Config{Name: "openai", Origins: tc.origins}
			if tc.require {
				c.RequiredHeaders = []string{"origin"}
			}
			err := mustNew(t, c).CheckOrigin(tc.values)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || err.Code != tc.want) {
				t.Fatalf("CheckOrigin(%q) = %v, want %q", tc.values, err, tc.want)
			}
		})
	}
}
