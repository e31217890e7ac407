package httpcache_test

import (
	"slices"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
)

func TestDirectives(t *testing.T) {
	t.Parallel()
	type ds = []httpcache.Directive
	for name, test := range map[string]struct {
		lines []string
		want  ds
	}{
		"RFC 9111, 5.2":                  {[]string{"max-age=60, No-Store"}, ds{{Name: "max-age", Arg: "60", HasArg: true}, {Name: "No-Store"}}},
		"RFC 9110, 5.3: lines are one":   {[]string{"public", "no-store"}, ds{{Name: "public"}, {Name: "no-store"}}},
		"RFC 9110, 5.6.1: empty members": {[]string{",, public ,\t,", ""}, ds{{Name: "public"}}},
		"5.2: both forms":                {[]string{`max-age="60"`}, ds{{Name: "max-age", Arg: "60", HasArg: true}}},
		"commas in quotes":               {[]string{`no-cache="a, b", x`}, ds{{Name: "no-cache", Arg: "a, b", HasArg: true}, {Name: "x"}}},
		"escaped quotes":                 {[]string{`x="a\", no-store, \"b", y`}, ds{{Name: "x", Arg: `a\", no-store, \"b`, HasArg: true}, {Name: "y"}}},
		"no end of the quotes":           {[]string{`x="a, no-store`, "public"}, ds{{Name: "x", HasArg: true, Bad: true}, {Name: "public"}}},
		"space around =":                 {[]string{"max-age =60, max-age= 60"}, ds{{Name: "max-age", Arg: "60", HasArg: true, Bad: true}, {Name: "max-age", Arg: " 60", HasArg: true, Bad: true}}},
		"something behind quotes":        {[]string{`max-age="60"0, public`}, ds{{Name: "max-age", Arg: "60", HasArg: true, Bad: true}, {Name: "public"}}},
		"quotes in a token":              {[]string{`a=b"c,d", public`}, ds{{Name: "a", Arg: `b"c`, HasArg: true, Bad: true}, {Name: "public"}}},
		"a quoted name":                  {[]string{`"no-store", public`}, ds{{Bad: true}, {Name: "public"}}},
		"nothing behind =":               {[]string{"max-age=, public"}, ds{{Name: "max-age", HasArg: true, Bad: true}, {Name: "public"}}},
		"semicolons separate nothing":    {[]string{"max-age=60;public"}, ds{{Name: "max-age", Arg: "60;public", HasArg: true}}},
		"nothing":                        {nil, nil},
	} {
		if got := httpcache.Directives(test.lines); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q\n got %+v\nwant %+v", name, test.lines, got, test.want)
		}
	}
}

// RFC 9111, 1.2.2.
func TestDeltaSeconds(t *testing.T) {
	t.Parallel()
	const most = (1 << 31) * time.Second
	for s, want := range map[string]time.Duration{
		"0": 0, "1": time.Second, "003600": time.Hour, "2147483647": most - time.Second, "2147483648": most,
		"2147483649": most, "9223372036854775808": most, "99999999999999999999999999": most,
	} {
		if got, ok := httpcache.DeltaSeconds(s); !ok || got != want {
			t.Errorf("%q: %v %v, want %v", s, got, ok, want)
		}
	}
	for _, s := range []string{"", "-1", "+1", "1.0", "1e3", "0x10", " 1", "1 ", "'60'", "60s", "６"} {
		if got, ok := httpcache.DeltaSeconds(s); ok {
			t.Errorf("%q: %v, want none", s, got)
		}
	}
}
