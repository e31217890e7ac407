package respcache_test

import (
	"bytes"
	"net/http"
	"testing"

	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

// part draws texts that are near each other, with what separates parts elsewhere.
func part() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"", "a", "b", "a&b", "a=1&b=2", "a=1%26b%3D2", "\x00", "\x01a", "/v1/models", "|", "GET", "POST", "HEAD", "openai"}),
		rapid.StringN(0, 3, 6), rapid.StringOfN(rapid.SampledFrom([]rune("ab/|:\x00\x01\x02")), 0, 300, -1))
}

type drawn struct {
	id   respcache.Identity
	body string
	kind int
	how  string
}

func identity(t *rapid.T, name string) drawn {
	d := drawn{id: respcache.Identity{
		Provider: part().Draw(t, name+" provider"), Method: rapid.SampledFrom([]string{"GET", "HEAD", "POST"}).Draw(t, name+" method"),
		Path: part().Draw(t, name+" path"), Query: part().Draw(t, name+" query"), Fields: []byte(part().Draw(t, name+" fields")),
		Scope: respcache.Scope{Kind: rapid.SampledFrom([]respcache.ScopeKind{0, respcache.Shared, respcache.Project, respcache.Token}).Draw(t, name+" scope"), ID: part().Draw(t, name+" scope id")},
	}}
	d.draw(t, name)
	return d
}

func (d *drawn) draw(t *rapid.T, name string) {
	d.body, d.kind = rapid.SampledFrom([]string{"", "{}", `{"a":1}`, `{"a":1.0}`, "x"}).Draw(t, name+" body"), rapid.IntRange(0, 1).Draw(t, name+" kind")
	d.how = rapid.SampledFrom([]string{"", "text/plain"}).Draw(t, name+" how")
	if d.kind == 0 {
		d.id.Body = respcache.RawBody([]byte(d.body), d.how)
	} else {
		d.id.Body = respcache.JSONBody([]byte(d.body), nil, d.how)
	}
}

func (d drawn) same(o drawn) bool {
	method := func(m string) string {
		if m == "HEAD" {
			return "GET"
		}
		return m
	}
	body := func(d drawn) string {
		switch {
		case d.body == "": // none
			return ""
		case d.kind == 1 && d.body != "x":
			return "json " + d.body
		}
		return "raw " + d.how + " " + d.body
	}
	return d.id.Provider == o.id.Provider && method(d.id.Method) == method(o.id.Method) && d.id.Path == o.id.Path && d.id.Query == o.id.Query &&
		d.id.Scope == o.id.Scope && bytes.Equal(d.id.Fields, o.id.Fields) && body(d) == body(o)
}

// TestKeyIsInjective: two requests have one key if and only if they are the same in
// every part, whatever text the parts hold; so nothing is found from another scope.
func TestKeyIsInjective(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a := identity(t, "a")
		b := a
		switch rapid.IntRange(0, 8).Draw(t, "what differs") {
		case 0:
			b.id.Provider = part().Draw(t, "provider")
		case 1:
			b.id.Method = "POST"
		case 2:
			b.id.Path = part().Draw(t, "path")
		case 3:
			b.id.Query = part().Draw(t, "query")
		case 4:
			b.id.Scope.Kind = respcache.Token
		case 5:
			b.id.Scope.ID = part().Draw(t, "scope id")
		case 6: // a piece moves from one part into the next
			all := a.id.Provider + a.id.Path
			cut := rapid.IntRange(0, len(all)).Draw(t, "cut")
			b.id.Provider, b.id.Path = all[:cut], all[cut:]
		case 7:
			b.draw(t, "other")
		case 8:
			b = identity(t, "b")
		}
		same := a.same(b)
		if got := a.id.Key() == b.id.Key(); got != same {
			t.Fatalf("%+v and %+v: one key %t, want %t", a, b, got, same)
		}
		if got := bytes.Equal(a.id.Encode(), b.id.Encode()); got != same {
			t.Fatalf("%+v and %+v: one encoding %t, want %t", a, b, got, same)
		}
	})
}

// TestForgottenScope: who forgets to set a scope shares nothing.
func TestForgottenScope(t *testing.T) {
	t.Parallel()
	seen := make(map[respcache.Key]respcache.ScopeKind)
	for _, kind := range []respcache.ScopeKind{0, respcache.Shared, respcache.Project, respcache.Token} {
		id := respcache.Identity{Provider: "openai", Method: http.MethodGet, Path: "/v1/models", Scope: respcache.Scope{Kind: kind}}
		if other, ok := seen[id.Key()]; ok {
			t.Errorf("scopes %d and %d share a key", kind, other)
		}
		seen[id.Key()] = kind
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	id := respcache.Identity{Path: "/"}
	k := id.Key()
	if got, err := respcache.ParseKey(k.String()); err != nil || got != k {
		t.Errorf("%s, %v", got, err)
	}
	for _, text := range []string{"", k.String()[1:], k.String() + "0", "g" + k.String()[1:], "../" + k.String()[3:]} {
		if got, err := respcache.ParseKey(text); err == nil || got != (respcache.Key{}) {
			t.Errorf("%q is read as %s", text, got)
		}
	}
}

// TestVariantKey: requests are one variant if what the response varies on is the
// same in them, and never of two primary keys.
func TestVariantKey(t *testing.T) {
	t.Parallel()
	one, two := respcache.Key{1}, respcache.Key{2}
	plain := http.Header{"Accept": {"a"}, "Origin": {"o"}}
	other := http.Header{"Accept": {"a"}, "Origin": {"p"}}
	vary := []string{"Accept"}
	if respcache.VariantKey(one, vary, plain) != respcache.VariantKey(one, vary, other) {
		t.Error("what the response does not vary on makes another variant")
	}
	seen := make(map[respcache.Key]int)
	for i, k := range []respcache.Key{
		respcache.VariantKey(one, nil, plain), respcache.VariantKey(two, nil, plain), respcache.VariantKey(one, vary, plain), respcache.VariantKey(two, vary, plain),
		respcache.VariantKey(one, []string{"Origin"}, plain), respcache.VariantKey(one, []string{"Origin"}, other), respcache.VariantKey(one, []string{"Accept", "Origin"}, plain),
		respcache.VariantKey(one, vary, http.Header{}), respcache.VariantKey(one, vary, http.Header{"Accept": {""}}),
	} {
		if j, ok := seen[k]; ok {
			t.Errorf("variants %d and %d share a key", i, j)
		}
		seen[k] = i
	}
}
