package httpcache_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
)

var numbers = rapid.SampledFrom([]string{"0", "1", "30", "60", "3600", "99999999999", "x", "-1", `"60"`})

// some draws a Cache-Control of a few directives on a few lines.
func some(names ...string) *rapid.Generator[[]string] {
	one := rapid.Custom(func(t *rapid.T) string {
		name := rapid.SampledFrom(names).Draw(t, "name")
		if bare, ok := strings.CutSuffix(name, "="); ok {
			return bare + "=" + numbers.Draw(t, "number")
		}
		return name
	})
	return rapid.SliceOfN(one, 0, 4)
}

var (
	responses = some("max-age=", "max-age=", "s-maxage=", "no-store", "no-cache", `no-cache="a"`, "private", "public", "must-revalidate",
		"proxy-revalidate", "stale-if-error=", "stale-while-revalidate=", "x")
	requests = some("max-age=", "s-maxage=", "max-stale=", "max-stale", "min-fresh=", "no-cache", "no-store", "only-if-cached", "public", "stale-if-error=")
	methods  = rapid.SampledFrom([]string{"GET", "GET", "POST", "POST", "HEAD"})
	after    = rapid.Int64Range(0, 4000)
)

func drawRules(t *rapid.T) *httpcache.Rules {
	return &httpcache.Rules{
		Mode:  httpcache.Mode(rapid.IntRange(0, 2).Draw(t, "mode")),
		Scope: httpcache.Scope(rapid.IntRange(0, 2).Draw(t, "scope")),
		TTL:   5 * time.Minute, StaleIfError: time.Minute, StaleWhileRevalidate: time.Duration(rapid.IntRange(0, 1).Draw(t, "swr")) * time.Minute,
	}
}

func has(lines []string, directive string) bool {
	return strings.Contains(","+strings.Join(lines, ",")+",", ","+directive)
}

// TestNeverAgainstItsWill: whatever a response and a request say, an answer comes
// out of the cache only if neither forbids it.
func TestNeverAgainstItsWill(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rules := drawRules(t)
		said, first, asks := responses.Draw(t, "response"), requests.Draw(t, "first"), requests.Draw(t, "request")
		method := methods.Draw(t, "method")
		r1 := httpcache.NewRequest(method, http.Header{"Cache-Control": first})
		v := httpcache.Consider(&r1, 200, http.Header{"Cache-Control": said, "Etag": {`"a"`}}, noon, noon, rules)
		if !v.Store {
			return
		}
		if rules.Mode == httpcache.Off || method == "HEAD" || has(said, "no-store") || has(first, "no-store") || has(said, "private") && rules.Scope != httpcache.Token {
			t.Fatalf("stored %+v", v.Meta)
		}
		if method == "GET" && rules.Scope == httpcache.Shared && !has(said, "public") && !has(said, "must-revalidate") && !has(said, "s-maxage") {
			t.Fatalf("shared %+v", v.Meta)
		}
		if method == "POST" && v.Meta.Lifetime > rules.TTL {
			t.Fatalf("kept for %v", v.Meta.Lifetime)
		}
		r2 := httpcache.NewRequest(method, http.Header{"Cache-Control": asks})
		now := noon.Add(time.Duration(after.Draw(t, "after")) * time.Second)
		d := httpcache.Evaluate(&r2, &v.Meta, now, rules)
		onError := httpcache.UseOnError(&r2, &v.Meta, 0, now, rules)
		if has(asks, "only-if-cached") && d.Action != httpcache.Answer && d.Action != httpcache.Timeout {
			t.Fatalf("sent on: %+v", d)
		}
		if d.Action != httpcache.Answer && !onError {
			return
		}
		stale := v.Meta.TTL(now) <= 0
		if d.Action == httpcache.Answer && d.Stale != stale {
			t.Fatalf("%+v is stale: %v", d, stale)
		}
		if has(asks, "no-store") || has(asks, "no-cache") {
			t.Fatalf("answered %q", asks)
		}
		if stale && (has(said, "must-revalidate") || has(said, "proxy-revalidate") || has(said, "s-maxage")) || has(said, "no-cache,") {
			t.Fatalf("answered with %q after %v", said, now.Sub(noon))
		}
	})
}

// TestMetaSerialises: a store may write it down.
func TestMetaSerialises(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		req := httpcache.NewRequest("GET", nil)
		v := httpcache.Consider(&req, 200, http.Header{"Cache-Control": append(responses.Draw(t, "cc"), "stale-if-error=9"), "Vary": {"b, a"}, "Etag": {"x"}}, noon, time.Now(), &project)
		if !v.Store {
			return
		}
		b, err := json.Marshal(v.Meta)
		if err != nil {
			t.Fatal(err)
		}
		var got httpcache.Meta
		if err := json.Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, v.Meta) {
			t.Fatalf("%v: %s", err, b)
		}
	})
}

// TestVariantsAreTold: requests of one variant have the same fields, and requests
// with the same fields are of one variant, however these are written.
func TestVariantsAreTold(t *testing.T) {
	t.Parallel()
	value := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "", "a b", `"x"`, `"x,y"`, "\x00", "\x01A", "Foo"}), 1, 3)
	head := rapid.Custom(func(t *rapid.T) map[string][]string {
		out := map[string][]string{}
		for _, name := range []string{"A", "B"} {
			if rapid.Bool().Draw(t, name) {
				out[name] = value.Draw(t, "members")
			}
		}
		return out
	})
	write := func(t *rapid.T, members map[string][]string) http.Header {
		h := http.Header{}
		for name, all := range members {
			h[name] = []string{all[0]}
			for _, m := range all[1:] {
				last := len(h[name]) - 1
				switch rapid.IntRange(0, 2).Draw(t, "separator") {
				case 0:
					h[name] = append(h[name], m)
				case 1:
					h[name][last] += "," + m
				default:
					h[name][last] += " ,\t" + m
				}
			}
		}
		return h
	}
	rapid.Check(t, func(t *rapid.T) {
		x, y := head.Draw(t, "x"), head.Draw(t, "y")
		vary := []string{"A", "B"}
		a, b := httpcache.AppendVariant(nil, vary, write(t, x)), httpcache.AppendVariant(nil, vary, write(t, y))
		// An empty member and none at the end of a list are not the same text.
		if bytes.Equal(a, b) != reflect.DeepEqual(x, y) {
			t.Fatalf("%q %q: %q %q", x, y, a, b)
		}
	})
}
