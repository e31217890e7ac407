package provider_test

import (
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
)

func mustNew(t testing.TB, c provider.Config) *provider.Provider {
	t.Helper()
	p, err := provider.New(c)
	if err != nil {
		t.Fatalf("New(%s): %v", c.Name, err)
	}
	return p
}

// preset makes a provider of a type, at baseURL or where its preset says.
func preset(t testing.TB, kind, baseURL string) *provider.Provider {
	t.Helper()
	if baseURL == "" && kind == "azure_openai" {
		baseURL = "https://acme.openai.azure.com"
	}
	return mustNew(t, provider.Config{Name: kind, BaseURL: baseURL})
}

// table makes a table of the given providers; the first one serves /v1/*.
func table(t testing.TB, providers ...*provider.Provider) *provider.Table {
	t.Helper()
	tab, err := provider.NewTable(providers, providers[0].Name)
	if err != nil {
		t.Fatalf("NewTable: %v", err)
	}
	return tab
}

// match routes a path that must be ours and canonical.
func match(t testing.TB, tab *provider.Table, path string) provider.Route {
	t.Helper()
	route, ours, ok := tab.Match(path)
	if !ours || !ok {
		t.Fatalf("Match(%q): ours %v, ok %v", path, ours, ok)
	}
	return route
}
