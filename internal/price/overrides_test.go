package price_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/sofatutor/caddy-llm-proxy/internal/price"
)

func TestOverrides(t *testing.T) {
	tab := table(t, `{
		"openai": {
			"gpt-4o": {"input": "2.25"},
			"gpt-4o*": {"input": 2, "output": "8"},
			"gpt-*": {"input": "1"},
			"NEW-model": {"input": "0.5", "cache_write_1h": "1", "reasoning": 3e0, "output": "2", "request": "0.01", "image": "0.04",
				"long_context": {"1000": {"input": "5"}, "100": {"input": "4", "output": "6"}}},
			"gpt-6*": {"max_output_tokens": 1000},
			"omni-moderation*": {"free": true}
		},
		"eu": {"gpt-4o": {"input": "2.75"}},
		"*": {"gpt-4o": {"input": "9"}, "llama*": {"free": true}}
	}`)
	for _, tc := range []struct {
		name, kind, model string
		want              int64
	}{
		{"openai", "openai", "gpt-4o", 2250},
		{"openai", "openai", "gpt-4o-2024-05-13", 2000},
		{"openai", "openai", "gpt-99", 1000},
		{"eu", "openai", "gpt-4o", 2750},
		{"eu", "openai", "GPT-4O-mini", 2000}, // by its type
		{"groq", "groq", "gpt-4o", 9000},
		{"openai", "openai", "o3", 2000},
		{"openai", "openai", "gpt-6-unheard-of", unknown}, // a limit is no price
		{"vllm", "vllm", "llama-3", 0},
		{"openai", "openai", "omni-moderation-latest", 0},
		{"gemini", "gemini", "models/gpt-4o", 9000},
	} {
		if got := rate(t, tab, tc.name, tc.kind, tc.model); got != tc.want {
			t.Errorf("%s (%s) %s: %d, want %d", tc.name, tc.kind, tc.model, got, tc.want)
		}
	}
	// What is not said stays as it is below.
	if got := cost(t, find(t, tab, "openai", "gpt-4o"), price.Quantities{CacheRead: 2, Output: 1}, ""); got != 12_500 {
		t.Errorf("what the override leaves out: %d", got)
	}
	p := find(t, tab, "openai", "new-model")
	for q, want := range map[price.Quantities]int64{
		{}:                                   10_000_000,
		{Input: 100, Output: 1}:              10_052_000,
		{Input: 101, Output: 1}:              10_410_000,
		{Input: 1, CacheRead: 1000}:          15_005_000,
		{Input: 1, CacheWrite1h: 200}:        10_204_000,
		{CacheWrite5m: 2, Reasoning: 1}:      10_004_000,
		{Images: 2}:                          90_000_000,
		{InputAudio: 1}:                      unknown,
		{InputImage: 1}:                      10_000_500,
		{Input: 99, InputImage: 1, Pages: 1}: unknown,
	} {
		if got := cost(t, p, q, ""); got != want {
			t.Errorf("%+v: %d, want %d", q, got, want)
		}
	}
	all := price.Quantities{Input: 1, OutputAudio: 1, Images: 1, WebSearches: 1, InputAudioMillis: 1}
	if got := cost(t, find(t, tab, "vllm", "llama"), all, "priority"); got != 0 {
		t.Errorf("free: %d", got)
	}
}

func TestServiceTiers(t *testing.T) {
	tab := table(t, `{"openai": {"gpt-4o": {"service_tiers": {
		"flex": {"multiplier": 0.5},
		"Priority": {"input": "4.25", "output": "17", "long_context": {"100000": {"input": "8.5"}}, "image": "1"}
	}}}}`)
	p := find(t, tab, "openai", "gpt-4o")
	for _, tc := range []struct {
		q    price.Quantities
		tier string
		want int64
	}{
		{price.Quantities{Input: 2, Output: 2}, "", 25_000},
		{price.Quantities{Input: 2, Output: 2}, "flex", 12_500},
		{price.Quantities{Input: 2, Output: 2, WebSearches: 1}, "FLEX", 10_012_500}, // searches cost the same
		{price.Quantities{Input: 1, Output: 2}, "priority", 38_250},
		{price.Quantities{CacheRead: 1}, "priority", 4_250}, // not the standard tier's discount
		{price.Quantities{Input: 1, CacheRead: 100_000}, "priority", 8_500 * 100_001},
		{price.Quantities{Images: 1, WebSearches: 1}, "priority", 1_010_000_000},
		{price.Quantities{Images: 1}, "", unknown},
		{price.Quantities{Input: 1}, "scale", unknown},
	} {
		if got := cost(t, p, tc.q, tc.tier); got != tc.want {
			t.Errorf("%+v %s: %d, want %d", tc.q, tc.tier, got, tc.want)
		}
	}
}

