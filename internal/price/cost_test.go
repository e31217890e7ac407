package price_test

import (
	"math"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/price"
)

// Prices as the providers published them on the day of the snapshot, in
// thousandths of a dollar.
func TestPublishedPrices(t *testing.T) {
	tab := table(t, "")
	for _, tc := range []struct {
		provider, model string
		q               price.Quantities
		want            int64
	}{
		// https://openai.com/api/pricing: $2.50, cached $1.25, $10.
		{"openai", "gpt-4o-2024-08-06", price.Quantities{Input: million}, usd(2500)},
		{"openai", "gpt-4o-2024-08-06", price.Quantities{CacheRead: million}, usd(1250)},
		{"openai", "gpt-4o-2024-08-06", price.Quantities{Output: million}, usd(10_000)},
		{"openai", "gpt-4o-2024-05-13", price.Quantities{Input: million, Output: million}, usd(20_000)},
		{"openai", "gpt-4o-mini", price.Quantities{Input: 1, CacheRead: 1, Output: 1}, 150 + 75 + 600},
		{"openai", "gpt-4o-mini", price.Quantities{Input: 1000, WebSearches: 3}, 150_000 + 3*usd(10)},
		{"openai", "o3", price.Quantities{Input: million, Reasoning: 900_000, Output: 100_000}, usd(10_000)},
		{"openai", "gpt-5", price.Quantities{Input: 1_000, CacheRead: 7_000, Reasoning: 640, Output: 360}, 1_250_000 + 875_000 + 10_000_000},
		{"openai", "ft:gpt-4o-2024-08-06:acme::abc", price.Quantities{Input: million, Output: million}, usd(18_750)},
		{"openai", "text-embedding-3-small", price.Quantities{Input: 8}, 160},
		{"openai", "whisper-1", price.Quantities{InputAudioMillis: 60_000}, usd(6)},
		{"openai", "gpt-realtime", price.Quantities{InputAudio: million, OutputAudio: million}, usd(96_000)},
		{"openai", "gpt-image-1", price.Quantities{Input: 100, InputImage: 1000, Output: 4160}, 500_000 + 10_000_000 + 166_400_000},
		// The long context begins at 272,000 tokens, and is for all of them.
		{"openai", "gpt-5.4", price.Quantities{Input: 271_999, Output: 1000}, 271_999*2500 + 15_000_000},
		{"openai", "gpt-5.4", price.Quantities{Input: 272_000, Output: 1000}, 272_000*5000 + 22_500_000},
		{"openai", "gpt-5.4", price.Quantities{Input: 1000, CacheRead: 271_000}, 1000*5000 + 271_000*500},
		// https://www.anthropic.com/pricing: $3, writes $3.75 and $6, reads $0.30, $15.
		{"anthropic", "claude-sonnet-4-20250514", price.Quantities{Input: million, Output: million}, usd(18_000)},
		{"anthropic", "claude-sonnet-4-20250514", price.Quantities{CacheWrite5m: 1000, CacheWrite1h: 1000, CacheRead: 1000}, 3_750_000 + 6_000_000 + 300_000},
		{"anthropic", "claude-3-5-haiku-20241022", price.Quantities{Input: 10, Output: 10}, 8_000 + 40_000},
		{"anthropic", "claude-sonnet-4-5-20250929", price.Quantities{Input: 200_000}, usd(600)},
		{"anthropic", "claude-sonnet-4-5-20250929", price.Quantities{Input: 1, CacheRead: 100_000, CacheWrite1h: 100_000, Output: 1}, 6_000 + 100_000*600 + 100_000*12_000 + 22_500},
		{"anthropic", "claude-opus-4-1-20250805", price.Quantities{Input: million, Output: million, WebSearches: 1000}, usd(100_000)},
		// https://ai.google.dev/gemini-api/docs/pricing
		{"gemini", "models/gemini-2.5-pro", price.Quantities{Input: 200_000, Output: 1000}, 200_000*1250 + 10_000_000},
		{"gemini", "gemini-2.5-pro", price.Quantities{Input: 200_001, Reasoning: 1000}, 200_001*2500 + 15_000_000},
		{"gemini", "gemini-2.5-pro", price.Quantities{InputAudio: 10, InputImage: 10, InputVideo: 10}, 37_500},
		{"gemini", "gemini-2.5-flash", price.Quantities{Input: 10, InputAudio: 10, InputImage: 10, CacheReadAudio: 10}, 3_000 + 10_000 + 3_000 + 1_000},
		{"gemini", "gemini-2.5-flash-image", price.Quantities{OutputImage: 1290}, 38_700_000},
		// https://groq.com/pricing
		{"groq", "llama-3.3-70b-versatile", price.Quantities{Input: million, Output: million}, usd(1_380)},
		{"groq", "whisper-large-v3", price.Quantities{InputAudioMillis: 3_600_000}, usd(111)},
		{"groq", "whisper-large-v3", price.Quantities{InputAudioMillis: 1}, 308_333}, // at least ten seconds
		{"groq", "whisper-large-v3", price.Quantities{}, 0},
		// Others
		{"xai", "grok-3", price.Quantities{Input: million, Output: million}, usd(18_000)},
		{"azure_openai", "gpt-4o-2024-11-20", price.Quantities{Input: million}, usd(2_500)}, // as OpenAI's
		{"mistral", "mistral-ocr-latest", price.Quantities{Pages: 1000, AnnotatedPages: 1000}, usd(9_000)},
		{"openrouter", "openai/gpt-4o", price.Quantities{Input: million}, usd(2_500)},
	} {
		if got := cost(t, find(t, tab, tc.provider, tc.model), tc.q, ""); got != tc.want {
			t.Errorf("%s %s %+v: %d, want %d", tc.provider, tc.model, tc.q, got, tc.want)
		}
	}
}

