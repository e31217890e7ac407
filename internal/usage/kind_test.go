package usage_test

import (
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
	"github.com/sofatutor/caddy-llm-proxy/internal/usage"
)

func TestKindOf(t *testing.T) {
	for request, want := range map[string]usage.Kind{
		"POST /v1/chat/completions":                                  usage.KindChat,
		"POST /v1/completions":                                       usage.KindChat,
		"POST /v1/embeddings":                                        usage.KindChat,
		"POST /v1/fim/completions":                                   usage.KindChat,
		"POST /v1/rerank":                                            usage.KindChat,
		"POST /v1/conversations/c1":                                  usage.KindChat,
		"POST /v1/conversations/c1/items":                            usage.KindNone,
		"POST /deployments/gpt-4o/chat/completions":                  usage.KindChat,
		"POST /deployments/w/audio/transcriptions":                   usage.KindTranscripts,
		"POST /v1beta/openai/chat/completions":                       usage.KindGeminiChat,
		"POST /v1beta/openai/images/generations":                     usage.KindImages,
		"POST /v1/responses":                                         usage.KindResponses,
		"GET /v1/responses/resp_1":                                   usage.KindResponses,
		"GET /v1/responses/resp_1/input_items":                       usage.KindNone,
		"POST /v1/responses/resp_1/cancel":                           usage.KindNone,
		"DELETE /v1/responses/resp_1":                                usage.KindNone,
		"GET /v1/chat/completions/chatcmpl-1":                        usage.KindNone,
		"POST /v1/images/edits":                                      usage.KindImages,
		"POST /v1/audio/translations":                                usage.KindTranscripts,
		"POST /v1/audio/speech":                                      usage.KindSpeech,
		"GET /v1/realtime":                                           usage.KindRealtime,
		"GET /realtime":                                              usage.KindRealtime,
		"POST /v1/ocr":                                               usage.KindOCR,
		"POST /v1/messages":                                          usage.KindMessages,
		"POST /v1/messages/count_tokens":                             usage.KindNone,
		"POST /v1/messages/batches":                                  usage.KindNone,
		"POST /v1beta/models/gemini-2.5-flash:generateContent":       usage.KindGenerate,
		"POST /v1beta/models/gemini-2.5-flash:streamGenerateContent": usage.KindGenerate,
		"POST /v1/models/gemini-2.5-flash:embedContent":              usage.KindGenerate,
		"POST /v1beta/models/gemini-2.5-flash:countTokens":           usage.KindNone,
		"POST /v1beta/tunedModels/t:generateContent":                 usage.KindGenerate,
		"POST /v1/files":                                             usage.KindNone,
		"GET /v1/models":                                             usage.KindNone,
		"POST /other":                                                usage.KindNone,
	} {
		method, endpoint, _ := strings.Cut(request, " ")
		if got := usage.KindOf(method, endpoint); got != want {
			t.Errorf("%s: kind %d, want %d", request, got, want)
		}
	}
}

// TestEveryEndpointIsConsidered: whoever adds an endpoint to a preset decides here
// whether its answers report usage.
func TestEveryEndpointIsConsidered(t *testing.T) {
	silent := []string{
		"/batch", "/files", "/uploads", "/models", "/providers", "/generation", "/balance", "/vector_stores", "/assistants", "/threads",
		"/fine_tuning", "/videos", "/realtime", "/ws/", "/cachedContents", "/tunedModels", "/operations", "/deployments/*", "/v1beta/openai/*",
		"/language-models", "-models", "/tokenize", "/count_tokens", "/complete", "/chat/completions/*", "/responses/*",
	}
	for _, preset := range provider.Presets() {
		for _, endpoint := range preset.Endpoints {
			known := usage.KindOf("POST", strings.ReplaceAll(endpoint, "*", "x")) != usage.KindNone
			for _, part := range silent {
				known = known || strings.Contains(endpoint, part)
			}
			if !known {
				t.Errorf("%s: POST %s has no kind", preset.Type, endpoint)
			}
		}
	}
}
