package httpcache_test

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache/cachetests"
)

// under is a cache of its own for each test, with an origin and a time of its own.
func under(rules httpcache.Rules) func(testing.TB) *cachetests.Proxy {
	return func(testing.TB) *cachetests.Proxy {
		c := &clock{at: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
		origin := cachetests.NewOrigin(c.now)
		return &cachetests.Proxy{
			Base: "http://cache.test/v1", Origin: origin,
			Transport: &reference{rules: rules, now: c.now, origin: origin.Answer, store: map[string]map[string]entry{}},
			Wait: func(_ context.Context, d time.Duration) error {
				c.pass(d)
				return nil
			},
		}
	}
}

func fields(t testing.TB, patterns ...string) *httpcache.Fields {
	t.Helper()
	f, err := httpcache.ParseFields(patterns)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// byRequest is opt_in within a project, with every field stored that may be:
// where the suite stores what it must not, it shows.
func byRequest(t testing.TB) httpcache.Rules {
	return httpcache.Rules{Mode: httpcache.OptIn, TTL: 5 * time.Minute, Fields: fields(t, "*")}
}

// required are the tests of MUSTs that are not met, and why.
var required = cachetests.Expected{
	// In a project's partition everybody has the same authorization at the provider;
	// TestSuiteShared has the scope that this test is about.
	"other-authorization": cachetests.Fail,
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
}

func TestSuite(t *testing.T) {
	t.Parallel()
	sum := cachetests.Run(t, cachetests.Tests("required"), under(byRequest(t)), required)
	// other-authorization counts as safety, and is not applied here.
	if got := sum.SafetyFailed - 1; got != 0 || sum.OtherFailed > 3 || sum.Setup > 12 {
		t.Errorf("%+v", sum)
	}
}

// TestSuiteFields has no fields but the known ones stored, and those that the
// suite itself needs.
func TestSuiteFields(t *testing.T) {
	t.Parallel()
	rules := byRequest(t)
	rules.Fields = fields(t, "Server-*", "Client-Request-Count", "Request-Numbers")
	expected := maps.Clone(required)
	for _, id := range []string{
		"headers-store-Test-Header", "headers-store-X-Test-Header",
		"304-lm-use-stored-Test-Header", "304-etag-update-response-Test-Header", "304-etag-update-response-X-Test-Header",
	} {
		expected[id] = cachetests.Fail // not a field that anybody knows
	}
	expected["headers-omit-headers-listed-in-Connection"] = cachetests.Setup // "c" neither
	cachetests.Run(t, cachetests.Tests("required"), under(rules), expected)
}

// TestSuiteShared: among strangers, RFC 9111, 3.5 counts.
func TestSuiteShared(t *testing.T) {
	t.Parallel()
	rules := byRequest(t)
	rules.Scope = httpcache.Shared
	for _, kind := range []string{"required", "optimal"} {
		tests := slices.DeleteFunc(cachetests.Tests(kind), func(t cachetests.Test) bool { return !strings.HasPrefix(t.ID, "other-authorization") })
		cachetests.Run(t, tests, under(rules), nil)
	}
}

// TestSuiteNeverReuses: rules that store less reuse nothing that they must not.
func TestSuiteNeverReuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*httpcache.Rules){
		"off":    func(r *httpcache.Rules) { r.Mode = httpcache.Off },
		"shared": func(r *httpcache.Rules) { r.Scope = httpcache.Shared },
		"always": func(r *httpcache.Rules) { r.Mode, r.Scope = httpcache.Always, httpcache.Shared },
		"stale":  func(r *httpcache.Rules) { r.Scope, r.StaleIfError = httpcache.Shared, time.Hour },
	} {
		rules := byRequest(t)
		change(&rules)
		proxy := under(rules)
		for _, test := range cachetests.Tests("required") {
			if got := proxy(t).Run(t.Context(), &test); test.Safety() && got.Outcome == cachetests.Fail {
				t.Errorf("%s: %s: %s", name, test.ID, got.Message)
			}
		}
	}
}

// TestSuiteOptimal lists what a cache might do, and this one does not.
func TestSuiteOptimal(t *testing.T) {
	t.Parallel()
	expected := cachetests.Expected{
		"conditional-lm-fresh-no-lm":          cachetests.Fail, // a 304 for what is newer than the client's
		"other-set-cookie":                    cachetests.Fail,
		"method-POST":                         cachetests.Fail, // GETs from what a POST stored
		"heuristic-200-cached":                cachetests.Fail, // no lifetime is guessed
		"partial-store-partial-complete":      cachetests.Fail,
		"vary-normalise-lang-order":           cachetests.Fail, // values are compared as lists of texts,
		"vary-normalise-lang-case":            cachetests.Fail, // without a meaning
		"vary-normalise-lang-select":          cachetests.Fail,
		"partial-store-partial-reuse-partial": cachetests.Fail, // no ranges, neither stored nor cut
	}
	for _, suffix := range []string{"-byterange", "-absent", "-suffix"} {
		expected["partial-store-partial-reuse-partial"+suffix] = cachetests.Fail
	}
	for _, suffix := range []string{"", "-no-last", "-suffix"} {
		expected["partial-store-complete-reuse-partial"+suffix] = cachetests.Fail
	}
	for _, status := range []string{"203", "204", "299", "301", "302", "303", "307", "308", "400", "404", "410", "499", "500", "502", "503", "504", "599"} {
		expected["status-"+status+"-fresh"] = cachetests.Fail // only 200 is stored
	}
	for _, status := range []string{"203", "204", "404", "405", "410", "414", "501", "599"} {
		expected["heuristic-"+status+"-cached"] = cachetests.Fail
	}
	rules := byRequest(t)
	cachetests.Run(t, cachetests.Tests("optimal"), under(rules), expected)
}

// TestSuiteHTTP runs the same over connections: the tests' origin answers byte for
// byte, behind a path that it does not know, with a credential.
func TestSuiteHTTP(t *testing.T) {
	t.Parallel()
	rules := byRequest(t)
	tests := slices.DeleteFunc(cachetests.Tests("required"), func(t cachetests.Test) bool {
		switch t.ID {
		case "headers-store-Transfer-Encoding": // no message of HTTP/1.1
		case "other-authorization": // every request has the proxy's credential
		default:
			return false
		}
		return true
	})
	expected := maps.Clone(required)
	delete(expected, "other-authorization")
	client := &http.Transport{DisableCompression: true}
	defer client.CloseIdleConnections()
	proxy := func(t testing.TB) *cachetests.Proxy {
		p := under(rules)(t)
		cache := p.Transport.(*reference)
		origin := httptest.NewServer(p.Origin)
		cache.origin = over(client, origin.URL)
		front := httptest.NewServer(cache)
		t.Cleanup(func() { front.Close(); origin.Close() })
		p.Base, p.Transport, p.Header = front.URL+"/sim", client, http.Header{"Authorization": {"Bearer sk-wt-test"}}
		return p
	}
	cachetests.Run(t, tests, proxy, expected)
}
