package gateway_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/fill"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// withCache lets a test live in a bubble with a gateway that caches what this origin
// answers.
func withCache(t *testing.T, rules httpcache.Rules, durable bool, origin func(*http.Request) (*http.Response, error), live func(*testing.T, *rig, *eventLog)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		pool, log := newCachePool(t), new(eventLog)
		defer pool.close()
		live(t, newRig(t, setup{upstream: roundTripper(origin), gateway: func(c *gateway.Config) {
			c.Cache = &gateway.Cache{Store: pool, Fills: pool.fills, Rules: rules, Lease: func() fill.Lease { return unleased{} }}
			c.Events, c.Durable = log, durable
		}}), log)
	})
}

// optedIn are the rules of a cache that is used by who asks for it.
var optedIn = httpcache.Rules{Mode: httpcache.OptIn, TTL: time.Minute, StaleIfError: time.Hour}

// models is the answer of an origin that says so much of caches.
func models(cacheControl string, lines ...string) *http.Response {
	resp := reply(http.StatusOK, "application/json", `{"data":[]}`)
	resp.Header.Set("Cache-Control", cacheControl)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		resp.Header.Set(name, value)
	}
	return resp
}

// unchanged is the answer to who has what there is.
func unchanged(etag string) *http.Response {
	resp := reply(http.StatusNotModified, "application/json", "")
	resp.Body, resp.ContentLength = http.NoBody, 0
	resp.Header = http.Header{"Etag": {etag}}
	return resp
}

func (r *rig) models(lines ...string) *http.Request {
	return r.request(http.MethodGet, "/v1/models", "", lines...)
}

// begin has a request served behind the test's back.
func (r *rig) begin(req *http.Request) *answer {
	a := &answer{ResponseRecorder: httptest.NewRecorder()}
	go func() { a.aborted = r.serve(a.ResponseRecorder, req, &a.rec) }()
	return a
}

// editor changes headers in place, as Caddy's header directive does.
type editor struct{ *httptest.ResponseRecorder }

func (e editor) WriteHeader(status int) {
	for _, values := range e.Header() {
		for i := range values {
			values[i] += " (edited)"
		}
	}
	e.ResponseRecorder.WriteHeader(status)
}

// TestEditedHeaders: what later handlers make of an answer's header stays with that
// answer, be it the first, a stored one, or one that others wait for as well.
func TestEditedHeaders(t *testing.T) {
	t.Parallel()
	withCache(t, optedIn, false, func(*http.Request) (*http.Response, error) {
		<-time.After(time.Second)
		return models("max-age=1000", `Etag: "a"`), nil
	}, func(t *testing.T, r *rig, _ *eventLog) {
		for _, line := range []string{"Accept: */*", "Accept: */*", `If-None-Match: "a"`} {
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					w := editor{httptest.NewRecorder()}
					var rec gateway.Record
					r.serve(w, r.models(line), &rec)
					if got := w.Header().Get("Etag"); got != `"a" (edited)` {
						t.Errorf("%d, %s: ETag %s", w.Code, rec.Cache, got)
					}
					if got := w.Header().Get("Cache-Control"); got != "max-age=1000 (edited)" {
						t.Errorf("%d, %s: Cache-Control %s", w.Code, rec.Cache, got)
					}
				})
			}
			all.Wait()
		}
	})
}

