package httpcache_test

import (
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
)

// TestEvaluate: what answers a request, given a response that was stored at noon.
func TestEvaluate(t *testing.T) {
	t.Parallel()
	const (
		sendOn  = httpcache.SendOn
		answer  = httpcache.Answer
		confirm = httpcache.Confirm
		timeout = httpcache.Timeout
	)
	fresh := lines{"Cache-Control: max-age=60", `ETag: "a"`}
	for _, test := range []struct {
		name   string
		method string
		req    lines
		stored lines // nil: nothing
		after  time.Duration
		want   httpcache.Action
		status string // Cache-Status
	}{
		{"nothing stored", "GET", nil, nil, 0, sendOn, "llm-proxy; fwd=uri-miss"},
		{"4.2: fresh", "GET", nil, fresh, 59 * time.Second, answer, "llm-proxy; hit; ttl=1"},
		{"4.2: no longer", "GET", nil, fresh, time.Minute, confirm, "llm-proxy; fwd=stale"},
		{"4.3.1: nothing to ask with", "GET", nil, lines{"Cache-Control: max-age=60"}, time.Minute, sendOn, "llm-proxy; fwd=stale"},
		{"9110, 9.3.2: HEAD", "HEAD", nil, fresh, time.Second, answer, "llm-proxy; hit; ttl=59"},
		{"HEAD is not revalidated", "HEAD", nil, fresh, time.Minute, sendOn, "llm-proxy; fwd=stale"},
		{"other methods", "DELETE", nil, fresh, 0, sendOn, "llm-proxy; fwd=method; detail=method"},

		{"5.2.1.4: no-cache", "GET", lines{"Cache-Control: no-cache"}, fresh, 0, confirm, "llm-proxy; fwd=request; detail=req-no-cache"},
		{"5.4: Pragma", "GET", lines{"Pragma: x, No-Cache"}, fresh, 0, confirm, "llm-proxy; fwd=request; detail=req-no-cache"},
		{"5.4: Pragma beside Cache-Control", "GET", lines{"Pragma: no-cache", "Cache-Control: x"}, fresh, 0, answer, "llm-proxy; hit; ttl=60"},
		{"5.2.1.5: no-store", "GET", lines{"Cache-Control: no-store"}, fresh, 0, sendOn, "llm-proxy; fwd=bypass; detail=req-no-store"},
		{"5.2.1.1: young enough", "GET", lines{"Cache-Control: max-age=10"}, fresh, 10 * time.Second, answer, "llm-proxy; hit; ttl=50"},
		{"5.2.1.1: too old", "GET", lines{"Cache-Control: max-age=10"}, fresh, 11 * time.Second, confirm, "llm-proxy; fwd=request; detail=req-max-age"},
		{"5.2.1.1: max-age=0", "GET", lines{"Cache-Control: max-age=0"}, fresh, 0, confirm, "llm-proxy; fwd=request; detail=req-max-age"},
		{"5.2.1.1: nonsense is 0", "GET", lines{"Cache-Control: max-age=1h"}, fresh, 0, confirm, "llm-proxy; fwd=request; detail=req-max-age"},
		{"5.2.1.3: fresh for long enough", "GET", lines{"Cache-Control: min-fresh=50"}, fresh, 10 * time.Second, answer, "llm-proxy; hit; ttl=50"},
		{"5.2.1.3: not", "GET", lines{"Cache-Control: min-fresh=51"}, fresh, 10 * time.Second, confirm, "llm-proxy; fwd=request; detail=req-min-fresh"},
		{"5.2.1.3: nonsense is for ever", "GET", lines{"Cache-Control: min-fresh=x"}, fresh, 0, confirm, "llm-proxy; fwd=request; detail=req-min-fresh"},
		{"5.2.1.2: max-stale", "GET", lines{"Cache-Control: max-stale=10"}, fresh, 70 * time.Second, answer, "llm-proxy; hit; ttl=-10; detail=max-stale"},
		{"5.2.1.2: staler", "GET", lines{"Cache-Control: max-stale=10"}, fresh, 71 * time.Second, confirm, "llm-proxy; fwd=stale"},
		{"5.2.1.2: however stale", "GET", lines{"Cache-Control: max-stale"}, fresh, time.Hour, answer, "llm-proxy; hit; ttl=-3540; detail=max-stale"},
		{"5.2.1.2: nonsense is 0", "GET", lines{"Cache-Control: max-stale=x"}, fresh, 61 * time.Second, confirm, "llm-proxy; fwd=stale"},
		{"5.2.1.2: a contradiction", "GET", lines{"Cache-Control: max-stale, min-fresh=1"}, fresh, time.Minute, confirm, "llm-proxy; fwd=stale"},
		{"5.2.2.2: must-revalidate", "GET", lines{"Cache-Control: max-stale"}, lines{"Cache-Control: max-age=60, must-revalidate"}, time.Minute, sendOn, "llm-proxy; fwd=stale"},
		{"5.2.2.8: proxy-revalidate", "GET", lines{"Cache-Control: max-stale"}, lines{"Cache-Control: max-age=60, proxy-revalidate"}, time.Minute, sendOn, "llm-proxy; fwd=stale"},
		{"5.2.2.10: s-maxage", "GET", lines{"Cache-Control: max-stale"}, lines{"Cache-Control: s-maxage=60"}, time.Minute, sendOn, "llm-proxy; fwd=stale"},
		{"5.2.2.4: no-cache", "GET", lines{"Cache-Control: max-stale"}, lines{"Cache-Control: no-cache, max-age=60", `ETag: "a"`}, 0, confirm, "llm-proxy; fwd=stale; detail=resp-no-cache"},
		{"5.2.2.4: no-cache of some fields", "GET", nil, lines{`Cache-Control: no-cache="x-a", max-age=60`}, 0, answer, "llm-proxy; hit; ttl=60"},
		{"5.2.1.7: only-if-cached", "GET", lines{"Cache-Control: only-if-cached"}, fresh, 0, answer, "llm-proxy; hit; ttl=60"},
		{"5.2.1.7: a miss", "GET", lines{"Cache-Control: only-if-cached"}, nil, 0, timeout, "llm-proxy; detail=only-if-cached"},
		{"5.2.1.7: stale", "GET", lines{"Cache-Control: only-if-cached"}, fresh, time.Hour, timeout, "llm-proxy; detail=only-if-cached"},
		{"5.2.1.7: and no-store", "GET", lines{"Cache-Control: only-if-cached, no-store"}, fresh, 0, timeout, "llm-proxy; detail=only-if-cached"},

		{"5861, 3: while it is refreshed", "GET", nil, lines{"Cache-Control: max-age=60, stale-while-revalidate=30"}, 89 * time.Second, answer, "llm-proxy; hit; ttl=-29; detail=stale-while-revalidate"},
		{"5861, 3: too late", "GET", nil, lines{"Cache-Control: max-age=60, stale-while-revalidate=30"}, 90 * time.Second, sendOn, "llm-proxy; fwd=stale"},
		{"5861, 3: not with must-revalidate", "GET", nil, lines{"Cache-Control: max-age=60, stale-while-revalidate=30, must-revalidate"}, 70 * time.Second, sendOn, "llm-proxy; fwd=stale"},
		{"5861, 3: the client wants better", "GET", lines{"Cache-Control: min-fresh=1"}, lines{"Cache-Control: max-age=60, stale-while-revalidate=30"}, 70 * time.Second, sendOn, "llm-proxy; fwd=stale"},

		{"9110, 14.2: Range", "GET", lines{"Range: bytes=0-1"}, fresh, 0, sendOn, "llm-proxy; fwd=bypass; detail=range"},
		{"9110, 14.2: only for GET", "HEAD", lines{"Range: bytes=0-1"}, fresh, 0, answer, "llm-proxy; hit; ttl=60"},
		{"9110, 13.1.1: If-Match is the origin's", "GET", lines{`If-Match: "a"`}, fresh, 0, sendOn, "llm-proxy; fwd=bypass; detail=precondition"},
		{"9110, 13.1.4", "GET", lines{"If-Unmodified-Since: Fri, 01 May 2026 12:00:00 GMT"}, fresh, 0, sendOn, "llm-proxy; fwd=bypass; detail=precondition"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var m *httpcache.Meta
			if test.stored != nil {
				m = stored(t, &project, get(), test.stored...)
			}
			d := httpcache.Evaluate(request(test.method, test.req...), m, noon.Add(test.after), &project)
			s := d.Status()
			if d.Action != test.want || s.String() != test.status {
				t.Errorf("%d %s\nwant %d %s", d.Action, &s, test.want, test.status)
			}
		})
	}
}

