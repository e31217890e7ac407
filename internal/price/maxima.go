package price

import (
	"regexp"
	"strings"
)

// documentedMaxima are the most tokens that models write, their thoughts included, as
// their providers document them. The snapshot does not know them, and without one a
// request that names no maximum would be held at the whole context window. They were
// put together on 2026-11-24 from the pages named below, and where one could not be read,
// mostly OpenAI's, from two catalogues that quote it (LiteLLM's, models.dev's, Vercel's).
//
// A number must never be less than what the provider may charge for: where a beta or
// another page of the same documentation says more, the larger one stands; what two
// places do not agree to be at least is not here, and neither are models whose
// thoughts may come on top. xAI and Mistral state none; DeepSeek does not say that
// its number holds for thoughts too; Groq's are here where the snapshot has no context
// window. Batches may be longer (Anthropic's output-300k), but have no bound anyway.
//
// By the snapshot's name of the provider. A name stands for its dated and latest
// versions too, unless they are listed by themselves.
var documentedMaxima = map[string]map[int64][]string{
	// https://developers.openai.com/api/docs/models/<name>
	"openai": {
		4_096:   {"gpt-3.5-turbo", "gpt-3.5-turbo-0125", "gpt-3.5-turbo-1106", "gpt-35-turbo", "gpt-4-0125-preview", "gpt-4-1106-preview", "gpt-4-turbo", "gpt-4-turbo-preview", "gpt-4o-2024-05-13"},
		8_192:   {"gpt-4", "gpt-4-0314", "gpt-4-0613"},
		16_384:  {"chatgpt-4o-latest", "gpt-4o", "gpt-4o-mini", "gpt-5-chat", "gpt-5.1-chat", "gpt-5.2-chat"},
		32_768:  {"gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "o1-preview"},
		65_536:  {"o1-mini"},
		100_000: {"o1", "o3", "o3-mini", "o3-pro", "o4-mini"},
		128_000: {
			"gpt-5", "gpt-5-codex", "gpt-5-mini", "gpt-5-nano",
			"gpt-5.1", "gpt-5.1-codex", "gpt-5.1-codex-max", "gpt-5.1-codex-mini",
			"gpt-5.2", "gpt-5.2-codex", "gpt-5.2-pro", "gpt-5.3-codex",
			"gpt-5.4", "gpt-5.4-mini", "gpt-5.4-nano", "gpt-5.4-pro", "gpt-5.5", "gpt-5.5-pro",
			"gpt-5.6", "gpt-5.6-luna", "gpt-5.6-sol", "gpt-5.6-terra", "gpt-6-astra", "gpt-6-luna", "gpt-6-sol",
		},
		272_000: {"gpt-5-pro"},
	},
	// https://platform.claude.com/docs/en/about-claude/models/overview; of Claude 3.7 with
	// output-128k-2025-02-19, of 3.5 Sonnet with max-tokens-3-5-sonnet-2024-07-15.
	"anthropic": {
		4_096:  {"claude-3-haiku", "claude-3-opus", "claude-3-sonnet"},
		8_192:  {"claude-3-5-haiku", "claude-3-5-sonnet"},
		32_000: {"claude-opus-4", "claude-opus-4-0", "claude-opus-4-1"},
		64_000: {"claude-haiku-4-5", "claude-opus-4-5", "claude-sonnet-4", "claude-sonnet-4-0", "claude-sonnet-4-5"},
		128_000: {
			"claude-3-7-sonnet", "claude-fable-5", "claude-fable-5-1", "claude-opus-4-6", "claude-opus-4-7", "claude-opus-4-8",
			"claude-opus-5", "claude-opus-5-5", "claude-sonnet-4-6", "claude-sonnet-5",
		},
	},
	// https://ai.google.dev/gemini-api/docs/models/<name> and
	// https://docs.cloud.google.com/vertex-ai/generative-ai/docs/models, which names the same
	// number, or one less, as the default of maxOutputTokens. That was measured to bound
	// thoughts and answer together: https://github.com/googleapis/python-genai/issues/2062.
	"google": {
		8_192: {
			"gemini-1.5-flash", "gemini-1.5-pro", "gemini-2.0-flash", "gemini-2.0-flash-001", "gemini-2.0-flash-lite", "gemini-2.0-flash-lite-001",
		},
		65_536: {
			"gemini-2.5-flash", "gemini-2.5-flash-lite", "gemini-2.5-flash-lite-preview-09-2025", "gemini-2.5-pro",
			"gemini-3-flash-preview", "gemini-3-pro-preview",
			"gemini-3.1-flash-lite", "gemini-3.1-flash-lite-preview", "gemini-3.1-pro-preview", "gemini-3.1-pro-preview-customtools",
			"gemini-3.5-flash", "gemini-3.5-flash-lite", "gemini-3.6-flash", "gemini-3.7-flash", "gemini-3.8-flash",
		},
	},
	// https://console.groq.com/docs/models
	"groq": {
		32_768:  {"llama-3.3-70b-versatile"},
		131_072: {"llama-3.1-8b-instant"},
	},
}

// maximaByName are the documented ones, by provider and plain name.
var maximaByName = func() map[string]map[string]int64 {
	providers := make(map[string]map[string]int64)
	for provider, rows := range documentedMaxima {
		providers[provider] = make(map[string]int64)
		for tokens, names := range rows {
			for _, name := range names {
				providers[provider][plainName(name)] = tokens
			}
		}
	}
	// Azure serves OpenAI's models within the same maxima:
	// https://learn.microsoft.com/azure/ai-foundry/foundry-models/concepts/models-sold-directly-by-azure.
	providers["azure"] = providers["openai"]
	return providers
}()

// documentedMaximum is how many tokens a model writes at most as its provider, by the
// snapshot's name, documents; 0: that is not known.
func documentedMaximum(provider, model string) int64 {
	names, name := maximaByName[provider], plainName(model)
	if tokens := names[name]; tokens != 0 {
		return tokens
	}
	return names[versionSuffix.ReplaceAllString(name, "")]
}

// versionSuffix tells versions of a model, which have its limits.
var versionSuffix = regexp.MustCompile(`-(20\d{2}-\d{2}-\d{2}|latest)$`)

// plainName is the same however a name is written: gpt-5.1 is gpt-5-1 at Azure, and
// Anthropic's dates have no hyphens.
func plainName(model string) string {
	return strings.ReplaceAll(strings.ToLower(hyphenatedDate(model)), ".", "-")
}
