package provider

import (
	"maps"
	"slices"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
)

// Preset is what is known of a kind of provider before an operator says anything.
type Preset struct {
	Type      string
	BaseURL   string // empty: the operator must give one
	Auth      Auth
	Dialect   apierr.Dialect // of errors on paths that do not tell
	Endpoints []string
	Methods   []string
	// KeyRefusals are texts by which error answers other than 401 tell that the
	// credential was refused; such answers echo part of the key.
	KeyRefusals []string
	// ModelPosts are POSTs that use a model here, though elsewhere they do not; a *
	// stands for one segment.
	ModelPosts []string
	// RootOverlap is a path segment besides the version that clients may repeat
	// after a base URL that ends with it.
	RootOverlap string
	// UsageOnRequest says that streams of chats and completions report their usage
	// only if stream_options.include_usage asks for it. The others refuse that
	// member, or report it anyway.
	UsageOnRequest bool
	// CompletionTokens says that chats go by max_completion_tokens, the newer name of
	// max_tokens. Others may ignore it, and write as much as the model can.
	CompletionTokens bool
	// Keyless providers, those on the operator's own machines, work without a credential.
	Keyless bool
}

// Auth is how a provider wants its credential.
type Auth struct {
	Scheme AuthScheme
	Name   string // header or query parameter, where the scheme has one
}

// AuthScheme is the place of the credential.
type AuthScheme uint8

// The schemes.
const (
	AuthBearer AuthScheme = iota // Authorization: Bearer <credential>
	AuthHeader                   // <Name>: <credential>
	AuthQuery                    // ?<Name>=<credential>
)

// String is the scheme as it is written in a Caddyfile.
func (a Auth) String() string {
	switch a.Scheme {
	case AuthHeader:
		return "header " + a.Name
	case AuthQuery:
		return "query " + a.Name
	default:
		return "bearer"
	}
}

var (
	methodsCommon = []string{"GET", "HEAD", "POST", "DELETE"}
	methodsGemini = []string{"GET", "HEAD", "POST", "PATCH", "DELETE"}

	// endpointsChat is what every OpenAI-compatible provider serves.
	endpointsChat = []string{"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models", "/v1/models/*"}

	// https://platform.openai.com/docs/api-reference, less organisation administration.
	endpointsOpenAI = append(slices.Clone(endpointsChat),
		"/v1/chat/completions/*",
		"/v1/responses", "/v1/responses/*",
		"/v1/conversations", "/v1/conversations/*",
		"/v1/realtime", "/v1/realtime/client_secrets", "/v1/realtime/calls", "/v1/realtime/calls/*",
		"/v1/audio/speech", "/v1/audio/transcriptions", "/v1/audio/translations",
		"/v1/images/generations", "/v1/images/edits", "/v1/images/variations",
		"/v1/videos", "/v1/videos/*",
		"/v1/moderations",
		"/v1/files", "/v1/files/*", "/v1/uploads", "/v1/uploads/*",
		"/v1/batches", "/v1/batches/*",
		"/v1/vector_stores", "/v1/vector_stores/*",
		"/v1/assistants", "/v1/assistants/*", "/v1/threads", "/v1/threads/*",
		"/v1/fine_tuning/jobs", "/v1/fine_tuning/jobs/*",
	)

	// https://docs.anthropic.com/en/api
	endpointsAnthropic = []string{
		"/v1/messages", "/v1/messages/count_tokens", "/v1/messages/batches", "/v1/messages/batches/*",
		"/v1/models", "/v1/models/*", "/v1/files", "/v1/files/*", "/v1/complete",
	}

	// https://ai.google.dev/api
	endpointsGemini = []string{
		"/v1beta/models", "/v1beta/models/*", "/v1/models", "/v1/models/*",
		"/v1beta/openai/*", "/v1beta/files", "/v1beta/files/*", "/upload/v1beta/files", "/upload/v1beta/files/*",
		"/v1beta/cachedContents", "/v1beta/cachedContents/*", "/v1beta/batches", "/v1beta/batches/*",
		"/v1beta/tunedModels", "/v1beta/tunedModels/*", "/v1beta/operations/*", "/ws/*",
	}

	// https://learn.microsoft.com/azure/ai-services/openai/reference; /v1/… is its
	// newer surface, /deployments/… the one with api-version.
	endpointsAzure = append(slices.Clone(endpointsOpenAI), "/deployments/*", "/models", "/models/*", "/files", "/files/*", "/batches", "/batches/*", "/realtime")
)

