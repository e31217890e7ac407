package project_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
)

func TestMatchGlob(t *testing.T) {
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
		if got := project.MatchGlob(tc.glob, tc.text); got != tc.want {
			t.Errorf("MatchGlob(%q, %q) = %v, want %v", tc.glob, tc.text, got, tc.want)
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

func TestMatchGlobMeansTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		glob := rapid.StringOfN(rapid.SampledFrom([]rune("ab*?*")), 0, 10, -1).Draw(t, "glob")
		text := rapid.StringOfN(rapid.SampledFrom([]rune("aab*?")), 0, 12, -1).Draw(t, "text")
		if got, want := project.MatchGlob(glob, text), reference(glob, text); got != want {
			t.Fatalf("MatchGlob(%q, %q) = %v, want %v", glob, text, got, want)
		}
	})
}

// What takes a backtracking matcher exponential time: were it so here, this
// test would not end.
func TestMatchGlobIsNotExponential(t *testing.T) {
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
		if got := project.MatchGlob(tc.glob, tc.text); got != tc.want {
			t.Errorf("MatchGlob(%.8q…, %d bytes) = %v, want %v", tc.glob, len(tc.text), got, tc.want)
		}
	}
}

func TestMatchersAllocateNothing(t *testing.T) {
	patterns := []string{"/v1/models", "/v1/files/*"}
	var matched bool
	if n := testing.AllocsPerRun(1000, func() {
		matched = project.MatchGlob("gpt-*-mini", "gpt-4o-mini") && project.MatchEndpoint(patterns, "/v1/files/f1")
	}); n != 0 || !matched {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestMatchEndpoint(t *testing.T) {
	for _, tc := range []struct {
		patterns string
		path     string
		want     bool
	}{
		{"/v1/models", "/v1/models", true},
		{"/v1/models", "/v1/models/", false},
		{"/v1/models", "/v1/models/gpt-4o", false},
		{"/v1/models", "/v1/Models", false},
		{"/v1/files/*", "/v1/files", false},
		{"/v1/files/*", "/v1/files/", false},
		{"/v1/files/*", "/v1/files/f1", true},
		{"/v1/files/*", "/v1/files/f1/content", true},
		{"/v1/files/*", "/v1/filesystem", false},
		{"/v1/files/*", "/v1/files*", false},
		{"/v1/chat/completions /v1/files/*", "/v1/files/f1", true},
		{"/*", "/v1/models", true},
		{"/*", "/", false},
		{"/*", "", false},
		{"*", "/v1/models", false},
		{"/v1/f*", "/v1/files", false},
		{"", "/v1/models", false},
	} {
		if got := project.MatchEndpoint(strings.Fields(tc.patterns), tc.path); got != tc.want {
			t.Errorf("MatchEndpoint(%q, %q) = %v, want %v", tc.patterns, tc.path, got, tc.want)
		}
	}
}

func FuzzMatchGlob(f *testing.F) {
	f.Add("gpt-4o*", "gpt-4o-mini")
	f.Add("*a*?", "banana")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, glob, text string) {
		if len(glob) > 12 || len(text) > 16 {
			glob, text = glob[:min(12, len(glob))], text[:min(16, len(text))] // the reference is exponential
		}
		if got, want := project.MatchGlob(glob, text), reference(glob, text); got != want {
			t.Fatalf("MatchGlob(%q, %q) = %v, want %v", glob, text, got, want)
		}
	})
}