// TestDurableCachedEvents: each request has one event when its answer must wait for it,
// whatever stood in for the provider's, and that tells what the client got.
func TestDurableCachedEvents(t *testing.T) {
	t.Parallel()
	gone := func() (*http.Response, error) { return nil, errors.New("connection refused") }
	fresh := func() (*http.Response, error) { return models("max-age=1000", `Etag: "a"`), nil }
	stale := func() (*http.Response, error) {
		return models("max-age=10, stale-if-error=1000", "Age: 20"), nil
	}
	failed := func() (*http.Response, error) {
		return reply(http.StatusServiceUnavailable, "application/json", `{"error":{}}`), nil
	}
	type origin []func() (*http.Response, error) // in turn
	for name, tc := range map[string]struct {
		origin  origin
		line    string
		cache   string // of the last request
		status  int    // of its event
		outcome string
		bytes   int64
	}{
		"nobody is there":              {origin: origin{gone}, cache: gateway.CacheMiss, status: http.StatusBadGateway, outcome: gateway.OutcomeUpstreamError},
		"the provider fails":           {origin: origin{failed}, cache: gateway.CacheMiss, status: http.StatusServiceUnavailable, outcome: gateway.OutcomeUpstreamError, bytes: 12},
		"stale, as the provider fails": {origin: origin{stale, failed}, cache: gateway.CacheStale, status: http.StatusOK, outcome: gateway.OutcomeOK, bytes: 11},
		"stale, as nobody is there":    {origin: origin{stale, gone}, cache: gateway.CacheStale, status: http.StatusOK, outcome: gateway.OutcomeOK, bytes: 11},
		"stored":                       {origin: origin{fresh, gone}, cache: gateway.CacheHit, status: http.StatusOK, outcome: gateway.OutcomeOK, bytes: 11},
		"stored, and the client's":     {origin: origin{fresh, gone}, line: `If-None-Match: "a"`, cache: gateway.CacheHit, status: http.StatusNotModified, outcome: gateway.OutcomeOK},
		"fetched, and the client's":    {origin: origin{fresh}, line: `If-None-Match: "a"`, cache: gateway.CacheMiss, status: http.StatusOK, outcome: gateway.OutcomeOK, bytes: 11},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			withCache(t, optedIn, true, func(*http.Request) (*http.Response, error) { n++; return tc.origin[n-1]() }, func(t *testing.T, r *rig, log *eventLog) {
				var last answer
				for range tc.origin {
					last = r.do(r.models(tc.line))
					synctest.Wait()
				}
				if last.rec.Cache != tc.cache || last.rec.Outcome != tc.outcome {
					t.Errorf("%d, %s, %s", last.Code, last.rec.Cache, last.rec.Outcome)
				}
				if len(log.events) != len(tc.origin) {
					t.Errorf("%d events, want %d: %+v", len(log.events), len(tc.origin), log.events)
				}
				e := log.events[len(log.events)-1]
				if e.ID != last.rec.ID || e.Cache != tc.cache || e.Outcome != tc.outcome || e.Status != tc.status || e.BytesOut != tc.bytes {
					t.Errorf("%+v", e)
				}
			})
		})
	}
}

// TestRevokedFetch: with the only token that may have an answer ends the provider's
// work on it.
func TestRevokedFetch(t *testing.T) {
	t.Parallel()
	rules := optedIn
	rules.Scope = httpcache.Token
	ended := false
	withCache(t, rules, false, func(req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		ended = true
		return nil, req.Context().Err()
	}, func(t *testing.T, r *rig, log *eventLog) {
		a := r.begin(r.chat(`{"model":"m"}`, "Cache-Control: max-age=60"))
		synctest.Wait()
		r.announce(token.Change{Kind: token.TokenChanged, ID: r.tokenID, Revoked: true})
		synctest.Wait()
		if !ended || a.Code != http.StatusUnauthorized || a.rec.Outcome != gateway.OutcomeCut {
			t.Errorf("provider's side ended: %t; %d, %s", ended, a.Code, a.rec.Outcome)
		}
		if e := log.only(t); e.Outcome != gateway.OutcomeCut || e.Status != http.StatusUnauthorized {
			t.Errorf("%+v", e)
		}
	})
}

// TestOthersRefusedKey: who waits for an answer to another project's request is not told
// that the provider refuses that one's key, but asks with its own.
func TestOthersRefusedKey(t *testing.T) {
	t.Parallel()
	rules := optedIn
	rules.Scope, rules.Mode = httpcache.Shared, httpcache.Always
	withCache(t, rules, false, func(req *http.Request) (*http.Response, error) {
		if strings.Contains(req.Header.Get("Authorization"), sharedKey) {
			return reply(http.StatusOK, "application/json", "{}"), nil
		}
		<-time.After(time.Second)
		return reply(http.StatusUnauthorized, "application/json", `{"error":{"message":"bad key"}}`), nil
	}, func(t *testing.T, r *rig, _ *eventLog) {
		other := r.store.addProject(func(s *project.Snapshot) {
			s.Credentials = []project.Credential{{Provider: "openai", Secret: secret.NewValue("sk-bad-0123456789abcdef")}}
		})
		theirs, _ := r.store.addToken(t, other, nil)
		ask := func(lines ...string) *answer {
			defer synctest.Wait()
			return r.begin(r.chat(`{"model":"m"}`, lines...))
		}
		first, ours, last := ask("X-Api-Key:", "X-Api-Key: "+theirs), ask(), ask("X-Api-Key:", "X-Api-Key: "+theirs)
		<-time.After(time.Minute)
		synctest.Wait()
		r.wantOK(*ours, "{}")
		for _, a := range []*answer{first, last} {
			r.wantError(*a, http.StatusBadGateway, "upstream_credentials_exhausted")
		}
	})
}

