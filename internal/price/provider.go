package price

// snapshotIDs are the snapshot's names for the types of providers. A type that is
// not here, those on the operator's own machines, has no prices.
var snapshotIDs = map[string]string{
	"openai":       "openai",
	"anthropic":    "anthropic",
	"gemini":       "google",
	"azure_openai": "azure",
	"openrouter":   "openrouter",
	"mistral":      "mistral",
	"groq":         "groq",
	"deepseek":     "deepseek",
	"xai":          "x-ai",
}

// provider is whose prices a provider has: those of its type. OpenAI's type is
// also how one describes a provider that has no preset but the same API; if its
// name is one that the snapshot knows, such as together or fireworks, then its own.
func (s *snapshot) provider(name, kind string) string {
	if kind == "openai" && snapshotIDs[name] == "" && s.providers[name] != nil {
		return name
	}
	return snapshotIDs[kind]
}
