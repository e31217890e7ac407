package price

import (
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var propertyTime = time.Date(2026, 9, 23, 2, 0, 0, 0, time.UTC)

// anyPrice draws a price of the snapshot, or one of random overrides.
func anyPrice(t *rapid.T) *Price {
	if rapid.Bool().Draw(t, "override") {
		return drawOverridden(t)
	}
	s, err := loadEmbedded()
	if err != nil {
		t.Fatal(err)
	}
	type place struct {
		provider string
		model    int
	}
	var priced []place
	for _, name := range slices.Sorted(maps.Keys(s.providers)) {
		for i := range s.providers[name].Models {
			if len(s.providers[name].Models[i].periods) > 0 {
				priced = append(priced, place{name, i})
			}
		}
	}
	at := rapid.SampledFrom(priced).Draw(t, "model")
	m := &s.providers[at.provider].Models[at.model]
	return layered(current(m.periods, propertyTime), m.limits, m.media, nil)
}

// drawOverridden draws overrides of one model.
func drawOverridden(t *rapid.T) *Price {
	text, _ := drawOverrides(t)
	o, err := ParseOverrides(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	table, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := table.Lookup("p", "vllm", "m", propertyTime)
	if !ok {
		t.Fatalf("%s: not found", text)
	}
	return p
}

var multipliers = map[string]string{"flex": "0.5", "priority": "1.75", "third": "0.333333"}

// drawOverrides draws prices of a model m, among them those of input and output,
// with the decimals that were drawn. Long prompts cost at least as much.
func drawOverrides(t *rapid.T) (string, map[string]string) {
	decimal := rapid.Custom(func(t *rapid.T) string {
		whole := rapid.IntRange(0, 40).Draw(t, "whole")
		return strings.TrimSuffix(fmt.Sprint(whole, ".", rapid.StringMatching(`[0-9]{0,9}`).Draw(t, "fraction")), ".")
	})
	drawn := map[string]string{"input": decimal.Draw(t, "input"), "output": decimal.Draw(t, "output")}
	for _, key := range slices.Sorted(maps.Keys(overrideNames)) {
		if rapid.Bool().Draw(t, key) {
			drawn[key] = decimal.Draw(t, key)
		}
	}
	var b strings.Builder
	for key, value := range drawn {
		fmt.Fprintf(&b, "%q: %q, ", key, value)
	}
	for tier, by := range multipliers {
		drawn["tier "+tier] = by
	}
	long := new(big.Rat).Mul(rat(drawn["input"]), big.NewRat(2, 1)).FloatString(tokenPlaces)
	drawn["long input"] = long
	return fmt.Sprintf(`{"p": {"m": {%s
		"long_context": {"1000": {"input": %q}},
		"service_tiers": {"flex": {"multiplier": "0.5"}, "priority": {"multiplier": 1.75}, "third": {"multiplier": "0.333333"}, "own": {"input": "100", "output": "1"}}}}}`,
		b.String(), long), drawn
}

func rat(text string) *big.Rat {
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		panic(text)
	}
	return r
}

// fields are the counters of q that a bound may hold.
func fields(q *Quantities) []*int64 {
	return []*int64{
		&q.Input, &q.CacheRead, &q.CacheWrite5m, &q.CacheWrite1h, &q.InputAudio, &q.CacheReadAudio, &q.InputImage, &q.CacheReadImage, &q.InputVideo,
		&q.Output, &q.Reasoning, &q.Citation, &q.OutputAudio, &q.OutputImage, &q.OutputVideo,
		&q.InputAudioMillis, &q.OutputAudioMillis, &q.WebSearches, &q.FileSearches, &q.CodeExecutions,
		&q.Images, &q.Pages, &q.AnnotatedPages, &q.Characters, &q.TextMessages,
	}
}

func drawQuantities(t *rapid.T) (q Quantities) {
	for i, f := range fields(&q) {
		if rapid.Bool().Draw(t, fmt.Sprint("used ", i)) {
			*f = rapid.Int64Range(0, 400_000).Draw(t, fmt.Sprint("count ", i))
		}
	}
	return q
}

// TestCostIsTheExactSum computes with fractions what Cost computes with integers.
func TestCostIsTheExactSum(t *testing.T) {
	// Per name: the counters that it prices, most specific first, and how many make
	// one of what the price is for.
	chain := map[int]struct {
		names []string
		per   int64
	}{
		0: {[]string{"input"}, 1e6}, 1: {[]string{"cache_read", "input"}, 1e6},
		2:  {[]string{"cache_write_5m", "cache_write", "input"}, 1e6},
		3:  {[]string{"cache_write_1h", "cache_write", "input"}, 1e6},
		6:  {[]string{"input_image", "input"}, 1e6},
		9:  {[]string{"output"}, 1e6},
		10: {[]string{"reasoning", "output"}, 1e6}, 11: {[]string{"citation", "output"}, 1e6},
		15: {[]string{"input_audio_hour", "audio_hour"}, 3_600_000},
		16: {[]string{"output_audio_hour", "audio_hour"}, 3_600_000},
		17: {[]string{"web_search"}, 1}, 18: {[]string{"file_search"}, 1}, 19: {[]string{"code_execution"}, 1},
		20: {[]string{"image"}, 1}, 21: {[]string{"page"}, 1}, 22: {[]string{"annotated_page", "page"}, 1},
		23: {[]string{"million_characters"}, 1e6}, 24: {[]string{"text_message"}, 1},
	}
	rapid.Check(t, func(t *rapid.T) {
		text, drawn := drawOverrides(t)
		o, err := ParseOverrides(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		table, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		p, _ := table.Lookup("p", "vllm", "m", propertyTime)
		q := drawQuantities(t)
		for i, f := range fields(&q) {
			if _, priced := chain[i]; !priced { // media, which may or may not fall back
				*f = 0
			}
		}
		var prompt int64
		for _, f := range fields(&q)[:9] {
			prompt += *f
		}
		tokens, units, complete := new(big.Rat), new(big.Rat), true
		for i, f := range fields(&q) {
			if *f == 0 {
				continue
			}
			c := chain[i]
			usd, known := "", false
			for _, n := range c.names {
				if usd, known = drawn[n]; known {
					if n == "input" && prompt > 1000 {
						usd = drawn["long input"]
					}
					break
				}
			}
			if !known {
				complete = false
				continue
			}
			part := new(big.Rat).Mul(rat(usd), big.NewRat(*f, c.per))
			if i < 15 {
				tokens.Add(tokens, part)
			} else {
				units.Add(units, part)
			}
		}
		if usd, known := drawn["request"]; known {
			units.Add(units, rat(usd))
		}
		tier := rapid.SampledFrom([]string{"", "flex", "priority", "third"}).Draw(t, "tier")
		if tier != "" {
			tokens.Mul(tokens, rat(multipliers[tier]))
		}
		nano := new(big.Rat).Mul(tokens.Add(tokens, units), big.NewRat(1e9, 1))
		nano.Add(nano, big.NewRat(1, 2)) // half up: the floor of this
		want := new(big.Int).Quo(nano.Num(), nano.Denom())
		got, gotComplete := p.Cost(q, tier)
		if gotComplete != complete || complete && want.Cmp(big.NewInt(got)) != 0 {
			t.Fatalf("%s\n%+v %s: %d (%v), want %s (%v)", text, q, tier, got, gotComplete, want, complete)
		}
	})
}

// TestCostIsMonotone: using more never costs less.
func TestCostIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPrice(t)
		q := drawQuantities(t)
		tier := rapid.SampledFrom([]string{"", "flex", "own"}).Draw(t, "tier")
		more := q
		*rapid.SampledFrom(fields(&more)).Draw(t, "more") += rapid.Int64Range(1, 300_000).Draw(t, "by")
		small, completeSmall := p.Cost(q, tier)
		large, completeLarge := p.Cost(more, tier)
		if completeLarge && !completeSmall {
			t.Fatalf("%+v has no price, but %+v has", q, more)
		}
		if completeLarge && large < small {
			t.Fatalf("%+v costs %d, %+v only %d", q, small, more, large)
		}
	})
}