// TestHeadLeavesStale: a HEAD that is answered with what is stale does not have that
// replaced by an answer without a body.
func TestHeadLeavesStale(t *testing.T) {
	t.Parallel()
	rules := optedIn
	rules.StaleWhileRevalidate = time.Hour
	withCache(t, rules, false, func(req *http.Request) (*http.Response, error) {
		if req.Header.Get("If-None-Match") != "" {
			return unchanged(`"a"`), nil
		}
		resp := models("max-age=10", "Age: 20", `Etag: "a"`)
		if req.Method == http.MethodHead {
			resp.Body = http.NoBody
		}
		return resp, nil
	}, func(t *testing.T, r *rig, _ *eventLog) {
		first := r.do(r.models())
		if a := r.do(r.request(http.MethodHead, "/v1/models", "")); a.Code != http.StatusOK || a.rec.Cache != gateway.CacheStale || a.Body.Len() > 0 {
			t.Errorf("%d %s %s", a.Code, a.rec.Cache, a.Body)
		}
		synctest.Wait()
		if a := r.do(r.models("Cache-Control: only-if-cached")); a.Code != http.StatusOK || a.Body.String() != first.Body.String() || a.Body.Len() == 0 {
			t.Errorf("%d %s, want %s", a.Code, a.Body, first.Body)
		}
	})
}

// TestOtherValidator: if a 304 speaks of something else than what is stored, what is
// there instead is fetched, and stored.
func TestOtherValidator(t *testing.T) {
	t.Parallel()
	n := 0
	withCache(t, optedIn, false, func(req *http.Request) (*http.Response, error) {
		switch n++; {
		case n == 1:
			return models("max-age=10", "Age: 20", `Etag: "a"`), nil
		case req.Header.Get("If-None-Match") != "":
			return unchanged(`"b"`), nil
		}
		return models("max-age=100", `Etag: "b"`), nil
	}, func(t *testing.T, r *rig, _ *eventLog) {
		for i, want := range []string{gateway.CacheMiss, gateway.CacheMiss, gateway.CacheHit} {
			a := r.do(r.models())
			if tag := map[bool]string{true: `"a"`, false: `"b"`}[i == 0]; a.Code != http.StatusOK || a.rec.Cache != want || a.Header().Get("Etag") != tag {
				t.Errorf("request %d: %d %s %v", i, a.Code, a.rec.Cache, a.Header())
			}
		}
		if n != 3 {
			t.Errorf("the origin was asked %d times, want 3", n)
		}
	})
}

// TestCachedTrailers: what comes behind a body reaches the client whether or not the
// cache looks at the answer.
func TestCachedTrailers(t *testing.T) {
	t.Parallel()
	for _, wanted := range []string{"no-store", "max-age=60"} {
		withCache(t, optedIn, false, func(*http.Request) (*http.Response, error) {
			resp := reply(http.StatusOK, "application/json", "{}")
			resp.ContentLength, resp.TransferEncoding = -1, []string{"chunked"}
			resp.Trailer = http.Header{"X-Sum": {"1"}}
			return resp, nil
		}, func(t *testing.T, r *rig, _ *eventLog) {
			a := r.do(r.chat(`{"model":"m"}`, "Cache-Control: "+wanted))
			if a.Header().Get("Trailer") != "X-Sum" || a.Result().Trailer.Get("X-Sum") != "1" {
				t.Errorf("%s: %v, trailer %v", wanted, a.Header(), a.Result().Trailer)
			}
		})
	}
}