func TestPricesByTime(t *testing.T) {
	tab := table(t, "")
	for _, tc := range []struct {
		provider, model, at string
		want                int64 // of a million tokens
	}{
		{"openai", "o3", "2025-06-09T23:59:59Z", usd(10_000)},
		{"openai", "o3", "2025-06-10T00:00:00Z", usd(2_000)},
		{"openai", "o3", "2025-06-10T01:00:00+02:00", usd(10_000)},
		{"deepseek", "deepseek-chat", "2025-03-01T00:29:59.999Z", usd(135)},
		{"deepseek", "deepseek-chat", "2025-03-01T00:30:00Z", usd(270)},
		{"deepseek", "deepseek-chat", "2025-03-01T16:29:59Z", usd(270)},
		{"deepseek", "deepseek-chat", "2025-03-01T16:30:00Z", usd(135)},
		{"deepseek", "deepseek-v4-pro", "2026-09-01T00:59:59Z", usd(660)},
		{"deepseek", "deepseek-v4-pro", "2026-09-01T03:00:00Z", usd(1320)},
		{"deepseek", "deepseek-v4-pro", "2026-09-01T07:00:00+08:00", usd(660)}, // 23:00 UTC
		{"deepseek", "deepseek-v4-pro", "2026-08-01T23:00:00Z", usd(435)},
		{"gemini", "gemini-3.6-flash", "2026-12-31T23:59:59Z", usd(750)},
		{"gemini", "gemini-3.6-flash", "2027-01-01T00:00:00Z", usd(1500)},
	} {
		at, err := time.Parse(time.RFC3339Nano, tc.at)
		if err != nil {
			t.Fatal(err)
		}
		p, ok := tab.Lookup(tc.provider, tc.provider, tc.model, at)
		if !ok {
			t.Fatalf("%s has no price", tc.model)
		}
		if got := cost(t, p, price.Quantities{Input: million}, ""); got != tc.want {
			t.Errorf("%s at %s: %d, want %d", tc.model, tc.at, got, tc.want)
		}
	}
}

