package respcache_test

import (
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

func TestSelectorMatches(t *testing.T) {
	t.Parallel()
	key := respcache.Key{7}
	tags := respcache.Tags{Provider: "openai", Project: "p1", Model: "gpt-4o", Method: "GET", Path: "/v1/files/a", Query: "limit=1"}
	for _, tc := range []struct {
		sel  respcache.Selector
		want bool
	}{
		{respcache.Selector{By: respcache.ByKey, Value: key.String()}, true},
		{respcache.Selector{By: respcache.ByKey, Value: respcache.Key{8}.String()}, false},
		{respcache.Selector{By: respcache.ByURL, Value: "/v1/files/a?limit=1"}, true},
		{respcache.Selector{By: respcache.ByURL, Value: respcache.NormalizeURL("https://proxy.example.com/v1/files/a?limit=1")}, true},
		{respcache.Selector{By: respcache.ByURL, Value: "/v1/files/a?limit=1", Method: "get"}, true},
		{respcache.Selector{By: respcache.ByURL, Value: "/v1/files/a?limit=1", Method: "POST"}, false},
		{respcache.Selector{By: respcache.ByURL, Value: "/v1/files/a"}, false},
		{respcache.Selector{By: respcache.ByURL, Value: "/v1/files/a?limit=10"}, false},
		{respcache.Selector{By: respcache.ByPrefix, Value: "/v1/"}, true},
		{respcache.Selector{By: respcache.ByPrefix, Value: "/v2/"}, false},
		{respcache.Selector{By: respcache.ByPattern, Value: "/v1/*/a"}, true},
		{respcache.Selector{By: respcache.ByPattern, Value: "/v1/*/b"}, false},
		{respcache.Selector{By: respcache.ByProject, Value: "p1"}, true},
		{respcache.Selector{By: respcache.ByProject, Value: "p"}, false},
		{respcache.Selector{By: respcache.ByModel, Value: "gpt-4o"}, true},
		{respcache.Selector{By: respcache.ByModel, Value: "gpt-4o-mini"}, false},
		{respcache.Selector{By: respcache.ByAll}, true},
		{respcache.Selector{}, false},
	} {
		if got := tc.sel.Matches(&key, &tags); got != tc.want {
			t.Errorf("%+v: %t", tc.sel, got)
		}
		if tc.sel.By == 0 {
			continue
		}
		text, err := tc.sel.MarshalText()
		var back respcache.Selector
		if err != nil || back.UnmarshalText(text) != nil || back != tc.sel {
			t.Errorf("%+v becomes %s, which becomes %+v: %v", tc.sel, text, back, err)
		}
	}
}

func TestSelectorCheck(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		sel  respcache.Selector
		want string
	}{
		{respcache.Selector{}, "exactly one of"},
		{respcache.Selector{By: 99, Value: "x"}, "exactly one of"},
		{respcache.Selector{By: respcache.ByAll, Value: "x"}, "exactly one of"},
		{respcache.Selector{By: respcache.ByPrefix}, "say all"},
		{respcache.Selector{By: respcache.ByProject}, "say all"},
		{respcache.Selector{By: respcache.ByModel, Value: "m", Method: "GET"}, "url alone"},
		{respcache.Selector{By: respcache.ByKey, Value: "abc"}, "64 hexadecimal"},
		{respcache.Selector{By: respcache.ByURL, Value: "v1"}, "slash"},
		{respcache.Selector{By: respcache.ByPrefix, Value: "v1"}, "slash"},
		{respcache.Selector{By: respcache.ByModel, Value: strings.Repeat("m", 2049)}, "2048"},
	} {
		if err := tc.sel.Check(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %q", tc.sel, err, tc.want)
		}
		if _, err := tc.sel.MarshalText(); err == nil {
			t.Errorf("%+v is told others", tc.sel)
		}
	}
	longest := respcache.Selector{By: respcache.ByURL, Value: "/" + strings.Repeat("v", 2047), Method: strings.Repeat("M", 32)}
	text, err := longest.MarshalText()
	if err != nil || len(text) > 4000 {
		t.Errorf("the longest one takes %d bytes, %v", len(text), err)
	}
}

// FuzzSelector: what is read is a selector that is written the same way.
func FuzzSelector(f *testing.F) {
	for _, sel := range []respcache.Selector{{By: respcache.ByAll}, {By: respcache.ByURL, Value: "/v1?x", Method: "GET"}, {By: respcache.ByProject, Value: "p"}} {
		text, err := sel.MarshalText()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("all ."))
	f.Add([]byte("model bQ\n.")) // base64 decoders skip line ends
	f.Fuzz(func(t *testing.T, text []byte) {
		sel := respcache.Selector{By: respcache.ByModel, Value: "untouched"}
		if err := sel.UnmarshalText(text); err != nil {
			if sel.Value != "untouched" {
				t.Fatalf("%q is no selector, and was read", text)
			}
			return
		}
		again, err := sel.MarshalText()
		if err != nil || string(again) != string(text) {
			t.Fatalf("%q is %+v, which is %q, %v", text, sel, again, err)
		}
	})
}
