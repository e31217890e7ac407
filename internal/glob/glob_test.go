package glob_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/glob"
)

func TestMatch(t *testing.T) {
	for _, tc := range []struct {
		glob, text string
		want       bool
	}{
		{"gpt-4o", "gpt-4o", true},
		{"gpt-4o", "gpt-4o-mini", false},
		{"gpt-4o", "GPT-4o", false},
		{"gpt-4o*", "gpt-4o", true},
		{"gpt-4o*", "gpt-4o-mini", true},
		{"gpt-4o*", "xgpt-4o", false},
		{"*", "", true},
		{"*", "anything/at:all", true},
		{"**", "x", true},
		{"", "", true},
		{"", "x", false},
		{"?", "", false},
		{"?", "x", true},
		{"?", "xy", false},
		{"?", "é", false}, // two bytes
		{"??", "é", true},
		{"meta-llama/*", "meta-llama/Llama-3-8b", true},
		{"*/Llama-*-8b", "meta-llama/Llama-3-8b", true},
		{"*-4?-*", "gpt-4o-mini", true},
		{"*-4?-*", "gpt-4-mini", false},
		{"a*b*c", "abbbc", true},
		{"a*b*c", "abbb", false},
		{"a*bc", "abcbc", true},
		{"[a-z]*", "a", false}, // no classes
		{"[a-z]*", "[a-z]", true},
		{`\*`, "*", false}, // no escapes
		{"*", "\x00\xff", true},
		{"gpt-4o", "gpt-4o\x00", false},
		{"gpt-4o*", "gpt-4o\nx", true},
	} {
		if got := glob.Match(tc.glob, tc.text); got != tc.want {
			t.Errorf("Match(%q, %q) = %v, want %v", tc.glob, tc.text, got, tc.want)
		}
	}
}

// reference is the meaning of a glob, written down the slow way.
func reference(glob, text string) bool {
	switch {
	case glob == "":
		return text == ""
	case glob[0] == '*':
		return reference(glob[1:], text) || text != "" && reference(glob, text[1:])
	case text == "":
		return false
	case glob[0] == '?' || glob[0] == text[0]:
		return reference(glob[1:], text[1:])
	}
	return false
}

func TestMatchMeansTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringOfN(rapid.SampledFrom([]rune("ab*?*")), 0, 10, -1).Draw(t, "pattern")
		text := rapid.StringOfN(rapid.SampledFrom([]rune("aab*?")), 0, 12, -1).Draw(t, "text")
		if got, want := glob.Match(pattern, text), reference(pattern, text); got != want {
			t.Fatalf("Match(%q, %q) = %v, want %v", pattern, text, got, want)
		}
	})
}

// What takes a backtracking matcher exponential time: were it so here, this
// test would not end.
func TestMatchIsNotExponential(t *testing.T) {
	for _, tc := range []struct {
		glob, text string
		want       bool
	}{
		{strings.Repeat("a*", 127) + "c", strings.Repeat("a", 10_000) + "b", false},
		{strings.Repeat("*a", 128) + "c", strings.Repeat("a", 10_000), false},
		{strings.Repeat("*", 256), strings.Repeat("x", 100_000), true},
		{strings.Repeat("*?", 128), strings.Repeat("x", 10_000), true},
		{strings.Repeat("a*", 127) + "b", strings.Repeat("a", 10_000), false},
	} {
		if got := glob.Match(tc.glob, tc.text); got != tc.want {
			t.Errorf("Match(%.8q…, %d bytes) = %v, want %v", tc.glob, len(tc.text), got, tc.want)
		}
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	var matched bool
	if n := testing.AllocsPerRun(1000, func() { matched = glob.Match("gpt-*-mini", "gpt-4o-mini") }); n != 0 || !matched {
		t.Errorf("%v allocations, want 0", n)
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("gpt-4o*", "gpt-4o-mini")
	f.Add("*a*?", "banana")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 12 || len(text) > 16 {
			pattern, text = pattern[:min(12, len(pattern))], text[:min(16, len(text))] // the reference is exponential
		}
		if got, want := glob.Match(pattern, text), reference(pattern, text); got != want {
			t.Fatalf("Match(%q, %q) = %v, want %v", pattern, text, got, want)
		}
	})
}
