package provider_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
)

func TestMatchIsOursOrNext(t *testing.T) {
	tab := table(t, preset(t, "openai", ""), preset(t, "gemini", ""), mustNew(t, provider.Config{Name: "My.eu-1_x", Type: "openai"}))
	for _, tc := range []struct {
		path     string
		provider string // "": none
		ours     bool
	}{
		{"/v1/models", "openai", true},
		{"/v1/", "openai", true},
		{"//v1/models", "openai", true},
		{"/%76%31/models", "openai", true},
		{"/openai/models", "openai", true},
		{"/%6fpenai/models", "openai", true},
		{"/gemini", "gemini", true},
		{"/gemini/", "gemini", true},
		{"/My.eu-1_x/v1/models", "My.eu-1_x", true},
		{"/My%2Eeu%2d1%5fx/v1/models", "My.eu-1_x", true},
		// another handler's
		{"/", "", false},
		{"/v1", "", false},
		{"/V1/models", "", false},
		{"/v1beta/models", "", false},
		{"/OpenAI/v1/models", "", false},
		{"/openaix/v1/models", "", false},
		{"/anthropic/v1/messages", "", false},
		{"/index.html", "", false},
		{"/v1%3F/models", "", false},
		{"*", "", false},
		{"", "", false},
		// another handler's, canonical or not
		{"/static/../v1/models", "", false},
		{"/a;b", "", false},
		{"/%2e%2e/v1", "", false},
		{"/é", "", false},
		// ours, refused
		{"/v1/../admin", "", true},
		{"/v1/%2e%2e/admin", "", true},
		{"/v1/%252e%252e/admin", "", true},
		{"/v1%2fmodels", "", true},
		{"/%2Fv1/models", "", true},
		{`/v1\models`, "", true},
		{"/v1%5cmodels", "", true},
		{"/v1;x/models", "", true},
		{"/v1%3Bx/models", "", true},
		{"/v1%00/models", "", true},
		{"/v1/%00", "", true},
		{"/v1/é", "", true},
		{"/v1/%c3%a9", "", true},
		{"/v1/%zz", "", true},
		{"/%76%31/%zz", "", true},
		{"/openai/./models", "", true},
		{"/gemini/v1beta/models/a%2Fb", "", true},
		{"/%67emini/..", "", true},
	} {
		t.Run(tc.path, func(t *testing.T) {
			route, ours, ok := tab.Match(tc.path)
			if ours != tc.ours || ok != (tc.provider != "") {
				t.Fatalf("Match: ours %v, ok %v; want %v, %v", ours, ok, tc.ours, tc.provider != "")
			}
			if !ok {
				if route != (provider.Route{}) {
					t.Fatalf("a refused path has route %v", route)
				}
			} else if route.Provider.Name != tc.provider {
				t.Fatalf("provider %s, want %s", route.Provider.Name, tc.provider)
			}
		})
	}
}

func TestTable(t *testing.T) {
	openai, gemini := preset(t, "openai", ""), preset(t, "gemini", "")
	tab := table(t, openai, gemini)
	if tab.Fallback() != openai || !slices.Equal(tab.Names(), []string{"gemini", "openai"}) {
		t.Errorf("fallback %s, names %v", tab.Fallback().Name, tab.Names())
	}
	for segment, want := range map[string]bool{"v1": true, "openai": true, "gemini": true, "": false, "xai": false, "admin": false} {
		if got := tab.Owns(segment); got != want {
			t.Errorf("Owns(%q) = %v", segment, got)
		}
	}
	_, err := provider.NewTable([]*provider.Provider{openai, gemini}, "xai")
	if err == nil || !strings.Contains(err.Error(), `"xai"`) || !strings.Contains(err.Error(), "gemini, openai") {
		t.Errorf("a fallback that is not configured: %v", err)
	}
}
