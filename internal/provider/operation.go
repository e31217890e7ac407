package provider

import "strings"

// Operation is what the endpoint does in the words of OpenTelemetry's semantic
// conventions for generative AI (gen_ai.operation.name); "" for what they do not name.
func (r *Route) Operation() string {
	e := r.Endpoint
	if i := strings.LastIndexByte(e, ':'); i >= 0 {
		switch e[i+1:] {
		case "generateContent", "streamGenerateContent":
			return "generate_content"
		case "embedContent", "batchEmbedContents":
			return "embeddings"
		}
		return ""
	}
	switch {
	case strings.HasSuffix(e, "/chat/completions"), strings.HasSuffix(e, "/agents/completions"), e == "/v1/messages", e == "/v1/responses":
		return "chat"
	case strings.HasSuffix(e, "/completions"), e == "/v1/complete":
		return "text_completion"
	case strings.HasSuffix(e, "/embeddings"):
		return "embeddings"
	}
	return ""
}

// semanticNames are gen_ai.provider.name where it is not the type.
var semanticNames = map[string]string{
	"azure_openai": "azure.ai.openai",
	"gemini":       "gcp.gemini",
	"mistral":      "mistral_ai",
	"xai":          "x_ai",
}

// SemanticName is the provider in the words of OpenTelemetry's semantic
// conventions for generative AI (gen_ai.provider.name).
func (p *Provider) SemanticName() string { return SemanticName(p.Type) }

// SemanticName is [Provider.SemanticName] of a type.
func SemanticName(kind string) string {
	if name, ok := semanticNames[kind]; ok {
		return name
	}
	return kind
}