var presets = []Preset{
	{Type: "openai", BaseURL: "https://api.openai.com/v1", Endpoints: endpointsOpenAI, UsageOnRequest: true, CompletionTokens: true},
	{Type: "anthropic", BaseURL: "https://api.anthropic.com/v1", Auth: Auth{AuthHeader, "X-Api-Key"}, Dialect: apierr.Anthropic, Endpoints: endpointsAnthropic},
	{
		Type: "gemini", BaseURL: "https://generativelanguage.googleapis.com", UsageOnRequest: true, Auth: Auth{AuthHeader, "X-Goog-Api-Key"}, Dialect: apierr.Gemini,
		Endpoints: endpointsGemini, Methods: methodsGemini, KeyRefusals: []string{"API_KEY_INVALID", "API key not valid", "API key expired"},
	},
	{Type: "azure_openai", Auth: Auth{AuthHeader, "Api-Key"}, Endpoints: endpointsAzure, RootOverlap: "openai", UsageOnRequest: true, CompletionTokens: true},
	{
		Type: "openrouter", BaseURL: "https://openrouter.ai/api/v1", UsageOnRequest: true, CompletionTokens: true,
		Endpoints: append(slices.Clone(endpointsChat), "/v1/responses", "/v1/messages", "/v1/generation", "/v1/providers", "/v1/rerank"),
	},
	{
		Type: "mistral", BaseURL: "https://api.mistral.ai/v1",
		ModelPosts: []string{"/v1/conversations", "/v1/conversations/*"}, // these run a completion
		Endpoints: append(slices.Clone(endpointsChat), "/v1/fim/completions", "/v1/agents/completions", "/v1/conversations", "/v1/conversations/*",
			"/v1/moderations", "/v1/chat/moderations", "/v1/classifications", "/v1/ocr", "/v1/audio/speech", "/v1/audio/transcriptions",
			"/v1/files", "/v1/files/*", "/v1/batch/jobs", "/v1/batch/jobs/*"),
	},
	{
		Type: "groq", BaseURL: "https://api.groq.com/openai/v1", UsageOnRequest: true, CompletionTokens: true,
		Endpoints: append(slices.Clone(endpointsChat), "/v1/responses", "/v1/audio/speech", "/v1/audio/transcriptions", "/v1/audio/translations",
			"/v1/files", "/v1/files/*", "/v1/batches", "/v1/batches/*"),
	},
	{Type: "deepseek", BaseURL: "https://api.deepseek.com/v1", UsageOnRequest: true, Endpoints: append(slices.Clone(endpointsChat), "/v1/user/balance")},
	{
		Type: "xai", BaseURL: "https://api.x.ai/v1", UsageOnRequest: true, CompletionTokens: true, KeyRefusals: []string{"Incorrect API key provided"},
		Endpoints: append(slices.Clone(endpointsChat), "/v1/responses", "/v1/responses/*", "/v1/messages", "/v1/images/generations", "/v1/images/edits",
			"/v1/realtime", "/v1/language-models", "/v1/language-models/*", "/v1/embedding-models", "/v1/image-generation-models", "/v1/tokenize-text"),
	},
	{
		Type: "ollama", BaseURL: "http://localhost:11434/v1", Keyless: true, UsageOnRequest: true,
		Endpoints: append(slices.Clone(endpointsChat), "/v1/responses", "/v1/messages"),
	},
	{
		Type: "vllm", BaseURL: "http://localhost:8000/v1", Keyless: true, UsageOnRequest: true, CompletionTokens: true,
		Endpoints: append(slices.Clone(endpointsChat), "/v1/responses", "/v1/responses/*", "/v1/messages", "/v1/messages/count_tokens",
			"/v1/audio/transcriptions", "/v1/audio/translations", "/v1/rerank", "/v1/score", "/v1/realtime"),
	},
}

var presetByType = func() map[string]Preset {
	m := make(map[string]Preset, len(presets))
	for _, p := range presets {
		if p.Methods == nil {
			p.Methods = methodsCommon
		}
		m[p.Type] = p
	}
	return m
}()

// PresetFor returns the preset of a type.
func PresetFor(kind string) (Preset, bool) {
	p, ok := presetByType[kind]
	return p, ok
}

// Presets returns all presets, sorted by type.
func Presets() []Preset {
	types := slices.Sorted(maps.Keys(presetByType))
	out := make([]Preset, len(types))
	for i, t := range types {
		out[i] = presetByType[t]
	}
	return out
}
