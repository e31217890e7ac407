package e2e

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache/cachetests"
)

// suite is a process with this cache in front of the origin of Mark Nottingham's tests
// for HTTP caches: their paths, their methods and whatever fields they send come through.
func suite(t *testing.T, cache string) *cachetests.Proxy {
	t.Helper()
	origin := cachetests.NewOrigin(time.Now)
	server := httptest.NewServer(origin)
	t.Cleanup(server.Close)
	p := start(t, site{
		providers: map[string]string{"openai": server.URL + "/v1"},
		options:   map[string]string{"openai": "allow_endpoints /v1/test/*\nallow_methods GET HEAD POST PUT PATCH DELETE OPTIONS M-SEARCH"},
		handler:   "forward_headers *\n" + cache,
	})
	return &cachetests.Proxy{
		Base: p.url + "/v1", Origin: origin, Transport: p.client(h1).Transport,
		Header: http.Header{"Authorization": {"Bearer " + p.account(t).token}},
	}
}

// suiteTests are those about the RFC's MUSTs that can be asked over a connection, with
// a credential that the proxy wants for itself.
func suiteTests() []cachetests.Test {
	return slices.DeleteFunc(cachetests.Tests("required"), func(t cachetests.Test) bool {
		switch t.ID {
		case "headers-store-Transfer-Encoding": // no message of HTTP/1.1
		case "other-authorization": // every request has the token
		default:
			return false
		}
		return true
	})
}

// TestCacheSuite runs the tests against a handler that stores every field.
func TestCacheSuite(t *testing.T) {
	t.Parallel()
	proxy := suite(t, "cache {\nstore_headers *\n}")
	sum := cachetests.Run(t, suiteTests(), func(testing.TB) *cachetests.Proxy { return proxy }, cachetests.Expected{
		// A list in Age makes a response stale. Of "0,7200" the suite wants the first
		// number, of "0, 0" none.
		"age-parse-prefix": cachetests.Fail,
		// Responses that set cookies are not stored, so nothing comes back.
		"headers-store-Set-Cookie": cachetests.Setup, "headers-store-Set-Cookie2": cachetests.Setup,
		"304-etag-update-response-Set-Cookie": cachetests.Setup, "304-etag-update-response-Set-Cookie2": cachetests.Setup,
		// A 304 with another strong tag is about another response: asked again.
		"304-etag-update-response-ETag": cachetests.Setup,
		// A request for a range goes to the origin.
		"partial-use-headers": cachetests.Setup,
	})
	t.Logf("%+v", sum)
	if sum.SafetyFailed != 0 || sum.OtherFailed > 3 || sum.Setup > 12 || sum.Passed < 140 {
		t.Error("too few pass")
	}
}

// TestCacheSuiteOff: without a cache, nothing comes from one.
func TestCacheSuiteOff(t *testing.T) {
	t.Parallel()
	proxy := suite(t, "")
	var all sync.WaitGroup
	slots := make(chan struct{}, 64)
	for _, test := range suiteTests() {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			got := proxy.Run(t.Context(), &test)
			reused := slices.ContainsFunc(test.Steps, func(s cachetests.Step) bool { return s.ExpectedType == "cached" })
			switch {
			case test.Safety() && got.Outcome == cachetests.Fail:
				t.Errorf("%s: %s", test.ID, got.Message)
			case reused && got.Outcome == cachetests.Pass:
				t.Errorf("%s: something comes from a cache", test.ID)
			}
		})
	}
	all.Wait()
}