// What has no price makes the whole cost unknown.
func TestIncomplete(t *testing.T) {
	tab := table(t, "")
	for _, tc := range []struct {
		provider, model string
		q               price.Quantities
		tier            string
	}{
		{"openai", "gpt-4o", price.Quantities{Input: 5}, "flex"},
		{"openai", "gpt-4o", price.Quantities{}, "priority"},
		{"anthropic", "claude-sonnet-4-0", price.Quantities{Input: 5}, "batch"},
		{"openai", "gpt-4o", price.Quantities{Input: 5, Images: 1}, ""},
		{"openai", "gpt-4o", price.Quantities{Input: 5, CodeExecutions: 1}, ""},
		{"openai", "gpt-4o", price.Quantities{Input: -1}, ""},
		{"openai", "gpt-4o", price.Quantities{WebSearches: -1}, ""},
		{"openai", "gpt-4o", price.Quantities{Input: math.MaxInt64, Output: math.MaxInt64}, ""},
		// Its entry lacks the prices of audio, which are not those of text.
		{"openai", "gpt-4o-audio-preview", price.Quantities{InputAudio: 1}, ""},
		{"openai", "gpt-4o-audio-preview", price.Quantities{OutputAudio: 1}, ""},
		{"openai", "text-embedding-3-small", price.Quantities{Input: 5, Output: 1}, ""},
		{"openai", "whisper-1", price.Quantities{Input: 5}, ""},
		{"groq", "llama-3.3-70b-versatile", price.Quantities{Input: 5, WebSearches: 1}, ""},
	} {
		if got := cost(t, find(t, tab, tc.provider, tc.model), tc.q, tc.tier); got != unknown {
			t.Errorf("%s %+v %q: %d, want it to be unknown", tc.model, tc.q, tc.tier, got)
		}
	}
	for _, tier := range []string{"", "default", "standard", "on_demand", "Default"} {
		if got := cost(t, find(t, tab, "openai", "gpt-4o"), price.Quantities{Input: 2}, tier); got != 5_000 {
			t.Errorf("tier %q: %d", tier, got)
		}
	}
}

// The sum is rounded, half up; its parts are not.
func TestRounding(t *testing.T) {
	tab := table(t, `{"openai": {"m": {"input": "0.0004", "output": "0.0001", "cache_read": "0.0005", "input_audio_hour": "0.0000036"}}}`)
	p := find(t, tab, "openai", "m")
	for _, tc := range []struct {
		q    price.Quantities
		want int64
	}{
		{price.Quantities{Input: 1}, 0},
		{price.Quantities{CacheRead: 1}, 1},
		{price.Quantities{Input: 1, Output: 1}, 1},
		{price.Quantities{Input: 3}, 1},
		{price.Quantities{Input: 4}, 2},
		{price.Quantities{InputAudioMillis: 499}, 0},
		{price.Quantities{InputAudioMillis: 500}, 1},
		{price.Quantities{InputAudioMillis: 100, Input: 1}, 1},
	} {
		if got := cost(t, p, tc.q, ""); got != tc.want {
			t.Errorf("%+v: %d, want %d", tc.q, got, tc.want)
		}
	}
}

func TestLargeSums(t *testing.T) {
	tab := table(t, `{"openai": {"m": {"input": "0.001", "output": "18000000", "service_tiers": {"flex": {"multiplier": "0.5"}}}}}`)
	p := find(t, tab, "openai", "m")
	if got := cost(t, p, price.Quantities{Input: math.MaxInt64}, ""); got != math.MaxInt64 {
		t.Errorf("the largest amount: %d", got)
	}
	if got := cost(t, p, price.Quantities{Input: math.MaxInt64, Output: 1}, ""); got != unknown {
		t.Errorf("more than the largest amount: %d", got)
	}
	if got := cost(t, p, price.Quantities{Input: math.MaxInt64}, "flex"); got != math.MaxInt64/2+1 {
		t.Errorf("half of it, rounded: %d", got)
	}
	if got := cost(t, p, price.Quantities{Output: math.MaxInt64}, ""); got != unknown {
		t.Errorf("far more: %d", got)
	}
	if got, complete := p.UpperBound(price.Maxima{Output: math.MaxInt64}); got != math.MaxInt64 || !complete {
		t.Errorf("bound: %d, %v", got, complete)
	}
}