// TestEvaluatePost: who reads what, under both modes.
func TestEvaluatePost(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		mode httpcache.Mode
		req  lines
		age  time.Duration // of what was stored for 100 s
		want httpcache.Action
	}{
		{"opted in", optIn, lines{"Cache-Control: max-age=100"}, 99 * time.Second, httpcache.Answer},
		{"for less than it is old", optIn, lines{"Cache-Control: max-age=60"}, 61 * time.Second, httpcache.SendOn},
		{"s-maxage is max-age here", optIn, lines{"Cache-Control: s-maxage=60"}, 61 * time.Second, httpcache.SendOn},
		{"no longer fresh", optIn, lines{"Cache-Control: max-age=200"}, 100 * time.Second, httpcache.SendOn},
		{"not opted in", optIn, nil, 0, httpcache.SendOn},
		{"public alone says nothing", optIn, lines{"Cache-Control: public"}, 0, httpcache.SendOn},
		{"asked anew", optIn, lines{"Cache-Control: max-age=100, no-cache"}, 0, httpcache.SendOn},
		{"only if cached", optIn, lines{"Cache-Control: only-if-cached"}, 0, httpcache.Answer},
		{"only if cached, and it is not", optIn, lines{"Cache-Control: only-if-cached"}, time.Hour, httpcache.Timeout},
		{"always", always, nil, 99 * time.Second, httpcache.Answer},
		{"always, but not this time", always, lines{"Cache-Control: no-cache"}, 0, httpcache.SendOn},
		{"always, but younger", always, lines{"Cache-Control: max-age=60"}, 61 * time.Second, httpcache.SendOn},
		{"off", httpcache.Off, lines{"Cache-Control: max-age=100"}, 0, httpcache.SendOn},
		{"off, only if cached", httpcache.Off, lines{"Cache-Control: only-if-cached"}, 0, httpcache.SendOn},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := stored(t, &project, request("POST", "Cache-Control: max-age=100"), `ETag: "a"`)
			rules := with(func(r *httpcache.Rules) { r.Mode = test.mode })
			d := httpcache.Evaluate(request("POST", test.req...), m, noon.Add(test.age), rules)
			if d.Action != test.want {
				t.Errorf("%d (%s), want %d", d.Action, d.Reason, test.want)
			}
		})
	}
}