// TestBoundHolds draws maxima, and quantities that stay within.
func TestBoundHolds(t *testing.T) {
	priced := 0
	rapid.Check(t, func(t *rapid.T) {
		p := anyPrice(t)
		q := drawQuantities(t)
		spare := func(name string) int64 { return rapid.Int64Range(0, 300_000).Draw(t, name) }
		m := Maxima{
			Input:      q.Input + q.CacheRead + q.CacheWrite5m + q.CacheWrite1h + spare("input"),
			InputAudio: q.InputAudio + q.CacheReadAudio, InputImage: q.InputImage + q.CacheReadImage, InputVideo: q.InputVideo,
			Output: q.Output + q.Reasoning + q.Citation + spare("output"), OutputAudio: q.OutputAudio, OutputImage: q.OutputImage, OutputVideo: q.OutputVideo,
			InputAudioMillis: q.InputAudioMillis, OutputAudioMillis: q.OutputAudioMillis,
			WebSearches: q.WebSearches, FileSearches: q.FileSearches, CodeExecutions: q.CodeExecutions,
			Images: q.Images, Pages: q.Pages, AnnotatedPages: q.AnnotatedPages, Characters: q.Characters, TextMessages: q.TextMessages,
		}
		if rapid.Bool().Draw(t, "audio as text") { // some providers do not tell them apart
			q.Input, q.InputAudio = q.Input+q.InputAudio, 0
			q.CacheWrite1h, q.CacheReadImage = q.CacheWrite1h+q.CacheReadImage, 0
			q.Output, q.OutputAudio = q.Output+q.OutputAudio, 0
		}
		tiers := rapid.SampledFrom([][]string{nil, {"flex"}, {"priority", "own"}}).Draw(t, "tiers")
		bound, complete := p.UpperBound(m, tiers...)
		if !complete {
			return
		}
		for _, tier := range append([]string{"default"}, tiers...) {
			cost, ok := p.Cost(q, tier)
			if !ok {
				t.Fatalf("%+v has the bound %d, but %+v has no price", m, bound, q)
			}
			if cost > bound {
				t.Fatalf("%+v at tier %q costs %d, above its bound %d", q, tier, cost, bound)
			}
			priced++
		}
	})
	if priced == 0 {
		t.Error("no quantities had a bound")
	}
}