func TestProjectOverrides(t *testing.T) {
	tab := table(t, `{"openai": {"gpt-4o": {"input": "2", "service_tiers": {"flex": {"multiplier": "0.5"}, "batch": {"multiplier": "0.5"}}}, "m": {"free": true}}}`)
	project := parse(t, `{"openai": {"gpt-4o": {"output": "5", "service_tiers": {"flex": {"multiplier": "0.25"}}}, "m": {"input": "7"}}, "anthropic": {"*": {"input": "1"}}}`)
	layered := tab.With(project)
	p := find(t, layered, "openai", "gpt-4o")
	for tier, want := range map[string]int64{"": 7_000, "flex": 1_750, "batch": 3_500} {
		if got := cost(t, p, price.Quantities{Input: 1, Output: 1}, tier); got != want {
			t.Errorf("tier %q: %d, want %d", tier, got, want)
		}
	}
	if got := rate(t, layered, "anthropic", "anthropic", "unheard-of"); got != 1000 {
		t.Errorf("a glob of the project: %d", got)
	}
	m := find(t, layered, "openai", "m")
	if got := cost(t, m, price.Quantities{Input: 1}, ""); got != 7_000 {
		t.Errorf("a price over free: %d", got)
	}
	if got := cost(t, m, price.Quantities{Input: 1}, "flex"); got != unknown {
		t.Errorf("a price over free, at another tier: %d", got)
	}
	if got := cost(t, find(t, tab, "openai", "gpt-4o"), price.Quantities{Output: 1}, ""); got != 10_000 {
		t.Errorf("the project's price without the project: %d", got)
	}
	// The same project over another table, as after a reload.
	other := table(t, "")
	if got := cost(t, find(t, other.With(project), "openai", "gpt-4o"), price.Quantities{Input: 1, Output: 1}, ""); got != 7_500 {
		t.Errorf("over another table: %d", got)
	}
	if got := cost(t, find(t, layered, "openai", "gpt-4o"), price.Quantities{Input: 1}, ""); got != 2_000 {
		t.Errorf("and back: %d", got)
	}
}

func TestVersion(t *testing.T) {
	plain := table(t, "")
	source, err := price.EmbeddedSource()
	if err != nil {
		t.Fatal(err)
	}
	if want := "genai-prices@" + source.Version; plain.Version() != want || plain.With(nil).Version() != want || table(t, "{}").Version() != want {
		t.Errorf("%q, want %q", plain.Version(), want)
	}
	a, b := `{"openai": {"m": {"input": 1}}}`, `{"openai": {"m": {"input": 2}}}`
	if table(t, a).Version() == table(t, b).Version() {
		t.Error("other prices have the same version")
	}
	if table(t, `{"openai": {"a": {"input": 1}, "b": {"free": true}}}`).Version() != table(t, "{\"openai\":\n{\"\\u0062\": {\"free\":true}, \"a\": {\"input\": 1}}}").Version() {
		t.Error("spaces, order and escapes make another version")
	}
	version := table(t, a).With(parse(t, b)).Version()
	before, project, ok := strings.Cut(version, "+project:")
	if !ok || len(project) != 8 || before != table(t, a).Version() || !strings.Contains(before, source.Version+"+overrides:") {
		t.Errorf("with a project: %s", version)
	}
}

