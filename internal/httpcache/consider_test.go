package httpcache_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
)

type lines = []string

const (
	optIn  = httpcache.OptIn
	always = httpcache.Always
)

// TestStorable: what may be stored, in which scope, and for how long.
func TestStorable(t *testing.T) {
	t.Parallel()
	none := httpcache.ReasonNone
	for _, test := range []struct {
		name     string
		mode     httpcache.Mode
		scope    httpcache.Scope
		method   string
		req      lines
		status   int
		resp     lines
		reason   httpcache.Reason
		lifetime time.Duration
	}{
		{"3: explicit freshness", optIn, httpcache.Project, "GET", nil, 200, lines{"Cache-Control: max-age=60"}, none, time.Minute},
		{"4.2.2: nothing is guessed", optIn, httpcache.Project, "GET", nil, 200, lines{"Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT"}, httpcache.ReasonNoLifetime, 0},
		{"3: public is no freshness", optIn, httpcache.Project, "GET", nil, 200, lines{"Cache-Control: public"}, httpcache.ReasonNoLifetime, 0},
		{"cache off", httpcache.Off, httpcache.Project, "GET", nil, 200, lines{"Cache-Control: max-age=60"}, httpcache.ReasonOff, 0},
		{"a client makes no GET storable", always, httpcache.Project, "GET", lines{"Cache-Control: public, max-age=600"}, 200, nil, httpcache.ReasonNoLifetime, 0},
		{"9110, 9.3.2: HEAD", optIn, httpcache.Project, "HEAD", nil, 200, lines{"Cache-Control: max-age=60"}, httpcache.ReasonMethod, 0},
		{"3: method", always, httpcache.Project, "PUT", lines{"Cache-Control: max-age=60"}, 200, lines{"Cache-Control: max-age=60"}, httpcache.ReasonMethod, 0},
		{"3.3: 206", optIn, httpcache.Project, "GET", lines{"Range: bytes=0-1"}, 206, lines{"Cache-Control: max-age=60"}, httpcache.ReasonStatus, 0},
		{"a whole answer to Range", optIn, httpcache.Project, "GET", lines{"Range: bytes=0-1"}, 200, lines{"Cache-Control: max-age=60"}, none, time.Minute},
		{"304", optIn, httpcache.Project, "GET", lines{`If-None-Match: "a"`}, 304, lines{"Cache-Control: max-age=60"}, httpcache.ReasonStatus, 0},
		{"404", optIn, httpcache.Project, "GET", nil, 404, lines{"Cache-Control: max-age=60"}, httpcache.ReasonStatus, 0},
		{"500", always, httpcache.Project, "POST", nil, 500, nil, httpcache.ReasonStatus, 0},
		{"5.2.1.5: request no-store", optIn, httpcache.Project, "GET", lines{"Cache-Control: No-Store"}, 200, lines{"Cache-Control: max-age=60"}, httpcache.ReasonNoStore, 0},
		{"5.2.2.5: no-store", optIn, httpcache.Token, "GET", nil, 200, lines{"Cache-Control: max-age=60", "Cache-Control: no-store"}, httpcache.ReasonRespNoStore, 0},
		{"5.2.2.3: must-understand lifts no no-store", optIn, httpcache.Token, "GET", nil, 200, lines{"Cache-Control: max-age=60, no-store, must-understand"}, httpcache.ReasonRespNoStore, 0},
		{"5.2.2.7: private", optIn, httpcache.Project, "GET", nil, 200, lines{"Cache-Control: private, max-age=60"}, httpcache.ReasonPrivate, 0},
		{"5.2.2.7: private for a token", optIn, httpcache.Token, "GET", nil, 200, lines{"Cache-Control: private, max-age=60"}, none, time.Minute},
		{"5.2.2.7: qualified private", optIn, httpcache.Project, "GET", nil, 200, lines{`Cache-Control: private="x-a", max-age=60`}, httpcache.ReasonPrivate, 0},
		{"4.1: Vary *", optIn, httpcache.Token, "GET", nil, 200, lines{"Cache-Control: max-age=60", "Vary: *, Foo"}, httpcache.ReasonVaryStar, 0},
		{"4.1: Vary * on a second line", always, httpcache.Token, "POST", nil, 200, lines{"Vary: Foo", "Vary: *"}, httpcache.ReasonVaryStar, 0},
		{"Set-Cookie", optIn, httpcache.Token, "GET", nil, 200, lines{"Cache-Control: max-age=60", "Set-Cookie: session=1"}, httpcache.ReasonSetCookie, 0},
		{"Set-Cookie of a POST", always, httpcache.Project, "POST", nil, 200, lines{"Set-Cookie: __cf_bm=x; Path=/", "Set-Cookie: sid=1"}, httpcache.ReasonSetCookie, 0},
		{"the front's cookies mean nobody", always, httpcache.Project, "POST", nil, 200, lines{"Set-Cookie: __cf_bm=x; Path=/", "Set-Cookie: _cfuvid=y"}, none, 5 * time.Minute},

		{"3.5: shared, nothing said", optIn, httpcache.Shared, "GET", nil, 200, lines{"Cache-Control: max-age=60"}, httpcache.ReasonNotShared, 0},
		{"3.5: public", optIn, httpcache.Shared, "GET", nil, 200, lines{"Cache-Control: max-age=60, public"}, none, time.Minute},
		{"3.5: must-revalidate", optIn, httpcache.Shared, "GET", nil, 200, lines{"Cache-Control: max-age=60, must-revalidate"}, none, time.Minute},
		{"3.5: s-maxage", optIn, httpcache.Shared, "GET", nil, 200, lines{"Cache-Control: s-maxage=60"}, none, time.Minute},
		{"3.5: always is about POST", always, httpcache.Shared, "GET", nil, 200, lines{"Cache-Control: max-age=60"}, httpcache.ReasonNotShared, 0},
		{"3.5: the operator shares POSTs", always, httpcache.Shared, "POST", nil, 200, nil, none, 5 * time.Minute},
		{"3.5: a client keeps its own", optIn, httpcache.Shared, "POST", lines{"Cache-Control: max-age=60"}, 200, nil, httpcache.ReasonNotShared, 0},
		{"3.5: a client shares", optIn, httpcache.Shared, "POST", lines{"Cache-Control: public, max-age=60"}, 200, nil, none, time.Minute},
		{"shared, by credential", optIn, httpcache.Shared, "GET", nil, 200, lines{"Cache-Control: public, max-age=60", "Vary: authorization"}, httpcache.ReasonVaryCred, 0},

		{"POST is not asked for", optIn, httpcache.Project, "POST", nil, 200, lines{"Cache-Control: max-age=60"}, httpcache.ReasonNotAsked, 0},
		{"POST for a minute", optIn, httpcache.Project, "POST", lines{"Cache-Control: max-age=60"}, 200, nil, none, time.Minute},
		{"POST as the predecessor's", optIn, httpcache.Project, "POST", lines{"Cache-Control: public, s-maxage=60"}, 200, nil, none, time.Minute},
		{"POST, both: the smaller", optIn, httpcache.Project, "POST", lines{"Cache-Control: s-maxage=90, max-age=60"}, 200, nil, none, time.Minute},
		{"POST for a year", optIn, httpcache.Project, "POST", lines{"Cache-Control: max-age=31536000"}, 200, nil, none, 5 * time.Minute},
		{"POST for nothing", optIn, httpcache.Project, "POST", lines{"Cache-Control: max-age=0"}, 200, nil, httpcache.ReasonNotAsked, 0},
		{"POST for nonsense", optIn, httpcache.Project, "POST", lines{"Cache-Control: max-age=a"}, 200, nil, httpcache.ReasonNotAsked, 0},
		{"POST, but no-store", optIn, httpcache.Project, "POST", lines{"Cache-Control: max-age=60, no-store"}, 200, nil, httpcache.ReasonNoStore, 0},
		{"POST, provider: no-store", always, httpcache.Token, "POST", lines{"Cache-Control: max-age=60"}, 200, lines{"Cache-Control: no-store"}, httpcache.ReasonRespNoStore, 0},
		{"POST, provider: private", always, httpcache.Project, "POST", nil, 200, lines{"Cache-Control: private"}, httpcache.ReasonPrivate, 0},
		{"POST, provider: no-cache", always, httpcache.Project, "POST", nil, 200, lines{"Cache-Control: no-cache"}, httpcache.ReasonRespNoCache, 0},
		{"POST, a stream's no-cache", always, httpcache.Project, "POST", nil, 200, lines{"Cache-Control: no-cache, no-transform", "Content-Type: text/event-stream; charset=utf-8"}, none, 5 * time.Minute},
		{"GET, a stream's no-cache", optIn, httpcache.Project, "GET", nil, 200, lines{"Cache-Control: no-cache, max-age=60", "Content-Type: text/event-stream"}, httpcache.ReasonNoLifetime, 0},
		{"POST, a shorter life", always, httpcache.Project, "POST", nil, 200, lines{"Cache-Control: max-age=10"}, none, 10 * time.Second},
		{"POST, a longer life", always, httpcache.Project, "POST", nil, 200, lines{"Cache-Control: max-age=86400"}, none, 5 * time.Minute},
		{"POST, no life", always, httpcache.Project, "POST", nil, 200, lines{"Cache-Control: max-age=0"}, httpcache.ReasonNoLifetime, 0},
		{"POST, always: what the client asks is its own", always, httpcache.Project, "POST", lines{"Cache-Control: max-age=10"}, 200, nil, none, 5 * time.Minute},

		{"5.2.2.10: s-maxage first", optIn, httpcache.Token, "GET", nil, 200, lines{"Cache-Control: max-age=3600, s-maxage=60"}, none, time.Minute},
		{"4.2.1: the smaller of two", optIn, httpcache.Project, "GET", nil, 200, lines{"Cache-Control: max-age=3600, max-age=60"}, none, time.Minute},
		{"4.2.1: an invalid one", optIn, httpcache.Project, "GET", nil, 200, lines{"Cache-Control: max-age=3600, max-age=x"}, httpcache.ReasonNoLifetime, 0},
		{"5.2.2.10: an invalid s-maxage", optIn, httpcache.Project, "GET", nil, 200, lines{"Cache-Control: max-age=3600, s-maxage=x"}, httpcache.ReasonNoLifetime, 0},
		{"1.2.2: overflow", optIn, httpcache.Project, "GET", nil, 200, lines{"Cache-Control: max-age=99999999999"}, none, (1 << 31) * time.Second},
		{"5.3: Expires", optIn, httpcache.Project, "GET", nil, 200, lines{"Expires: Fri, 01 May 2026 12:01:00 GMT"}, none, time.Minute},
		{"5.3: Expires less Date", optIn, httpcache.Project, "GET", nil, 200, lines{"Expires: Fri, 01 May 2026 12:01:30 GMT", "Date: Fri, 01 May 2026 12:00:30 GMT"}, none, time.Minute},
		{"5.3: Expires is 0", optIn, httpcache.Project, "GET", nil, 200, lines{"Expires: 0"}, httpcache.ReasonNoLifetime, 0},
		{"5.3: max-age first", optIn, httpcache.Project, "GET", nil, 200, lines{"Expires: 0", "Cache-Control: max-age=60"}, none, time.Minute},
		{"5.3: Expires twice", optIn, httpcache.Project, "GET", nil, 200, lines{"Expires: Fri, 01 May 2026 12:01:00 GMT", "Expires: Fri, 01 May 2026 12:01:00 GMT"}, httpcache.ReasonNoLifetime, 0},
		{"5.2.2.4: no-cache to be revalidated", optIn, httpcache.Project, "GET", nil, 200, lines{"Cache-Control: no-cache", `ETag: "a"`}, none, 0},
		{"5.2.2.4: no-cache, and no way to", optIn, httpcache.Project, "GET", nil, 200, lines{"Cache-Control: no-cache, max-age=60"}, httpcache.ReasonNoLifetime, 0},
		{"4.2.3: old when it comes", optIn, httpcache.Project, "GET", nil, 200, lines{"Cache-Control: max-age=60", "Age: 60"}, httpcache.ReasonNoLifetime, 0},
		{"5861: useful on errors alone", optIn, httpcache.Project, "GET", nil, 200, lines{"Cache-Control: max-age=0, stale-if-error=60"}, none, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			rules := httpcache.Rules{Mode: test.mode, Scope: test.scope, TTL: 5 * time.Minute}
			v := httpcache.Consider(request(test.method, test.req...), test.status, dated(test.resp...), noon, noon, &rules)
			if v.Reason != test.reason || v.Store != (test.reason == none) {
				t.Fatalf("stored %v (%s), want %q", v.Store, v.Reason, test.reason)
			}
			if v.Store && (v.Meta.Lifetime != test.lifetime || v.Keep < test.lifetime || v.Keep == 0) {
				t.Errorf("lifetime %v, kept %v, want %v", v.Meta.Lifetime, v.Keep, test.lifetime)
			}
		})
	}
}

