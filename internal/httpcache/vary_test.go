package httpcache_test

import (
	"bytes"
	"net/http"
	"slices"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
)

// RFC 9110, 12.5.5.
func TestParseVary(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		lines lines
		want  []string
		star  bool
	}{
		{nil, nil, false},
		{lines{""}, nil, false},
		{lines{"accept"}, []string{"Accept"}, false},
		{lines{"Origin, Accept-Encoding", "accept-encoding"}, []string{"Accept-Encoding", "Origin"}, false},
		{lines{" , b,\ta ,"}, []string{"A", "B"}, false},
		{lines{"*"}, nil, true},
		{lines{"*, *"}, nil, true},
		{lines{"", "*"}, nil, true},
		{lines{"Foo, *"}, nil, true},
		{lines{"*, Foo"}, nil, true},
		{lines{"Foo Bar"}, nil, true},
		{lines{`"Foo"`}, nil, true},
	} {
		got, star := httpcache.ParseVary(test.lines)
		if !slices.Equal(got, test.want) || star != test.star {
			t.Errorf("%q: %q %v", test.lines, got, star)
		}
	}
}

// RFC 9111, 4.1.
func TestAppendVariant(t *testing.T) {
	t.Parallel()
	vary := []string{"A", "B"}
	for _, test := range []struct {
		name string
		a, b http.Header
		want bool
	}{
		{"the same", header("A: 1"), header("A: 1"), true},
		{"not in it", header("A: 1", "C: 1"), header("A: 1", "C: 2"), true},
		{"another value", header("A: 1"), header("A: 2"), false},
		{"missing", header("A: 1"), header(), false},
		{"missing is not empty", header("A:"), header(), false},
		{"another field", header("A: 1"), header("B: 1"), false},
		{"values change places", header("A: 1", "B: 2"), header("A: 2", "B: 1"), false},
		{"combined", header("A: 1", "A: 2"), header("A: 1, 2"), true},
		{"space around commas", header("A: 1 ,\t2"), header("A: 1,2"), true},
		{"space elsewhere", header("A: 1 2"), header("A: 12"), false},
		{"space in quotes", header(`A: "1, 2"`), header(`A: "1,2"`), false},
		{"quotes in quotes", header(`A: "\", 2"`), header(`A: "\",2"`), false},
		{"order counts", header("A: 1, 2"), header("A: 2, 1"), false},
		{"case counts", header("A: x"), header("A: X"), false},
		{"one looks like two", header("A: 1", "B: 2"), header("A: 1,B: 2"), false},
	} {
		a, b := httpcache.AppendVariant(nil, vary, test.a), httpcache.AppendVariant(nil, vary, test.b)
		if bytes.Equal(a, b) != test.want {
			t.Errorf("%s: %q %q", test.name, a, b)
		}
	}
	if got := httpcache.AppendVariant([]byte("key"), nil, header("A: 1")); !bytes.HasPrefix(got, []byte("key")) || len(got) != 4 {
		t.Errorf("%q", got)
	}
	if !slices.IsSorted(httpcache.Implied) {
		t.Error("Implied is not sorted")
	}
	for _, name := range httpcache.Implied {
		if name != http.CanonicalHeaderKey(name) {
			t.Errorf("%s is not canonical", name)
		}
	}
}
