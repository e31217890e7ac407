package cachetests_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache/cachetests"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func response(reply cachetests.Reply) *http.Response {
	return &http.Response{StatusCode: reply.Status, Header: reply.Header, Body: io.NopCloser(strings.NewReader(reply.Body))}
}

func noWait(context.Context, time.Duration) error { return nil }

// find is the test of that id.
func find(t *testing.T, id string) *cachetests.Test {
	t.Helper()
	for _, kind := range []string{"required", "optimal", "check"} {
		for _, test := range cachetests.Tests(kind) {
			if test.ID == id {
				return &test
			}
		}
	}
	t.Fatalf("no test %s", id)
	return nil
}

func TestDefinitions(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for kind, want := range map[string]int{"required": 157, "optimal": 86, "check": 86} {
		got := cachetests.Tests(kind)
		if len(got) != want {
			t.Errorf("%d tests are %s, not %d", len(got), kind, want)
		}
		for _, test := range got {
			if seen[test.ID] || len(test.Steps) == 0 {
				t.Errorf("%s: twice, or without a request", test.ID)
			}
			seen[test.ID] = true
		}
	}
}

// TestForgetful: what is no cache reuses nothing, so that safety is not failed, and
// what needs a stored response is.
func TestForgetful(t *testing.T) {
	t.Parallel()
	origin := cachetests.NewOrigin(time.Now)
	p := &cachetests.Proxy{
		Base: "http://x", Origin: origin,
		Transport: transport(func(r *http.Request) (*http.Response, error) {
			reply := origin.Answer(r.Method, r.URL.RequestURI(), r.Header)
			if reply.Disconnect {
				reply = cachetests.Reply{Status: http.StatusBadGateway, Header: http.Header{}}
			}
			return response(reply), nil
		}),
		Wait: noWait,
	}
	for _, test := range cachetests.Tests("required") {
		if got := p.Run(t.Context(), &test); test.Safety() && got.Outcome == cachetests.Fail {
			t.Errorf("%s: %s", test.ID, got.Message)
		}
	}
	for id, want := range map[string]cachetests.Outcome{"freshness-max-age": cachetests.Fail, "other-age-gen": cachetests.Fail, "headers-store-Test-Header": cachetests.Setup} {
		if got := p.Run(t.Context(), find(t, id)); got.Outcome != want {
			t.Errorf("%s: %+v, want %s", id, got, want)
		}
	}
}

// TestGreedy: what reuses everything fails every test of safety that can fail
// without a conditional request.
func TestGreedy(t *testing.T) {
	t.Parallel()
	origin := cachetests.NewOrigin(time.Now)
	for _, test := range cachetests.Tests("required") {
		if !test.Safety() || strings.HasPrefix(test.ID, "invalidate-") || strings.HasPrefix(test.ID, "query-") {
			continue
		}
		var first *cachetests.Reply
		p := &cachetests.Proxy{
			Base: "http://x", Origin: origin, Wait: noWait,
			Transport: transport(func(r *http.Request) (*http.Response, error) {
				if first == nil {
					reply := origin.Answer(r.Method, r.URL.RequestURI(), r.Header)
					first = &reply
				}
				return response(*first), nil
			}),
		}
		if got := p.Run(t.Context(), &test); got.Outcome != cachetests.Fail {
			t.Errorf("%s: %+v", test.ID, got)
		}
	}
}

// TestWaits: a pause takes its time, unless the test is called off.
func TestWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		origin := cachetests.NewOrigin(time.Now)
		p := &cachetests.Proxy{Base: "http://x", Origin: origin, Transport: transport(func(r *http.Request) (*http.Response, error) {
			return response(origin.Answer(r.Method, r.URL.RequestURI(), r.Header)), nil
		})}
		began := time.Now()
		if got := p.Run(t.Context(), find(t, "freshness-max-age-0")); got.Outcome != cachetests.Pass {
			t.Errorf("%+v", got)
		}
		if took := time.Since(began); took < cachetests.Pause || took > 2*cachetests.Pause {
			t.Errorf("it took %v", took)
		}
	})
}

// TestOverHTTP: the origin behind a plain reverse proxy, on a path of the proxy's.
func TestOverHTTP(t *testing.T) {
	t.Parallel()
	origin := cachetests.NewOrigin(time.Now)
	upstream := httptest.NewServer(origin)
	defer upstream.Close()
	target, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	var unauthorized atomic.Int32
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	client := &http.Transport{DisableCompression: true}
	defer client.CloseIdleConnections()
	forward.Transport = client
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t" || !strings.HasPrefix(r.URL.Path, "/sim/v1/") {
			unauthorized.Add(1)
		}
		forward.ServeHTTP(w, r)
	}))
	defer front.Close()
	p := &cachetests.Proxy{Base: front.URL + "/sim/v1", Transport: client, Origin: origin, Header: http.Header{"Authorization": {"Bearer t"}}, Wait: noWait}
	for id, want := range map[string]cachetests.Outcome{
		"freshness-max-age-0": cachetests.Pass, "freshness-max-age": cachetests.Fail, "vary-no-match": cachetests.Pass, "invalidate-M-SEARCH-location": cachetests.Pass,
		"stale-close-must-revalidate": cachetests.Pass, "304-etag-update-response-Content-Type": cachetests.Setup, "status-599-stale": cachetests.Pass,
		"headers-store-Content-Length": cachetests.Setup, "conditional-etag-forward": cachetests.Pass,
	} {
		if got := p.Run(t.Context(), find(t, id)); got.Outcome != want {
			t.Errorf("%s: %+v, want %s", id, got, want)
		}
	}
	if n := unauthorized.Load(); n > 0 {
		t.Errorf("%d requests without the credential or the path", n)
	}
}