func TestOverridesAsJSON(t *testing.T) {
	type policy struct {
		Prices *price.Overrides `json:"prices,omitempty"`
	}
	const text = `{"prices":{"openai":{"m":{"input":"1.10"}}}}`
	var p policy
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	if got := rate(t, table(t, "").With(p.Prices), "openai", "openai", "m"); got != 1100 {
		t.Errorf("%d", got)
	}
	if out, err := json.Marshal(p); err != nil || string(out) != text {
		t.Errorf("%s, error %v", out, err)
	}
	if out, err := json.Marshal(new(price.Overrides)); err != nil || string(out) != "{}" {
		t.Errorf("zero: %s, error %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"prices":{"openai":{"m":{"inptu":"1"}}}}`), new(policy)); err == nil || !strings.Contains(err.Error(), "openai > m > inptu") {
		t.Errorf("%v", err)
	}
	if names := parse(t, `{"b":{},"*":{},"a":{}}`).Providers(); strings.Join(names, " ") != "a b" {
		t.Errorf("%v", names)
	}
	if names := (*price.Overrides)(nil).Providers(); names != nil {
		t.Errorf("%v", names)
	}
}

func TestOverridesErrors(t *testing.T) {
	for text, want := range map[string]string{
		``:                              "empty",
		`[]`:                            "expected a JSON object of providers",
		`{} {}`:                         "more follows",
		`{"openai": {`:                  "line 1",
		"{\n\"openai\": {\n\"m\": x}}":  "line 3",
		`{"openai": {}, "openai": {}}`:  "duplicate",
		`{"openai": 5}`:                 "openai: expected a JSON object of models",
		`{"": {}}`:                      "expected a provider's name",
		`{"openai": {"": {"input":1}}}`: "openai > : expected a model's name",
		`{"openai": {"m": "free"}}`:     "openai > m: expected a JSON object of prices",
		`{"openai": {"m": {}}}`:         "openai > m: says nothing",
		`{"openai": {"m": {"input": "1"}, "M": {"input": "1"}}}`:                                       "openai > M: appears twice",
		`{"openai": {"m*": {"input": "1"}, "M*": {"input": "1"}}}`:                                     "openai > M*: appears twice",
		`{"openai": {"m": {"input": "1", "input": "2"}}}`:                                              "duplicate",
		`{"openai": {"m": {"imput": "1"}}}`:                                                            "openai > m > imput: unknown; expected one of input, ",
		`{"openai": {"m": {"input": "$1"}}}`:                                                           "openai > m > input: expected US dollars",
		`{"openai": {"m": {"input": "1,5"}}}`:                                                          "expected US dollars",
		`{"openai": {"m": {"input": ""}}}`:                                                             "expected US dollars",
		`{"openai": {"m": {"input": null}}}`:                                                           "expected US dollars",
		`{"openai": {"m": {"input": "-1"}}}`:                                                           "must not be negative",
		`{"openai": {"m": {"input": -1}}}`:                                                             "must not be negative",
		`{"openai": {"m": {"input": "0.0000000000001"}}}`:                                              "too many decimal places: at most 12",
		`{"openai": {"m": {"request": "0.0000000001"}}}`:                                               "too many decimal places: at most 9",
		`{"openai": {"m": {"input": "1e40"}}}`:                                                         "too large",
		`{"openai": {"m": {"request": 100}}}`:                                                          "too large",
		`{"openai": {"m": {"free": false}}}`:                                                           "openai > m > free: expected true",
		`{"openai": {"m": {"free": true, "input": 1}}}`:                                                "free stands beside prices",
		`{"openai": {"m": {"max_input_tokens": "5"}}}`:                                                 "expected a number of tokens",
		`{"openai": {"m": {"max_input_tokens": 0}}}`:                                                   "expected a number of tokens",
		`{"openai": {"m": {"max_output_tokens": 1.5}}}`:                                                "expected a number of tokens",
		`{"openai": {"m": {"context_window": 1e15}}}`:                                                  "expected a number of tokens",
		`{"openai": {"m": {"long_context": {"9": {"input": 1}}}}}`:                                     "openai > m: long_context has a price of input",
		`{"openai": {"m": {"input": 1, "long_context": {"x": {}}}}}`:                                   "openai > m > long_context > x: expected the number",
		`{"openai": {"m": {"input": 1, "long_context": {"07": {}}}}}`:                                  "long_context > 07: expected the number",
		`{"openai": {"m": {"input": 1, "long_context": {"7": {"request": 1}}}}}`:                       "long_context > 7 > request: expected one of input, ",
		`{"openai": {"m": {"input": 1, "long_context": {"7": {"input": "x"}}}}}`:                       "long_context > 7 > input: expected US dollars",
		`{"openai": {"m": {"service_tiers": {"default": {"multiplier": 1}}}}}`:                         "service_tiers > default: the standard tier's",
		`{"openai": {"m": {"service_tiers": {"flex": {}}}}}`:                                           "service_tiers > flex: expected either multiplier or prices",
		`{"openai": {"m": {"service_tiers": {"flex": {"multiplier": 2, "input": 1}}}}}`:                "expected either multiplier or prices",
		`{"openai": {"m": {"service_tiers": {"flex": {"multiplier": 0}}}}}`:                            "flex > multiplier: expected a factor",
		`{"openai": {"m": {"service_tiers": {"flex": {"multiplier": "x"}}}}}`:                          "flex > multiplier: expected a factor",
		`{"openai": {"m": {"service_tiers": {"flex": {"free": true}}}}}`:                               "flex > free: unknown",
		`{"openai": {"m": {"service_tiers": {"a": {"input": 1}, "A": {"input": 1}}}}}`:                 "service_tiers > A: appears twice",
		`{"openai": {"m": {"service_tiers": {"a": {"output": 1, "long_context":{"5":{"input":1}}}}}}}`: "service_tiers > a: long_context has a price of input",
		`{"` + strings.Repeat("x", price.MaxOverrides) + `": {}}`:                                      "larger than",
	} {
		o, err := price.ParseOverrides(strings.NewReader(text))
		if err == nil || !strings.Contains(err.Error(), want) || o != nil {
			t.Errorf("%.80s: %v, want %q", text, err, want)
		}
	}
	broken := errors.New("broken")
	if _, err := price.ParseOverrides(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("a reader that fails: %v", err)
	}
}

func FuzzParseOverrides(f *testing.F) {
	f.Add(`{"openai": {"gpt-4o*": {"input": "2.50", "long_context": {"200000": {"input": 5}}, "service_tiers": {"flex": {"multiplier": "0.5"}}}}}`)
	f.Add(`{"*": {"m": {"free": true}}, "x": {"m?": {"request": 1e-3, "max_output_tokens": 9}}}`)
	f.Add(`{"a": {"m": {"output": "0.1", "service_tiers": {"p": {"input": 3}}}}}`)
	tab := table(f, "")
	f.Fuzz(func(t *testing.T, text string) {
		o, err := price.ParseOverrides(strings.NewReader(text))
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without a text")
			}
			return
		}
		out, err := json.Marshal(o)
		if err != nil {
			t.Fatalf("%s cannot be written: %v", text, err)
		}
		again, err := price.ParseOverrides(strings.NewReader(string(out)))
		if err != nil {
			t.Fatalf("%s, written as %s, is refused: %v", text, out, err)
		}
		if a, b := tab.With(o).Version(), tab.With(again).Version(); a != b {
			t.Errorf("%s and %s after a round trip", a, b)
		}
		for _, name := range append(o.Providers(), "openai") {
			p, ok := tab.With(o).Lookup(name, "openai", "gpt-4o", now)
			q, okAgain := tab.With(again).Lookup(name, "openai", "gpt-4o", now)
			if ok != okAgain {
				t.Fatalf("found %v, after a round trip %v", ok, okAgain)
			}
			if !ok {
				continue
			}
			use := price.Quantities{Input: 3, CacheWrite1h: 5, Output: 7, WebSearches: 1}
			a, completeA := p.Cost(use, "")
			b, completeB := q.Cost(use, "")
			if a < 0 || a != b || completeA != completeB {
				t.Errorf("costs %d (%v), after a round trip %d (%v)", a, completeA, b, completeB)
			}
		}
	})
}
