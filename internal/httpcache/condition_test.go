package httpcache_test

import (
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
)

// RFC 9110, 13.1.2 and 13.1.3; RFC 9111, 4.3.2.
func TestNotModified(t *testing.T) {
	t.Parallel()
	both := lines{`ETag: "abc"`, "Last-Modified: Fri, 01 May 2026 10:00:00 GMT"}
	weak := lines{`ETag: W/"abc"`}
	for _, test := range []struct {
		name   string
		method string
		req    lines
		stored lines
		want   bool
	}{
		{"the tag", "GET", lines{`If-None-Match: "abc"`}, both, true},
		{"HEAD", "HEAD", lines{`If-None-Match: "abc"`}, both, true},
		{"another tag", "GET", lines{`If-None-Match: "abd"`}, both, false},
		{"weak is as good", "GET", lines{`If-None-Match: W/"abc"`}, both, true},
		{"and the other way", "GET", lines{`If-None-Match: "abc"`}, weak, true},
		{"in a list", "GET", lines{`If-None-Match: "x", W/"y,z" ,"abc"`}, both, true},
		{"on another line", "GET", lines{`If-None-Match: "x"`, `If-None-Match: "abc"`}, both, true},
		{"inside of another", "GET", lines{`If-None-Match: "x,abc"`}, both, false},
		{"anything", "GET", lines{"If-None-Match: *"}, both, true},
		{"anything, without a tag", "GET", lines{"If-None-Match: *"}, nil, true},
		{"* is no tag of a list", "GET", lines{`If-None-Match: "x", *`}, both, false},
		{"no tag stored", "GET", lines{`If-None-Match: "abc"`}, lines{both[1]}, false},
		{"unquoted", "GET", lines{"If-None-Match: abc"}, both, false},
		{"lower case w", "GET", lines{`If-None-Match: w/"abc"`}, both, false},
		{"behind something malformed", "GET", lines{`If-None-Match: x, "abc"`}, both, false},
		{"not modified", "GET", lines{"If-Modified-Since: Fri, 01 May 2026 10:00:00 GMT"}, both, true},
		{"modified", "GET", lines{"If-Modified-Since: Fri, 01 May 2026 09:59:59 GMT"}, both, false},
		{"RFC 850's date", "GET", lines{"If-Modified-Since: Friday, 01-May-26 10:00:00 GMT"}, both, true},
		{"asctime's date", "GET", lines{"If-Modified-Since: Fri May  1 10:00:00 2026"}, both, true},
		{"no date", "GET", lines{"If-Modified-Since: yesterday"}, both, false},
		{"two dates", "GET", lines{"If-Modified-Since: Fri, 01 May 2026 11:00:00 GMT", "If-Modified-Since: Fri, 01 May 2026 11:00:00 GMT"}, both, false},
		{"the tag first", "GET", lines{`If-None-Match: "x"`, "If-Modified-Since: Fri, 01 May 2026 11:00:00 GMT"}, both, false},
		{"by Date, without Last-Modified", "GET", lines{"If-Modified-Since: Fri, 01 May 2026 12:00:00 GMT"}, nil, true},
		{"by Date, earlier", "GET", lines{"If-Modified-Since: Fri, 01 May 2026 11:59:59 GMT"}, nil, false},
		{"no condition", "GET", nil, both, false},
	} {
		m := stored(t, &project, get(), append(lines{"Cache-Control: max-age=60"}, test.stored...)...)
		req := request(test.method, test.req...)
		if got := httpcache.NotModified(req, m); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
		d := httpcache.Evaluate(req, m, noon.Add(time.Second), &project)
		if d.Action != httpcache.Answer || d.NotModified != test.want {
			t.Errorf("%s: evaluated as %+v", test.name, d)
		}
	}
}

// RFC 9111, 4.3.1.
func TestSetConditions(t *testing.T) {
	t.Parallel()
	out := header(`If-None-Match: "client's"`, "If-Modified-Since: Fri, 01 May 2026 11:00:00 GMT", "Accept: */*")
	m := stored(t, &project, get(), "Cache-Control: max-age=60", `ETag: W/"abc"`)
	httpcache.SetConditions(out, m)
	if want := header("Accept: */*", `If-None-Match: W/"abc"`); !equal(out, want) {
		t.Errorf("%v, want %v", out, want)
	}
	m = stored(t, &project, get(), "Cache-Control: max-age=60", "Last-Modified: Fri, 01 May 2026 10:00:00 GMT")
	httpcache.SetConditions(out, m)
	if want := header("Accept: */*", "If-Modified-Since: Fri, 01 May 2026 10:00:00 GMT"); !equal(out, want) {
		t.Errorf("%v, want %v", out, want)
	}
	httpcache.ClearConditions(out)
	if want := header("Accept: */*"); !equal(out, want) {
		t.Errorf("%v, want %v", out, want)
	}
}

// RFC 9110, 15.4.5, and Age.
func TestCopyNotModified(t *testing.T) {
	t.Parallel()
	m := stored(t, &project, get(), "Cache-Control: max-age=60", `ETag: "a"`, "Vary: Accept", "Content-Type: text/plain", "Content-Length: 5", "Expires: 0")
	h := http.Header{}
	m.CopyNotModified(h, noon.Add(7*time.Second+900*time.Millisecond))
	want := dated("Cache-Control: max-age=60", `ETag: "a"`, "Vary: Accept", "Expires: 0", "Age: 7")
	if !equal(h, want) {
		t.Errorf("%v, want %v", h, want)
	}
	m.CopyHeader(h, noon.Add(9*time.Second))
	want.Set("Age", "9")
	want.Set("Content-Type", "text/plain")
	want.Set("Content-Length", "5")
	if !equal(h, want) {
		t.Errorf("%v, want %v", h, want)
	}
}

func equal(a, b http.Header) bool { return maps.EqualFunc(a, b, slices.Equal[[]string]) }
