package price_test

import (
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/price"
)

// limitsOf are a model's maxima; 0 for what is not known.
func limitsOf(t *testing.T, p *price.Price) (in, out int64) {
	t.Helper()
	in, inKnown := p.MaxInput()
	out, outKnown := p.MaxOutput()
	if inKnown != (in > 0) || outKnown != (out > 0) {
		t.Errorf("%d (known: %v), %d (known: %v)", in, inKnown, out, outKnown)
	}
	return in, out
}

func TestMaxTokens(t *testing.T) {
	tab := table(t, "")
	for _, tc := range []struct {
		provider, model string
		in, out         int64
	}{
		{"openai", "gpt-4o", 128_000, 16_384},
		{"openai", "GPT-4o", 128_000, 16_384},
		{"openai", "gpt-4o-2024-08-06", 128_000, 16_384},
		{"openai", "gpt-4o-2024-05-13", 128_000, 4_096}, // a version with a maximum of its own
		{"openai", "chatgpt-4o-latest", 128_000, 16_384},
		{"openai", "gpt-4.1-nano", 1_000_000, 32_768},
		{"openai", "gpt-4", 8_192, 8_192},
		{"openai", "o1", 200_000, 100_000},
		{"openai", "o3", 200_000, 100_000},
		{"openai", "o3-mini-2025-01-31", 200_000, 100_000},
		{"openai", "gpt-5", 400_000, 128_000},
		{"openai", "gpt-5-chat-latest", 400_000, 16_384}, // a model in the table's entry of another
		{"openai", "gpt-5-pro", 400_000, 272_000},
		{"openai", "gpt-5.4-20260305", 1_050_000, 128_000}, // another way to write the date
		{"openai", "gpt-4o-audio-preview", 128_000, 128_000},
		{"openai", "text-embedding-3-small", 8_192, 8_192},
		{"openai", "ft:gpt-4o-2024-08-06:acme::x", 0, 0},
		{"azure_openai", "gpt-4.1", 1_000_000, 32_768},
		{"azure_openai", "gpt-35-turbo", 16_385, 4_096},
		{"azure_openai", "gpt-5-1-2025-11-13", 400_000, 128_000},
		{"azure_openai", "o3-2025-04-16", 200_000, 100_000},
		{"azure_openai", "grok-3", 131_072, 131_072},
		{"azure_openai", "claude-opus-4-5", 200_000, 200_000}, // documented for Anthropic's own
		{"anthropic", "claude-3-haiku-20240307", 200_000, 4_096},
		{"anthropic", "claude-3-5-sonnet-latest", 200_000, 8_192},
		{"anthropic", "claude-3-7-sonnet-20250219", 200_000, 128_000}, // with a beta
		{"anthropic", "claude-opus-4-20250514", 200_000, 32_000},
		{"anthropic", "claude-opus-4-5-20251101", 200_000, 64_000},
		{"anthropic", "claude-opus-4.5", 200_000, 64_000},
		{"anthropic", "claude-haiku-4-5", 200_000, 64_000},
		{"gemini", "gemini-2.5-pro", 0, 65_536},
		{"gemini", "models/gemini-2.5-pro", 0, 65_536},
		{"gemini", "gemini-2.5-pro-tts", 8_192, 8_192},
		{"gemini", "gemini-3-pro-preview", 0, 65_536},
		{"gemini", "gemini-2.0-flash", 1_000_000, 8_192},
		{"gemini", "gemini-2.0-flash-thinking-exp", 1_000_000, 1_000_000}, // writes more than its entry's others
		{"groq", "llama-3.3-70b-versatile", 0, 32_768},
		{"openrouter", "openai/gpt-4o", 128_000, 128_000},
		{"deepseek", "deepseek-chat", 64_000, 64_000},
		{"xai", "grok-3", 131_072, 131_072},
	} {
		for range 2 { // cold and warm
			if in, out := limitsOf(t, find(t, tab, tc.provider, tc.model)); in != tc.in || out != tc.out {
				t.Errorf("%s %s: %d, %d; want %d, %d", tc.provider, tc.model, in, out, tc.in, tc.out)
			}
		}
	}
}

