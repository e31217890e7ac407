package caddymodule

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/predecessor"
)

// oldProviders has a provider of every kind that the predecessor's own files have.
const oldProviders = `
default_api: anthropic
apis:
  openai:
    base_url: https://api.openai.com
    allowed_endpoints: [/v1/chat/completions, /v1/files/, /v1/threads]
    allowed_methods: [GET, POST, OPTIONS]
    timeouts: {request: 120s, response_header: 30s, idle_connection: 90s, flush_interval: 10ms}
    connection: {max_idle_conns: 100, max_idle_conns_per_host: 20}
    param_whitelist: {model: [gpt-4o, gpt-4o-*, o4-mini], voice: ["a b", "#c"], import: [import]}
    allowed_origins: [https://www.example.com, http://localhost:4000]
    required_headers: [origin, x-team]
  anthropic: {base_url: https://api.anthropic.com, allowed_endpoints: [/v1/messages, /v1/complete], allowed_methods: [POST]}
  google: {base_url: https://generativelanguage.googleapis.com, allowed_endpoints: ["/v1/models/gemini-pro:generateContent"], allowed_methods: [GET]}
  mistral: {base_url: https://api.mistral.ai, allowed_endpoints: [/v1/models], allowed_methods: [GET]}
  cohere: {base_url: https://api.cohere.ai, allowed_endpoints: [/v1/generate, /v1/chat], allowed_methods: [POST]}
  local_llm: {base_url: "http://localhost:8000", allowed_endpoints: [/api/completions], allowed_methods: [GET, POST]}
`

// TestImportedProvidersAdapt imports what the command writes into a Caddyfile, and
// has every provider built.
func TestImportedProvidersAdapt(t *testing.T) {
	providers, err := predecessor.ReadProviders(strings.NewReader(oldProviders))
	if err != nil {
		t.Fatal(err)
	}
	text, _, err := providers.Caddyfile()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "providers.caddyfile"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "Caddyfile")
	if err := os.WriteFile(config, []byte("{\n\tllm_proxy {\n\t\timport "+filepath.Join(dir, "providers.caddyfile")+"\n\t}\n}\n:8080 {\n\tllm_proxy\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := loadConfig(config, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.app.Providers) != len(providers.APIs) {
		t.Errorf("%d providers, want %d", len(c.app.Providers), len(providers.APIs))
	}
	for name := range providers.APIs {
		if _, err := c.app.buildProvider(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := c.app.Providers["openai"]
	if !slices.Equal(p.AllowEndpoints, []string{"/v1/chat/completions", "/v1/chat/completions/*", "/v1/files/*", "/v1/threads", "/v1/threads/*"}) ||
		!slices.Equal(p.AllowMethods, []string{"GET", "POST"}) || !slices.Equal(p.AllowParams["voice"], []string{"a b", "#c"}) ||
		!slices.Equal(p.AllowParams["import"], []string{"import"}) || !slices.Equal(p.RequireHeaders, []string{"Origin", "X-Team"}) || p.MaxIdleConnsPerHost != 20 {
		t.Errorf("openai is %+v", p)
	}
	if got := c.app.Providers["google"].Type; got != "gemini" {
		t.Errorf("google is of type %s", got)
	}
	if got := c.app.Providers["cohere"]; got.Type != "openai" || got.BaseURL != "https://api.cohere.ai/v1" {
		t.Errorf("cohere is %+v", got)
	}
}
