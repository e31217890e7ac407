package provider_test

import (
	"net/url"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
)

// TestRouting has, for every preset, what official SDKs and hand-written
// clients send, however they spell the base URL they are given.
func TestRouting(t *testing.T) {
	const (
		gemini = "https://generativelanguage.googleapis.com"
		azure  = "https://acme.openai.azure.com"
	)
	for _, tc := range []struct {
		kind, base string
		path       string
		endpoint   string
		url        string
	}{
		{"openai", "", "/v1/chat/completions", "/v1/chat/completions", "https://api.openai.com/v1/chat/completions"},
		{"openai", "", "/openai/v1/chat/completions", "/v1/chat/completions", "https://api.openai.com/v1/chat/completions"},
		{"openai", "", "/openai/chat/completions", "/v1/chat/completions", "https://api.openai.com/v1/chat/completions"},
		{"openai", "", "/openai//v1//models/gpt%2D4o", "/v1/models/gpt-4o", "https://api.openai.com/v1/models/gpt-4o"},
		{"openai", "", "/v1/files/a%20b", "/v1/files/a%20b", "https://api.openai.com/v1/files/a%20b"},
		{"openai", "", "/v1/files/a!b'(c)*", "/v1/files/a!b'(c)*", "https://api.openai.com/v1/files/a!b'(c)*"},
		{"openai", "", "/openai/v1/v1/models", "/v1/v1/models", "https://api.openai.com/v1/v1/models"}, // refused by the allow-list
		{"openai", "", "/openai", "/v1", "https://api.openai.com/v1"},
		{"openai", "", "/openai/v1", "/v1", "https://api.openai.com/v1"},
		{"openai", "https://host.example/", "/v1/models", "/v1/models", "https://host.example/v1/models"},
		{"openai", "https://host.example", "/openai/v1/models", "/v1/models", "https://host.example/v1/models"},
		{"openai", "https://host.example:8443/llm/v1/", "/v1/models", "/v1/models", "https://host.example:8443/llm/v1/models"},
		{"openai", "https://host.example/llm/v1", "/openai/v1/models", "/v1/models", "https://host.example/llm/v1/models"},
		{"openai", "https://host.example/llm", "/v1/models", "/v1/models", "https://host.example/llm/v1/models"},
		{"openai", "https://host.example/llm", "/openai/v1/models", "/v1/models", "https://host.example/llm/v1/models"},
		{"openai", "https://ark.example/api/v3", "/v1/chat/completions", "/v1/chat/completions", "https://ark.example/api/v3/chat/completions"},
		{"openai", "https://ark.example/api/v3", "/openai/v3/chat/completions", "/v1/chat/completions", "https://ark.example/api/v3/chat/completions"},
		{"openai", "https://ark.example/api/v3", "/openai/chat/completions", "/v1/chat/completions", "https://ark.example/api/v3/chat/completions"},
		{"openai", "http://localhost:9/a%20b/v1", "/v1/models", "/v1/models", "http://localhost:9/a%20b/v1/models"},

		{"anthropic", "", "/anthropic/v1/messages", "/v1/messages", "https://api.anthropic.com/v1/messages"},
		{"anthropic", "", "/anthropic/messages", "/v1/messages", "https://api.anthropic.com/v1/messages"},
		{"anthropic", "", "/v1/messages/batches/b1/results", "/v1/messages/batches/b1/results", "https://api.anthropic.com/v1/messages/batches/b1/results"},
		{"anthropic", "https://host.example", "/anthropic/v1/messages/count_tokens", "/v1/messages/count_tokens", "https://host.example/v1/messages/count_tokens"},

		{"gemini", "", "/gemini/v1beta/models/gemini-2.5-flash:generateContent", "/v1beta/models/gemini-2.5-flash:generateContent", gemini + "/v1beta/models/gemini-2.5-flash:generateContent"},
		{"gemini", "", "/gemini/v1/models", "/v1/models", gemini + "/v1/models"},
		{"gemini", "", "/v1/models/gemini-2.5-flash:countTokens", "/v1/models/gemini-2.5-flash:countTokens", gemini + "/v1/models/gemini-2.5-flash:countTokens"},
		{"gemini", "", "/gemini/upload/v1beta/files", "/upload/v1beta/files", gemini + "/upload/v1beta/files"},
		{"gemini", "", "/gemini/v1beta/openai/chat/completions", "/v1beta/openai/chat/completions", gemini + "/v1beta/openai/chat/completions"},
		{"gemini", gemini + "/v1beta", "/gemini/v1beta/models", "/v1beta/models", gemini + "/v1beta/models"},
		{"gemini", gemini + "/v1beta", "/gemini/models", "/v1beta/models", gemini + "/v1beta/models"},

		{"azure_openai", azure, "/azure_openai/openai/v1/responses", "/v1/responses", azure + "/openai/v1/responses"},
		{"azure_openai", azure, "/azure_openai/openai/deployments/gpt/chat/completions", "/deployments/gpt/chat/completions", azure + "/openai/deployments/gpt/chat/completions"},
		{"azure_openai", azure, "/azure_openai/deployments/gpt/chat/completions", "/deployments/gpt/chat/completions", azure + "/openai/deployments/gpt/chat/completions"},
		{"azure_openai", azure, "/v1/chat/completions", "/v1/chat/completions", azure + "/openai/v1/chat/completions"},
		{"azure_openai", azure + "/", "/azure_openai/openai/models", "/models", azure + "/openai/models"},
		{"azure_openai", azure + "/openai", "/azure_openai/openai/deployments/gpt/embeddings", "/deployments/gpt/embeddings", azure + "/openai/deployments/gpt/embeddings"},
		{"azure_openai", azure + "/openai/", "/azure_openai/v1/models", "/v1/models", azure + "/openai/v1/models"},
		{"azure_openai", azure + "/openai/v1", "/azure_openai/openai/v1/models", "/v1/models", azure + "/openai/v1/models"},
		{"azure_openai", azure + "/openai/v1", "/azure_openai/v1/models", "/v1/models", azure + "/openai/v1/models"},
		{"azure_openai", azure + "/openai/v1/", "/azure_openai/models", "/v1/models", azure + "/openai/v1/models"},
		{"azure_openai", azure + "/openai/v1", "/v1/chat/completions", "/v1/chat/completions", azure + "/openai/v1/chat/completions"},
		{"azure_openai", azure, "/azure_openai/openaix/models", "/openaix/models", azure + "/openai/openaix/models"},

		{"openrouter", "", "/v1/chat/completions", "/v1/chat/completions", "https://openrouter.ai/api/v1/chat/completions"},
		{"openrouter", "", "/openrouter/v1/models", "/v1/models", "https://openrouter.ai/api/v1/models"},
		{"mistral", "", "/mistral/v1/fim/completions", "/v1/fim/completions", "https://api.mistral.ai/v1/fim/completions"},
		{"groq", "", "/v1/chat/completions", "/v1/chat/completions", "https://api.groq.com/openai/v1/chat/completions"},
		{"groq", "", "/groq/v1/audio/transcriptions", "/v1/audio/transcriptions", "https://api.groq.com/openai/v1/audio/transcriptions"},
		{"groq", "", "/groq/models", "/v1/models", "https://api.groq.com/openai/v1/models"},
		{"deepseek", "", "/deepseek/chat/completions", "/v1/chat/completions", "https://api.deepseek.com/v1/chat/completions"},
		{"xai", "", "/xai/v1/responses/r1", "/v1/responses/r1", "https://api.x.ai/v1/responses/r1"},
		{"ollama", "", "/ollama/v1/models", "/v1/models", "http://localhost:11434/v1/models"},
		{"vllm", "", "/vllm/v1/score", "/v1/score", "http://localhost:8000/v1/score"},
	} {
		t.Run(tc.kind+" "+tc.base+" "+tc.path, func(t *testing.T) {
			p := preset(t, tc.kind, tc.base)
			route := match(t, table(t, p), tc.path)
			if route.Provider != p || route.Endpoint != tc.endpoint {
				t.Errorf("endpoint %q of %s, want %q", route.Endpoint, route.Provider.Name, tc.endpoint)
			}
			if got := route.URL("").String(); got != tc.url {
				t.Errorf("URL %q, want %q", got, tc.url)
			}
			if got, _ := provider.CanonicalPath(route.Path); got != route.Path {
				t.Errorf("path %q is not canonical", route.Path)
			}
			if got := route.URL("a=b&c").RequestURI(); got != route.Path+"?a=b&c" {
				t.Errorf("sent %q, want what was checked, %q", got, route.Path)
			}
		})
	}
}

