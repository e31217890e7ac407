package price_test

import (
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/price"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
)

// rate is the price of a million tokens of input, in thousandths of a dollar;
// unknown if the model has no price.
func rate(t *testing.T, l looker, name, kind, model string) int64 {
	t.Helper()
	p, ok := l.Lookup(name, kind, model, now)
	if !ok {
		return unknown
	}
	n := cost(t, p, price.Quantities{Input: 1000}, "")
	if n == unknown {
		return unknown
	}
	return n / 1000
}

func TestLookup(t *testing.T) {
	tab := table(t, "")
	for _, tc := range []struct {
		name, kind, model string
		want              int64
	}{
		{"openai", "openai", "gpt-4o", 2500},
		{"openai", "openai", "GPT-4o", 2500},
		{"openai", "openai", "gpt-4o-2024-11-20", 2500},
		{"openai", "openai", "gpt-5.4-2026-03-05", 2500},
		{"openai", "openai", "gpt-5.4-20260305", 2500}, // another way to write the date
		{"openai", "openai", "gpt-5.4-20261305", unknown},
		{"openai", "openai", "gpt-4o-2031-01-01", unknown},
		{"openai", "openai", "gpt-99", unknown},
		{"openai", "openai", "", unknown},
		{"openai", "openai", "ft:gpt-4o-mini-2024-07-18:acme::x", 300},
		{"openai", "openai", "ft:gpt-4.1-2025-04-14:acme::x", unknown},
		{"openai", "openai", "claude-sonnet-4-0", unknown},
		{"openai", "openai", strings.Repeat("gpt-4o", 100), unknown},
		{"openai", "openai", "omni-moderation-latest", unknown}, // listed without a price
		{"anthropic", "anthropic", "claude-opus-4-5-20251101", 5000},
		{"anthropic", "anthropic", "claude-sonnet-4-20250514", 3000},
		{"gemini", "gemini", "gemini-2.5-flash", 300},
		{"gemini", "gemini", "models/gemini-2.5-flash", 300},
		{"gemini", "gemini", "gemini-2.5-flash-lite-preview-tts", 500},
		{"gemini", "gemini", "gemini-2.5-pro-tts", 1000}, // the rule for gemini-2.5-pro… leaves these out
		{"gemini", "gemini", "gemini-2.5-pro-preview-06-05", 1250},
		{"gemini", "gemini", "gemma-4-31b-it", unknown},
		{"azure_openai", "azure_openai", "gpt-35-turbo", 500}, // its own name for OpenAI's
		{"azure_openai", "azure_openai", "grok-3", 3000},      // and what it serves of others
		{"azure_openai", "azure_openai", "phi-4", 70},
		{"azure_openai", "azure_openai", "our-deployment", unknown},
		{"openrouter", "openrouter", "anthropic/claude-sonnet-4.5", 3000},
		{"openrouter", "openrouter", "deepseek/deepseek-chat:free", unknown},
		{"mistral", "mistral", "mistral-medium-latest", 1500},
		{"groq", "groq", "llama-3.1-8b-instant", 50},
		{"xai", "xai", "grok-4.5-20260101", 2000},
		// A provider's prices are those of its type,
		{"ours", "openai", "gpt-4o", 2500},
		{"eu", "azure_openai", "gpt-4o", 2500},
		{"openai", "azure_openai", "phi-4", 70},
		{"ours", "anthropic", "gpt-4o", unknown},
		// unless it only speaks OpenAI's dialect, and has prices of its own.
		{"together", "openai", "meta-llama/Llama-3.3-70B-Instruct-Turbo", 880},
		{"together", "openai", "gpt-4o", unknown},
		{"together", "anthropic", "claude-sonnet-4-0", 3000},
		{"anthropic", "openai", "claude-sonnet-4-0", unknown},
		// On the operator's own machines nothing has a price.
		{"ollama", "ollama", "llama3.1:8b", unknown},
		{"mistral", "vllm", "mistral-medium-latest", unknown},
		{"x", "unheard-of", "gpt-4o", unknown},
	} {
		for range 2 { // cold and warm
			if got := rate(t, tab, tc.name, tc.kind, tc.model); got != tc.want {
				t.Errorf("%s (%s) %.40s: %d, want %d", tc.name, tc.kind, tc.model, got, tc.want)
			}
		}
	}
}

// Whoever adds a preset says whose prices it has.
func TestEveryPresetHasPricesOrNone(t *testing.T) {
	models := map[string]string{
		"openai": "gpt-4o", "anthropic": "claude-sonnet-4-0", "gemini": "gemini-2.5-pro", "azure_openai": "gpt-4o", "openrouter": "openai/gpt-4o",
		"mistral": "mistral-medium-latest", "groq": "llama-3.1-8b-instant", "deepseek": "deepseek-chat", "xai": "grok-3",
		"ollama": "", "vllm": "",
	}
	tab := table(t, "")
	for _, p := range provider.Presets() {
		model, listed := models[p.Type]
		if _, ok := tab.Lookup(p.Type, p.Type, model, now); !listed || ok != (model != "") {
			t.Errorf("%s: listed %v, %q has a price: %v", p.Type, listed, model, ok)
		}
	}
}
