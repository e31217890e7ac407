package provider_test

import (
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
)

func TestOperation(t *testing.T) {
	for endpoint, want := range map[string]string{
		"/v1/chat/completions":                           "chat",
		"/v1/chat/completions/abc":                       "",
		"/deployments/d/chat/completions":                "chat",
		"/v1beta/openai/chat/completions":                "chat",
		"/v1/completions":                                "text_completion",
		"/v1/fim/completions":                            "text_completion",
		"/v1/complete":                                   "text_completion",
		"/v1/responses":                                  "chat",
		"/v1/responses/resp_1":                           "",
		"/v1/messages":                                   "chat",
		"/v1/messages/count_tokens":                      "",
		"/v1/embeddings":                                 "embeddings",
		"/v1beta/models/gemini-2.5-pro:generateContent":  "generate_content",
		"/v1beta/models/g:streamGenerateContent":         "generate_content",
		"/v1beta/models/text-embedding-004:embedContent": "embeddings",
		"/v1beta/models/gemini-2.5-pro:countTokens":      "",
		"/v1/files":                                      "",
		"/v1/realtime":                                   "",
	} {
		r := provider.Route{Endpoint: endpoint}
		if got := r.Operation(); got != want {
			t.Errorf("%s: %q, want %q", endpoint, got, want)
		}
	}
}

func TestSemanticName(t *testing.T) {
	for kind, want := range map[string]string{"openai": "openai", "gemini": "gcp.gemini", "azure_openai": "azure.ai.openai", "own": "own"} {
		if got := provider.SemanticName(kind); got != want {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
}