// TestFollowersAge: who joins an answer that is under way hears how old it is.
func TestFollowersAge(t *testing.T) {
	t.Parallel()
	withCache(t, optedIn, false, func(*http.Request) (*http.Response, error) {
		resp := models("max-age=1000", "Age: 20")
		resp.Body = &script{pieces: []piece{at(`{"data":`), {10 * time.Second, `[]}`}}}
		return resp, nil
	}, func(t *testing.T, r *rig, _ *eventLog) {
		first := r.begin(r.models())
		<-time.After(4 * time.Second)
		second := r.do(r.models())
		synctest.Wait()
		if second.rec.Cache != gateway.CacheCoalesced || second.Header().Get("Age") != "24" || second.Body.String() != first.Body.String() {
			t.Errorf("%s, Age %s, %s", second.rec.Cache, second.Header().Get("Age"), second.Body)
		}
	})
}

// TestNoCacheIsNotJoined: an answer that must be confirmed before each use goes to nobody
// but who asked for it.
func TestNoCacheIsNotJoined(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	n := 0
	withCache(t, optedIn, false, func(*http.Request) (*http.Response, error) {
		mu.Lock()
		n++
		serial := n
		mu.Unlock()
		<-time.After(time.Second)
		return models("no-cache", fmt.Sprintf(`Etag: "%d"`, serial)), nil
	}, func(t *testing.T, r *rig, _ *eventLog) {
		var answers []*answer
		for range 3 {
			answers = append(answers, r.begin(r.models()))
			synctest.Wait()
		}
		<-time.After(5 * time.Second)
		synctest.Wait()
		tags := make(map[string]bool)
		for i, a := range answers {
			if tags[a.Header().Get("Etag")] = true; a.Code != http.StatusOK || a.rec.Cache != gateway.CacheMiss {
				t.Errorf("request %d: %d %s", i, a.Code, a.rec.Cache)
			}
		}
		if len(tags) != 3 || n != 3 {
			t.Errorf("the origin was asked %d times, want 3; answers: %s", n, strconv.Quote(fmt.Sprint(slices.Sorted(maps.Keys(tags)))))
		}
	})
}

// TestHoldsOfStaleAnswers: who gets a stale answer in place of a failed one has asked
// the provider all the same, and who gets a stored one has not.
func TestHoldsOfStaleAnswers(t *testing.T) {
	pool, own, l := newCachePool(t), project.Limits{MaxRequests: of(10)}, newLedger(t)
	defer pool.close()
	origin := []func() (*http.Response, error){
		func() (*http.Response, error) { return models("max-age=10, stale-if-error=1000", "Age: 20"), nil },
		func() (*http.Response, error) {
			return reply(http.StatusServiceUnavailable, "application/json", `{"error":{}}`), nil
		},
		func() (*http.Response, error) { return models("max-age=1000"), nil },
	}
	asked := 0
	r := newRig(t, setup{
		upstream: roundTripper(func(*http.Request) (*http.Response, error) { asked++; return origin[asked-1]() }),
		token:    func(tk *token.Token) { tk.Policy.Limits, tk.Version = own, 1 },
		gateway: func(c *gateway.Config) {
			c.Limits.Ledger = l
			c.Cache = &gateway.Cache{Store: pool, Fills: pool.fills, Rules: optedIn, Lease: func() fill.Lease { return unleased{} }}
		},
	})
	for i, want := range []struct {
		cache string
		used  int64
	}{{gateway.CacheMiss, 1}, {gateway.CacheStale, 2}, {gateway.CacheMiss, 3}, {gateway.CacheHit, 3}} {
		a := r.do(r.models())
		if a.Code != http.StatusOK || a.rec.Cache != want.cache {
			t.Errorf("request %d: %d, %s, want a %s", i, a.Code, a.rec.Cache, want.cache)
		}
		var b ledger.Balance
		for b = r.used(l, own); b.Held > 0; b = r.used(l, own) {
			runtime.Gosched()
		}
		if b.Used != want.used {
			t.Errorf("request %d: %d used, want %d", i, b.Used, want.used)
		}
	}
}