// Every endpoint that a preset allows must be reachable under both spellings.
func TestEveryPresetEndpointIsReachable(t *testing.T) {
	for _, pre := range provider.Presets() {
		t.Run(pre.Type, func(t *testing.T) {
			p := preset(t, pre.Type, "")
			tab := table(t, p)
			for _, pattern := range pre.Endpoints {
				endpoint := pattern
				if endpoint[len(endpoint)-1] == '*' {
					endpoint = endpoint[:len(endpoint)-1] + "x"
				}
				route := match(t, tab, "/"+pre.Type+endpoint)
				if route.Endpoint != endpoint || !project.MatchEndpoint(p.Endpoints, route.Endpoint) {
					t.Errorf("/%s%s is endpoint %s", pre.Type, endpoint, route.Endpoint)
				}
			}
		})
	}
}

func TestDialect(t *testing.T) {
	for _, tc := range []struct {
		kind, path string
		want       apierr.Dialect
	}{
		{"openai", "/v1/chat/completions", apierr.OpenAI},
		{"openai", "/v1/responses", apierr.OpenAIResponses},
		{"openai", "/v1/responses/r1/cancel", apierr.OpenAIResponses},
		{"openai", "/v1/responsesx", apierr.OpenAI},
		{"openai", "/v1/models", apierr.OpenAI},
		{"openai", "/v1/threads/t1/messages", apierr.OpenAI},
		{"anthropic", "/v1/messages", apierr.Anthropic},
		{"anthropic", "/v1/models", apierr.Anthropic},
		{"anthropic", "/anthropic/v1/complete", apierr.Anthropic},
		{"anthropic", "/v1/chat/completions", apierr.OpenAI}, // its compatibility surface
		{"gemini", "/gemini/v1beta/models/m:generateContent", apierr.Gemini},
		{"gemini", "/gemini/v1beta/openai/chat/completions", apierr.OpenAI},
		{"gemini", "/gemini", apierr.Gemini},
		{"azure_openai", "/azure_openai/openai/deployments/d/chat/completions", apierr.OpenAI},
		{"azure_openai", "/azure_openai/openai/v1/responses", apierr.OpenAIResponses},
		{"openrouter", "/openrouter/v1/messages", apierr.Anthropic},
		{"openrouter", "/openrouter/v1/messagesx", apierr.OpenAI},
		{"vllm", "/vllm/v1/messages/count_tokens", apierr.Anthropic},
	} {
		route := match(t, table(t, preset(t, tc.kind, "")), tc.path)
		if got := route.Dialect(); got != tc.want {
			t.Errorf("%s %s: dialect %d, want %d", tc.kind, tc.path, got, tc.want)
		}
	}
}

func TestURLTakesTheRawQueryAsItIs(t *testing.T) {
	route := match(t, table(t, preset(t, "openai", "")), "/v1/models")
	want := &url.URL{Scheme: "https", Host: "api.openai.com", Path: "/v1/models", RawQuery: "a=%2F&b=c+d"}
	if got := route.URL("a=%2F&b=c+d"); *got != *want {
		t.Errorf("URL = %#v, want %#v", got, want)
	}
}