func TestBounds(t *testing.T) {
	o, err := ParseOverrides(strings.NewReader(`{"openai": {"gpt-5.4": {"service_tiers": {"priority": {"multiplier": 2}}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	table, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		kind, model string
		m           Maxima
		tiers       []string
		want        int64
		complete    bool
	}{
		{"anthropic", "claude-sonnet-4-0", Maxima{Input: 1000, Output: 100}, nil, 1000*6000 + 100*15_000, true}, // as if written for an hour
		{"anthropic", "claude-sonnet-4-0", Maxima{Input: 1000, Output: 100}, []string{"standard_only"}, 1000*6000 + 100*15_000, true},
		{"gemini", "gemini-2.5-flash-image", Maxima{Output: 100}, nil, 100 * 30_000, true}, // which draws unasked
		{"openai", "gpt-5.4", Maxima{Input: 271_999, Output: 100}, nil, 271_999*2500 + 100*15_000, true},
		{"openai", "gpt-5.4", Maxima{Input: 272_000, Output: 100}, nil, 272_000*5000 + 100*22_500, true},
		{"openai", "gpt-5.4", Maxima{Input: 1000, WebSearches: 2}, []string{"priority"}, 5_000_000 + 20_000_000, true},
		{"openai", "gpt-5.4", Maxima{Input: 1000}, []string{"priority", "flex"}, 0, false},
		{"openai", "gpt-5.4", Maxima{Input: -1}, nil, 0, false},
		{"openai", "gpt-5.4", Maxima{InputAudio: 1}, nil, 0, false},
		{"openai", "gpt-5.4", Maxima{Images: 1}, nil, 0, false},
		{"openai", "gpt-realtime", Maxima{Input: 10, InputAudio: 10}, nil, 10*4_000 + 10*32_000, true},
		{"groq", "whisper-large-v3-turbo", Maxima{InputAudioMillis: 1}, nil, 111_111, true},
		{"openai", "text-embedding-3-small", Maxima{Input: 1000}, nil, 20_000, true},
	} {
		p, ok := table.Lookup(tc.kind, tc.kind, tc.model, propertyTime)
		if !ok {
			t.Fatalf("%s has no price", tc.model)
		}
		if got, complete := p.UpperBound(tc.m, tc.tiers...); got != tc.want || complete != tc.complete {
			t.Errorf("%s %+v %v: %d, %v; want %d, %v", tc.model, tc.m, tc.tiers, got, complete, tc.want, tc.complete)
		}
	}
}
