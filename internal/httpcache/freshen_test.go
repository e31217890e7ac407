package httpcache_test

import (
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
)

// RFC 9111, 3.2, 4.3.3 and 4.3.4.
func TestFreshen(t *testing.T) {
	t.Parallel()
	m := stored(t, &project, get(), "Cache-Control: max-age=60", `ETag: "a"`, "Content-Type: text/plain", "Content-Length: 5",
		"Content-Language: en", "Age: 30", "X-Frame-Options: deny")
	later := noon.Add(10 * time.Minute)
	fresh := header("Date: Fri, 01 May 2026 12:10:00 GMT", "Cache-Control: max-age=120", `ETag: "a"`, "Content-Type: text/html",
		"Content-Length: 0", "Content-Encoding: gzip", "Content-Range: bytes 0-1/2", "Connection: content-language", "Content-Language: de",
		"Set-Cookie: sid=1", "X-Request-Id: 2", "X-Ratelimit-Remaining-Requests: 3")
	v, ok := httpcache.Freshen(get(), m, fresh, later, later, &project)
	if !ok || !v.Store {
		t.Fatalf("%v %s", ok, v.Reason)
	}
	want := header("Date: Fri, 01 May 2026 12:10:00 GMT", "Cache-Control: max-age=120", `ETag: "a"`, "Content-Type: text/html",
		"Content-Length: 5", "Content-Language: en", "X-Frame-Options: deny")
	if !equal(v.Meta.Header, want) {
		t.Errorf("%v\nwant %v", v.Meta.Header, want)
	}
	if v.Meta.Age(later) != 0 || v.Meta.TTL(later) != 2*time.Minute {
		t.Errorf("age %v, fresh for %v", v.Meta.Age(later), v.Meta.TTL(later))
	}
	if m.Header.Get("Content-Type") != "text/plain" || m.Lifetime != time.Minute {
		t.Error("the stored response was changed")
	}
}

func TestFreshenSelects(t *testing.T) {
	t.Parallel()
	const cc, date = "Cache-Control: max-age=60", "Last-Modified: Fri, 01 May 2026 10:00:00 GMT"
	for _, test := range []struct {
		name   string
		stored lines
		fresh  lines
		want   bool
	}{
		{"the same strong tag", lines{`ETag: "a"`}, lines{`ETag: "a"`}, true},
		{"another", lines{`ETag: "a"`}, lines{`ETag: "b"`}, false},
		{"none: it can mean nothing else", lines{`ETag: "a"`}, nil, true},
		{"weak of strong", lines{`ETag: "a"`}, lines{`ETag: W/"a"`}, true},
		{"strong of weak", lines{`ETag: W/"a"`}, lines{`ETag: "a"`}, false},
		{"two", lines{`ETag: "a"`}, lines{`ETag: "a"`, `ETag: "b"`}, false},
		{"unquoted, the same", lines{"ETag: a"}, lines{"ETag: a"}, true},
		{"unquoted, another", lines{"ETag: a"}, lines{"ETag: b"}, false},
		{"a tag for what has none", lines{date}, lines{`ETag: "a"`}, false},
		{"the same date", lines{date}, lines{date}, true},
		{"another date", lines{date}, lines{"Last-Modified: Fri, 01 May 2026 10:00:01 GMT"}, false},
	} {
		m := stored(t, &project, get(), append(test.stored, cc)...)
		if _, ok := httpcache.Freshen(get(), m, header(append(test.fresh, cc)...), noon, noon, &project); ok != test.want {
			t.Errorf("%s: %v", test.name, ok)
		}
	}
	post := request("POST", "Cache-Control: max-age=60")
	if _, ok := httpcache.Freshen(post, stored(t, &project, post, `ETag: "a"`), header(), noon, noon, &project); ok {
		t.Error("the answer to a POST was revalidated")
	}
}

// A 304 may say that what is stored is not to be kept: it answers once more.
func TestFreshenToNothing(t *testing.T) {
	t.Parallel()
	m := stored(t, &project, get(), "Cache-Control: max-age=60", `ETag: "a"`)
	for _, cc := range []string{"no-store", "private", "max-age=60, no-store"} {
		v, ok := httpcache.Freshen(get(), m, header("Cache-Control: "+cc), noon, noon, &project)
		if !ok || v.Store || v.Meta.Status != 200 || v.Meta.Header.Get("Cache-Control") != cc {
			t.Errorf("%s: %v %+v", cc, ok, v)
		}
	}
	if v, ok := httpcache.Freshen(get(), m, header("Vary: *"), noon, noon, &project); !ok || v.Store {
		t.Errorf("stored, %v", v.Reason)
	}
}

// RFC 9111, 4.3.5.
func TestFreshenHead(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		head lines
		want bool
	}{
		{"the same", lines{`ETag: "a"`, "Content-Length: 5"}, true},
		{"nothing to tell by", nil, true},
		{"another tag", lines{`ETag: "b"`}, false},
		{"another length", lines{`ETag: "a"`, "Content-Length: 6"}, false},
	} {
		m := stored(t, &project, get(), "Cache-Control: max-age=60", `ETag: "a"`, "Content-Length: 5")
		later := noon.Add(time.Hour)
		v, ok := httpcache.FreshenHead(request("HEAD"), m, header(append(test.head, "Cache-Control: max-age=90")...), later, later, &project)
		if ok != test.want || ok && (!v.Store || v.Meta.TTL(later) != 90*time.Second || v.Meta.Method != "GET") {
			t.Errorf("%s: %v %+v", test.name, ok, v)
		}
	}
}
