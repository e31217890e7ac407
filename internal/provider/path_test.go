package provider_test

import (
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
)

func TestCanonicalPath(t *testing.T) {
	for _, tc := range []struct {
		raw  string
		want string // "": refused
	}{
		// as they are
		{"/", "/"},
		{"/v1/chat/completions", "/v1/chat/completions"},
		{"/v1/models/", "/v1/models/"},
		{"/v1beta/models/gemini-2.5-flash:generateContent", "/v1beta/models/gemini-2.5-flash:generateContent"},
		{"/v1/files/a!b$c&d'e(f)g*h+i,j=k@l", "/v1/files/a!b$c&d'e(f)g*h+i,j=k@l"},
		{"/V1/Chat", "/V1/Chat"},
		{"/v1/...", "/v1/..."},
		{"/v1/.well-known", "/v1/.well-known"},
		{"/v1/a..b", "/v1/a..b"},
		{"/v1/~x", "/v1/~x"},
		{"/v1/a%20b", "/v1/a%20b"},
		// unreserved characters are decoded, once
		{"/v1/%63hat", "/v1/chat"},
		{"/%76%31/models", "/v1/models"},
		{"/v1/%7e%7Ex%2d%5F", "/v1/~~x-_"},
		{"/v1/%2ewell-known", "/v1/.well-known"},
		// other escapes stay, in capitals
		{"/v1/a%3ab", "/v1/a%3Ab"},
		{"/v1/a%3Ab", "/v1/a%3Ab"},
		{"/v1/%3f%23%40", "/v1/%3F%23%40"},
		// what may not stand raw in a path is escaped
		{`/v1/{a}[b]|^"<>` + "`", "/v1/%7Ba%7D%5Bb%5D%7C%5E%22%3C%3E%60"},
		{"/v1/%7Ba%7d", "/v1/%7Ba%7D"},
		// slashes collapse
		{"//v1/models", "/v1/models"},
		{"/v1///models//", "/v1/models/"},
		{"//", "/"},
		// dot segments
		{"/v1/../admin", ""},
		{"/v1/./models", ""},
		{"/..", ""},
		{"/.", ""},
		{"/v1/..", ""},
		{"/v1/%2e%2e/admin", ""},
		{"/v1/%2E./admin", ""},
		{"/v1/.%2e", ""},
		{"/v1//../admin", ""},
		// double escapes, and slashes in disguise
		{"/v1/%252e%252e/admin", ""},
		{"/v1/%25", ""},
		{"/v1/%2Fadmin", ""},
		{"/v1%2fmodels", ""},
		{"/v1/%5c..%5cadmin", ""},
		{`/v1\models`, ""},
		{`/v1/..\admin`, ""},
		// path parameters
		{"/v1;a=b/models", ""},
		{"/v1/models;x", ""},
		{"/v1/models%3bx", ""},
		{"/v1/models%3Bx", ""},
		// control characters and what is not ASCII
		{"/v1/\x00", ""},
		{"/v1/%00", ""},
		{"/v1/%0d%0a", ""},
		{"/v1/a\tb", ""},
		{"/v1/%7f", ""},
		{"/v1/é", ""},
		{"/v1/%c3%a9", ""},
		{"/v1/\xff", ""},
		{"/v1/%FF", ""},
		{"/v1/．．/admin", ""}, // fullwidth dots
		// broken escapes
		{"/v1/%", ""},
		{"/v1/%2", ""},
		{"/v1/%zz", ""},
		{"/v1/%2g", ""},
		{"/v1/%u002e", ""},
		// not an escaped path at all
		{"", ""},
		{"*", ""},
		{"v1/models", ""},
		{"https://api.openai.com/v1/models", ""},
		{"/v1/models?x=1", ""},
		{"/v1/models#x", ""},
		{"/v1/a b", ""},
	} {
		t.Run(tc.raw, func(t *testing.T) {
			got, ok := provider.CanonicalPath(tc.raw)
			if got != tc.want || ok != (tc.want != "") {
				t.Fatalf("CanonicalPath(%q) = %q, %v; want %q", tc.raw, got, ok, tc.want)
			}
		})
	}
}