// TestMaxTokensOverridden goes down from the project's to the context window.
func TestMaxTokensOverridden(t *testing.T) {
	for _, tc := range []struct {
		name, file, project, provider, kind, model string
		in, out                                    int64
	}{
		{name: "documented", model: "gpt-4o", in: 128_000, out: 16_384},
		{name: "lower", file: `{"openai": {"gpt-4o*": {"max_output_tokens": 1000}}}`, model: "gpt-4o", in: 128_000, out: 1_000},
		{name: "higher", file: `{"openai": {"gpt-4o*": {"max_output_tokens": 64000}}}`, model: "gpt-4o", in: 128_000, out: 64_000},
		{name: "another model", file: `{"openai": {"o3": {"max_output_tokens": 64000}}}`, model: "gpt-4o", in: 128_000, out: 16_384},
		{name: "only a price", file: `{"openai": {"gpt-4o": {"input": "1"}}}`, model: "gpt-4o", in: 128_000, out: 16_384},
		{name: "project", file: `{"openai": {"gpt-4o": {"max_output_tokens": 64000}}}`, project: `{"openai": {"gpt-4o": {"max_output_tokens": 2000}}}`, model: "gpt-4o", in: 128_000, out: 2_000},
		{name: "project alone", project: `{"openai": {"gpt-4o": {"max_output_tokens": 2000}}}`, model: "gpt-4o", in: 128_000, out: 2_000},
		{name: "another of the project", project: `{"openai": {"gpt-4o": {"input": "2"}}}`, file: `{"openai": {"gpt-4o": {"max_output_tokens": 3000}}}`, model: "gpt-4o", in: 128_000, out: 3_000},
		{name: "larger context", file: `{"openai": {"gpt-4o": {"context_window": 500000}}}`, model: "gpt-4o", in: 500_000, out: 16_384},
		{name: "smaller context", file: `{"openai": {"gpt-4o": {"context_window": 8000}}}`, model: "gpt-4o", in: 8_000, out: 8_000},
		{name: "smaller context with an answer", file: `{"openai": {"gpt-4o": {"context_window": 8000, "max_output_tokens": 9000}}}`, model: "gpt-4o", in: 8_000, out: 9_000},
		{name: "context for want of a maximum", file: `{"openai": {"text-embedding-3-small": {"max_input_tokens": 8191, "context_window": 9000}}}`, model: "text-embedding-3-small", in: 8_191, out: 9_000},
		{name: "a context for Gemini", file: `{"gemini": {"gemini-2.5-pro": {"context_window": 1048576}}}`, provider: "gemini", kind: "gemini", model: "gemini-2.5-pro", in: 1_048_576, out: 65_536},
		{name: "a version that only the operator prices", file: `{"openai": {"gpt-4o-2031-01-01": {"input": "1", "output": "2"}}}`, model: "gpt-4o-2031-01-01", out: 16_384},
		{name: "a model that only the operator prices", file: `{"openai": {"gpt-4o-next": {"input": "1", "output": "2"}}}`, model: "gpt-4o-next"},
		{name: "an own machine", file: `{"*": {"gpt-4o": {"free": true}}}`, provider: "openai", kind: "vllm", model: "gpt-4o"},
		{name: "a provider in OpenAI's dialect", file: `{"together": {"gpt-4o": {"free": true}}}`, provider: "together", kind: "openai", model: "gpt-4o"},
		{name: "OpenAI under another name", provider: "ours", kind: "openai", model: "gpt-4o", in: 128_000, out: 16_384},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var project *price.Overrides
			if tc.project != "" {
				project = parse(t, tc.project)
			}
			if tc.kind == "" {
				tc.provider, tc.kind = "openai", "openai"
			}
			p, ok := table(t, tc.file).With(project).Lookup(tc.provider, tc.kind, tc.model, now)
			if !ok {
				t.Fatal("no price")
			}
			if in, out := limitsOf(t, p); in != tc.in || out != tc.out {
				t.Errorf("%d, %d; want %d, %d", in, out, tc.in, tc.out)
			}
		})
	}
}

// TestDocumentedMaxima: whoever adds a row names a model that the table knows, once, and
// no more than fits in its context window.
func TestDocumentedMaxima(t *testing.T) {
	tab := table(t, "")
	types := map[string]string{"openai": "openai", "anthropic": "anthropic", "google": "gemini", "groq": "groq"}
	for provider, rows := range price.DocumentedMaxima() {
		kind := types[provider]
		seen := make(map[string]bool)
		for tokens, names := range rows {
			for _, name := range names {
				if plain := strings.ReplaceAll(name, ".", "-"); seen[plain] {
					t.Errorf("%s %s appears twice", provider, name)
				} else {
					seen[plain] = true
				}
				p, ok := tab.Lookup(kind, kind, name, now)
				if !ok {
					t.Errorf("%s %s is not in the table", provider, name)
					continue
				}
				in, out := limitsOf(t, p)
				if in != 0 && tokens > in {
					t.Errorf("%s %s writes %d of %d tokens", provider, name, tokens, in)
				}
				if out != tokens {
					t.Errorf("%s %s: %d, want %d", provider, name, out, tokens)
				}
			}
		}
		if len(seen) == 0 {
			t.Errorf("%s has no rows", provider)
		}
	}
}

// TestHoldWithoutMaximum is what a request without max_tokens is held at: less than a
// budget of five dollars.
func TestHoldWithoutMaximum(t *testing.T) {
	tab := table(t, "")
	for _, tc := range []struct {
		provider, model string
		want            int64
	}{
		{"openai", "gpt-4o", 16_384 * 10_000},
		{"openai", "gpt-4.1", 32_768 * 8_000},
		{"openai", "gpt-5", 128_000 * 10_000},
		{"gemini", "gemini-2.5-flash", 65_536 * 2_500},
		{"gemini", "gemini-2.5-pro", 65_536 * 10_000}, // of a short prompt
	} {
		p := find(t, tab, tc.provider, tc.model)
		out, _ := p.MaxOutput()
		if got, ok := p.UpperBound(price.Maxima{Output: out}); !ok || got != tc.want || got > usd(5_000) {
			t.Errorf("%s: %d (complete: %v), want %d", tc.model, got, ok, tc.want)
		}
	}
}
