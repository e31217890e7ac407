package project_test

import (
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
)

func TestMatchersAllocateNothing(t *testing.T) {
	patterns := []string{"/v1/models", "/v1/files/*"}
	var matched bool
	if n := testing.AllocsPerRun(1000, func() {
		matched = project.MatchEndpoint(patterns, "/v1/files/f1")
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