func TestFirstSegment(t *testing.T) {
	for _, tc := range []struct{ raw, want string }{
		{"/v1/models", "v1"},
		{"/v1", "v1"},
		{"//v1/models", "v1"},
		{"/%76%31/%2e%2e", "v1"},
		{"/v1%2fmodels", "v1"},
		{"/%2Fv1/models", "v1"},
		{`/v1\models`, "v1"},
		{`/\v1/models`, "v1"},
		{"/%5cv1%5cmodels", "v1"},
		{"/v1;a=b/models", "v1"},
		{"/v1%3ba=b/models", "v1"},
		{"/v1%00/models", "v1"},
		{"/v1/%zz", "v1"},
		{"/%76%31/%zz", "v1"},
		{"/v1/%2", "v1"},
		{"/%7", "%7"},
		{"/v1%", "v1%"},
		{"/%2576%2531", "%76%31"}, // decoded once
		{"/V1/models", "V1"},
		{"/x/../v1", "x"},
		{"/", ""},
		{"", ""},
		{"///", ""},
		{"*", "*"},
	} {
		if got := provider.FirstSegment(tc.raw); got != tc.want {
			t.Errorf("FirstSegment(%q) = %q, want %q", tc.raw, got, tc.want)
		}
	}
}

// checkCanonical holds what every canonical path promises.
func checkCanonical(t interface {
	Helper()
	Fatalf(string, ...any)
}, raw string) {
	t.Helper()
	path, ok := provider.CanonicalPath(raw)
	if !ok {
		if path != "" {
			t.Fatalf("CanonicalPath(%q) is refused, but gives %q", raw, path)
		}
		return
	}
	if again, ok := provider.CanonicalPath(path); !ok || again != path {
		t.Fatalf("CanonicalPath(%q) = %q, whose own form is %q, %v", raw, path, again, ok)
	}
	decoded, err := url.PathUnescape(path)
	if err != nil {
		t.Fatalf("CanonicalPath(%q) = %q does not decode: %v", raw, path, err)
	}
	for _, p := range []string{path, decoded} {
		if !strings.HasPrefix(p, "/") || strings.Contains(p, "//") || strings.ContainsAny(p, ";\\\x00") ||
			strings.Contains(p+"/", "/../") || strings.Contains(p+"/", "/./") {
			t.Fatalf("CanonicalPath(%q) = %q, which can be read as %q", raw, path, p)
		}
	}
	if strings.Contains(decoded, "%") {
		t.Fatalf("CanonicalPath(%q) = %q, which decodes twice", raw, path)
	}
	if strings.Count(decoded, "/") != strings.Count(path, "/") {
		t.Fatalf("CanonicalPath(%q) = %q hides a slash", raw, path)
	}
	if direct, err := url.PathUnescape(raw); err != nil || collapse(direct) != decoded {
		t.Fatalf("CanonicalPath(%q) = %q means %q, not %q", raw, path, decoded, direct)
	}
	segment, _, _ := strings.Cut(decoded[1:], "/")
	if got := provider.FirstSegment(raw); got != segment {
		t.Fatalf("FirstSegment(%q) = %q, but that of its canonical form is %q", raw, got, segment)
	}
}

func collapse(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	return path
}

func TestCanonicalPathKeepsItsPromises(t *testing.T) {
	piece := rapid.OneOf(
		rapid.SampledFrom([]string{"/", "//", ".", "..", "/../", "%2e", "%2E", "%2f", "%25", "%5c", "%3b", ";", "\\", "%", "%4", "%7e", "%3A", ":", "v1", "é", "\x00", "%00", "{", " "}),
		rapid.StringN(0, 3, -1),
	)
	rapid.Check(t, func(t *rapid.T) {
		checkCanonical(t, "/"+strings.Join(rapid.SliceOfN(piece, 0, 8).Draw(t, "pieces"), ""))
	})
}

func FuzzCanonicalPath(f *testing.F) {
	for _, seed := range []string{
		"/v1/chat/completions", "/v1/../x", "/%2e%2e/", "/%252e", "//", "/%2F", "/%5c", `/\`, "/;", "/%3b", "/\x00", "/é",
		"/%c3%a9", "/V1", "/%7e", "/%3a", "/v1/", "/%", "/%2", "/{a}", "/a!b", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) { checkCanonical(t, raw) })
}