// TestJoin: who may wait for another one's answer, and who may leave one for others.
func TestJoin(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name        string
		method      string
		req         lines
		store, join bool
	}{
		{"GET", "GET", nil, true, true},
		{"HEAD", "HEAD", nil, false, false},
		{"PUT", "PUT", nil, false, false},
		{"POST", "POST", nil, false, false},
		{"POST, opted in", "POST", lines{"Cache-Control: max-age=60"}, true, true},
		{"what is on its way was asked for earlier", "POST", lines{"Cache-Control: max-age=60, no-cache"}, true, false},
		{"max-age=0 too", "GET", lines{"Cache-Control: max-age=0"}, true, false},
		{"its answer may be a 304", "GET", lines{`If-None-Match: "a"`}, true, false},
		{"its answer may be a part", "GET", lines{"Range: bytes=0-"}, true, false},
		{"no-store", "GET", lines{"Cache-Control: no-store"}, false, false},
	} {
		d := httpcache.Evaluate(request(test.method, test.req...), nil, noon, &project)
		if d.Store != test.store || d.Join != test.join {
			t.Errorf("%s: store %v, join %v", test.name, d.Store, d.Join)
		}
	}
}

// RFC 5861, 4.
func TestUseOnError(t *testing.T) {
	t.Parallel()
	operator := with(func(r *httpcache.Rules) { r.StaleIfError = time.Hour })
	for _, test := range []struct {
		name   string
		rules  *httpcache.Rules
		req    lines
		stored lines
		status int
		after  time.Duration
		want   bool
	}{
		{"no answer", operator, nil, lines{"Cache-Control: max-age=60"}, 0, 10 * time.Minute, true},
		{"503", operator, nil, lines{"Cache-Control: max-age=60"}, 503, 10 * time.Minute, true},
		{"overloaded", operator, nil, lines{"Cache-Control: max-age=60"}, 529, 10 * time.Minute, true},
		{"an answer, if not a good one", operator, nil, lines{"Cache-Control: max-age=60"}, 429, 10 * time.Minute, false},
		{"404", operator, nil, lines{"Cache-Control: max-age=60"}, 404, 10 * time.Minute, false},
		{"too old", operator, nil, lines{"Cache-Control: max-age=60"}, 0, 62 * time.Minute, false},
		{"the response says less", operator, nil, lines{"Cache-Control: max-age=60, stale-if-error=60"}, 0, 3 * time.Minute, false},
		{"the response says it", &project, nil, lines{"Cache-Control: max-age=60, stale-if-error=600"}, 0, 3 * time.Minute, true},
		{"nobody says it", &project, nil, lines{"Cache-Control: max-age=60"}, 0, 61 * time.Second, false},
		{"the client says it", &project, lines{"Cache-Control: stale-if-error=600"}, lines{"Cache-Control: max-age=60"}, 0, 3 * time.Minute, true},
		{"the client says not", operator, lines{"Cache-Control: stale-if-error=0"}, lines{"Cache-Control: max-age=60"}, 0, 3 * time.Minute, false},
		{"must-revalidate", operator, lines{"Cache-Control: stale-if-error=600"}, lines{"Cache-Control: max-age=60, must-revalidate, stale-if-error=600"}, 0, 3 * time.Minute, false},
		{"no-cache", operator, nil, lines{"Cache-Control: no-cache", `ETag: "a"`}, 0, time.Second, false},
		{"s-maxage", operator, nil, lines{"Cache-Control: s-maxage=60"}, 0, 3 * time.Minute, false},
		{"the client wants a new one", operator, lines{"Cache-Control: no-cache"}, lines{"Cache-Control: max-age=60"}, 0, 3 * time.Minute, false},
		{"the client stores nothing", operator, lines{"Cache-Control: no-store"}, lines{"Cache-Control: max-age=60"}, 0, 3 * time.Minute, false},
		{"max-age is a preference", operator, lines{"Cache-Control: max-age=60"}, lines{"Cache-Control: max-age=60"}, 0, 3 * time.Minute, true},
		{"a part", operator, lines{"Range: bytes=0-1"}, lines{"Cache-Control: max-age=60"}, 0, 3 * time.Minute, false},
	} {
		m := stored(t, test.rules, get(), test.stored...)
		if got := httpcache.UseOnError(get(test.req...), m, test.status, noon.Add(test.after), test.rules); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
	if httpcache.UseOnError(get(), nil, 0, noon, operator) {
		t.Error("used what is not there")
	}
}
