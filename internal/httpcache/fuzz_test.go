package httpcache_test

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
)

func FuzzDirectives(f *testing.F) {
	for _, s := range []string{"max-age=60, no-store", `no-cache="a, b"`, `x="\"`, `"`, "a=b\"c,d", "=,", "max-age", "no-cache, max-age=0\nprivate"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, d := range httpcache.Directives(strings.Split(s, "\n")) {
			if !strings.Contains(s, d.Name) || !strings.Contains(s, d.Arg) || strings.ContainsAny(d.Name, "=,\"") || d.Name == "" && !d.Bad && !d.HasArg {
				t.Fatalf("%+v of %q", d, s)
			}
		}
		// What a line says does not depend on whether others are on lines of their own,
		// unless it leaves quotes open.
		if !strings.Contains(s, `"`) {
			together := httpcache.Directives([]string{strings.ReplaceAll(s, "\n", ",")})
			if apart := httpcache.Directives(strings.Split(s, "\n")); !slices.Equal(together, apart) {
				t.Fatalf("%q: %+v, %+v", s, together, apart)
			}
		}
		// A no-store that is a line of its own is seen, whatever is before it.
		v := httpcache.Consider(get(), 200, http.Header{"Cache-Control": append(strings.Split(s, "\n"), "no-store")}, noon, noon, &project)
		if v.Reason != httpcache.ReasonRespNoStore {
			t.Fatalf("stored %v (%s) after %q", v.Store, v.Reason, s)
		}
	})
}

func FuzzETags(f *testing.F) {
	for _, s := range []string{`"a"`, `W/"a", "b"`, "*", `"a`, `a, "b"`, `"a""b"`, "\"\x7f\""} {
		f.Add(s, `"a"`)
	}
	f.Fuzz(func(t *testing.T, list, etag string) {
		got := httpcache.Matches([]string{list}, etag)
		opaque, _, rest, ok := httpcache.CutETag(etag)
		if got && strings.Trim(list, " \t") != "*" && (!ok || rest != "" || !strings.Contains(list, opaque)) {
			t.Fatalf("%q has %q", list, etag)
		}
		if ok && rest == "" && !httpcache.Matches([]string{list, `"x", ` + etag}, etag) {
			t.Fatalf("%q is not found on a line of its own", etag)
		}
	})
}

func FuzzVary(f *testing.F) {
	f.Add("Accept, Origin", "a, b", "c")
	f.Add(" ,*", `"a, b`, "")
	f.Add("a\nB", "1", "1")
	f.Fuzz(func(t *testing.T, s, one, other string) {
		lines := strings.Split(s, "\n")
		names, star := httpcache.ParseVary(lines)
		if star && names != nil || !star && strings.Contains(s, "*") && !strings.ContainsAny(s, "!#$%&'+-.^_`|~") && len(names) == 0 {
			t.Fatalf("%q: %q %v", s, names, star)
		}
		if again, _ := httpcache.ParseVary([]string{strings.Join(names, ", ")}); !slices.Equal(again, names) {
			t.Fatalf("%q: %q, read again %q", s, names, again)
		}
		if len(names) == 0 {
			return
		}
		a := httpcache.AppendVariant(nil, names, http.Header{names[0]: {one}})
		b := httpcache.AppendVariant(nil, names, http.Header{names[0]: {other}})
		squeeze := strings.NewReplacer(" ", "", "\t", "")
		if bytes.Equal(a, b) && squeeze.Replace(one) != squeeze.Replace(other) {
			t.Fatalf("%q and %q are one variant", one, other)
		}
		if one == other && !bytes.Equal(a, b) {
			t.Fatalf("%q is two variants", one)
		}
	})
}

func FuzzDate(f *testing.F) {
	for _, s := range []string{"Fri, 01 May 2026 12:00:00 GMT", "Friday, 01-May-26 12:00:00 GMT", "Fri May  1 12:00:00 2026", "0", "-1", "Fri, 31 Feb 2026 12:00:00 GMT", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		at, ok := httpcache.ParseDate([]string{s})
		if !ok {
			if v := httpcache.Consider(get(), 200, http.Header{"Expires": {s}}, noon, noon, &project); v.Store {
				t.Fatalf("Expires: %q gives a lifetime of %v", s, v.Meta.Lifetime)
			}
			return
		}
		if again, ok := httpcache.ParseDate([]string{at.Format(http.TimeFormat)}); at.Year() > 0 && (!ok || !again.Equal(at)) {
			t.Fatalf("%q is %v, read again %v", s, at, again)
		}
		v := httpcache.Consider(get(), 200, http.Header{"Expires": {s}, "Date": {"Fri, 01 May 2026 12:00:00 GMT"}}, noon, noon, &project)
		if v.Store != at.After(noon) || v.Store && v.Meta.Lifetime != min(at.Sub(noon), (1<<31)*time.Second) {
			t.Fatalf("Expires: %q is stored %v for %v", s, v.Store, v.Meta.Lifetime)
		}
	})
}