// RFC 9111, 4.2.3.
func TestAge(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		method string
		resp   lines
		want   time.Duration // at the response, which came 5 s after the request
	}{
		{"the delay counts", "GET", nil, 5 * time.Second},
		{"and what Age says", "GET", lines{"Age: 10"}, 15 * time.Second},
		{"an old Date", "GET", lines{"Date: Fri, 01 May 2026 11:59:00 GMT"}, time.Minute},
		{"a Date to come", "GET", lines{"Date: Fri, 01 May 2026 13:00:00 GMT"}, 5 * time.Second},
		{"no Date that can be read", "GET", lines{"Date: today"}, 5 * time.Second},
		{"two Dates", "GET", lines{"Date: Fri, 01 May 2026 11:00:00 GMT", "Date: Fri, 01 May 2026 11:00:00 GMT"}, 5 * time.Second},
		{"5.1: no number", "GET", lines{"Age: old"}, (1<<31 + 5) * time.Second},
		{"5.1: a list", "GET", lines{"Age: 0, 0"}, (1<<31 + 5) * time.Second},
		{"5.1: two lines", "GET", lines{"Age: 0", "Age: 0"}, (1<<31 + 5) * time.Second},
		{"5.1: negative", "GET", lines{"Age: -1"}, (1<<31 + 5) * time.Second},
		{"an answer takes its time to make", "POST", nil, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			rules := httpcache.Rules{Mode: always, Scope: httpcache.Project, TTL: time.Hour}
			resp := append(lines{"Cache-Control: max-age=100000", `ETag: "a"`}, test.resp...)
			v := httpcache.Consider(request(test.method), 200, dated(resp...), noon.Add(-5*time.Second), noon, &rules)
			if !v.Store {
				t.Fatal(v.Reason)
			}
			if got := v.Meta.Age(noon); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
			if got := v.Meta.Age(noon.Add(time.Hour)); got != test.want+time.Hour {
				t.Errorf("an hour later %v", got)
			}
			if got := v.Meta.Age(noon.Add(-time.Hour)); got != test.want {
				t.Errorf("when the clock was set back %v", got)
			}
		})
	}
}

func TestConsiderLeavesHeaderAlone(t *testing.T) {
	t.Parallel()
	h := dated("Cache-Control: max-age=60", "Content-Type: text/plain")
	v := httpcache.Consider(get(), 200, h, noon, noon, &project)
	v.Meta.Header["Content-Type"][0] = "changed"
	if h.Get("Content-Type") != "text/plain" {
		t.Error("the stored header shares memory with the response's")
	}
	out := http.Header{}
	v.Meta.CopyHeader(out, noon)
	out.Add("Content-Type", "more")
	if len(v.Meta.Header["Content-Type"]) != 1 {
		t.Error("a client's header shares memory with the stored one")
	}
}
