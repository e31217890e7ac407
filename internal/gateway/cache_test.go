package gateway_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

// step is something that happens in a history: a request or several at once, time
// that passes, or a purge.
type step struct {
	asked []*asked
	who   []int // of the world's tenants, in the order of asked
	had   bool  // they have what their tenant got last
	purge respcache.By
	wait  time.Duration
}

// nothing is a client that wants nothing of a cache.
var nothing = wants{maxAge: unsaid, sMaxAge: unsaid, minFresh: unsaid, maxStale: unsaid, ifError: unsaid}

// silent is an origin that says nothing of caches.
var silent = says{maxAge: unsaid, sMaxAge: unsaid, expires: unsaid, ifError: unsaid, whileRefresh: unsaid}

func one[T any](rt *rapid.T, label string, of ...T) T { return rapid.SampledFrom(of).Draw(rt, label) }

func rarely(rt *rapid.T, label string) bool { return rapid.IntRange(0, 7).Draw(rt, label) == 7 }

// mostly is the usual, and now and then something else.
func mostly[T any](rt *rapid.T, label string, usual T, others ...T) T {
	if !rarely(rt, label) {
		return usual
	}
	return one(rt, label, others...)
}

func drawSays(rt *rapid.T) says {
	s := silent
	s.maxAge = one(rt, "max-age", 3, 3, 10, 3, 10, 0, unsaid)
	s.public = one(rt, "public", true, true, false)
	if one(rt, "more said", false, false, true) {
		s.sMaxAge, s.expires = one(rt, "s-maxage", unsaid, unsaid, 0, 5), one(rt, "expires", unsaid, 4)
		s.ifError, s.whileRefresh = one(rt, "if-error", unsaid, unsaid, 0, 5), one(rt, "while", unsaid, unsaid, 4)
		s.noStore, s.noCache, s.private = rarely(rt, "no-store"), rarely(rt, "no-cache"), rarely(rt, "private")
		s.mustRevalidate = rarely(rt, "must-revalidate")
	}
	return s
}

func drawWants(rt *rapid.T, method string) wants {
	c := nothing
	if method == http.MethodPost {
		c.maxAge, c.public = one(rt, "wanted age", 10, 10, 3, 60, 60, unsaid), one(rt, "wanted public", true, true, false)
	}
	if one(rt, "more wanted", false, false, false, true) {
		c.maxAge, c.sMaxAge = one(rt, "max-age=", c.maxAge, 2, 0), one(rt, "s-maxage=", unsaid, unsaid, 4)
		c.minFresh, c.maxStale = one(rt, "min-fresh=", unsaid, unsaid, 2), one(rt, "max-stale=", unsaid, unsaid, 6)
		c.ifError = one(rt, "stale-if-error=", unsaid, unsaid, 0, 5)
		c.noStore, c.noCache, c.onlyIfCached = rarely(rt, "want no-store"), rarely(rt, "want no-cache"), rarely(rt, "only-if-cached")
		c.pragma = rarely(rt, "pragma")
	}
	return c
}

func drawPlan(rt *rapid.T, method string, stream bool) plan {
	p := plan{says: drawSays(rt), status: http.StatusOK, age: unsaid, etag: one(rt, "etag", true, true, false), confirm: one(rt, "confirm", true, false)}
	p.vary = mostly(rt, "vary", "", "Accept-Language", "Accept, Accept-Language", "Authorization", "*")
	if method == http.MethodPost && one(rt, "as providers", true, false) {
		p.says = silent
	}
	if one(rt, "slow", false, false, true) {
		p.wait, p.pause = one(rt, "wait", 0, 20*time.Millisecond, 2*time.Second), one(rt, "pause", 0, time.Second, 4*time.Second)
	}
	switch one(rt, "trouble", "", "", "", "", "", "", "status", "ending", "ending", "cookie", "age", "long") {
	case "status":
		p.status = one(rt, "status", 0, 500, 503, 404, 429, 201)
	case "cookie":
		p.cookie = one(rt, "cookie", "session=1", "__cf_bm=1")
	case "age":
		p.age = 2
	case "long":
		p.long = true
	case "ending":
		switch {
		case stream:
			p.ending = one(rt, "ending", broken, short, short, apology)
		case method == http.MethodPost:
			p.ending = one(rt, "ending", broken, apology, unframed)
		default:
			p.ending = one(rt, "ending", broken, unframed)
		}
	}
	return p
}

func drawStep(rt *rapid.T) step {
	switch one(rt, "step", "ask", "ask", "ask", "ask", "ask", "ask", "ask", "wait", "wait", "wait", "wait", "purge") {
	case "wait":
		return step{wait: one(rt, "time", time.Millisecond, time.Second, 2*time.Second, 3*time.Second, 7*time.Second)}
	case "purge":
		return step{purge: one(rt, "by", respcache.ByAll, respcache.ByProject, respcache.ByURL, respcache.ByPrefix, respcache.ByModel)}
	}
	a := asked{method: mostly(rt, "method", one(rt, "method", http.MethodGet, http.MethodPost), http.MethodHead, http.MethodHead, http.MethodDelete)}
	a.target = mostly(rt, "target", "/v1/models/a", "/v1/models/b")
	if a.method == http.MethodPost {
		a.target, a.question, a.stream = chatPath, mostly(rt, "question", "q1", "q2"), one(rt, "stream", true, false)
	}
	s := step{}
	if a.method == http.MethodGet || a.method == http.MethodHead {
		s.had = one(rt, "conditional", false, false, true)
	}
	for range one(rt, "at once", 1, 1, 1, 2, 3) {
		b := a
		b.spelling = one(rt, "spelling", 0, 1)
		b.wants, b.plan = drawWants(rt, a.method), drawPlan(rt, a.method, a.stream)
		b.language, b.accept, b.beta = mostly(rt, "language", "en", "de", ""), mostly(rt, "accept", "", "x/y"), mostly(rt, "beta", "", "b")
		b.leave = mostly(rt, "leave", 0, time.Second)
		s.asked, s.who = append(s.asked, &b), append(s.who, one(rt, "who", 0, 0, 0, 0, 1, 2))
	}
	return s
}

// TestCacheHistories has random clients ask random origins through a cache, and holds
// each answer against what was permitted.
func TestCacheHistories(t *testing.T) {
	t.Parallel()
	seen := make(map[string]int)
	rapid.Check(t, func(rt *rapid.T) { cacheHistory(t, rt, seen) })
	t.Logf("%v", seen)
	for _, kind := range []string{gateway.CacheHit, gateway.CacheStale, gateway.CacheMiss, gateway.CacheRevalidated, gateway.CacheCoalesced, gateway.CacheBypass, "not modified"} {
		if seen[kind] == 0 && !t.Failed() {
			t.Errorf("no answer was a case of %q", kind)
		}
	}
}

// cacheHistory draws a history, lives it, and judges it. It counts in seen what there was.
func cacheHistory(t *testing.T, rt *rapid.T, seen map[string]int) {
	rules := httpcache.Rules{
		Mode: one(rt, "mode", httpcache.OptIn, httpcache.Always), Scope: one(rt, "scope", httpcache.Project, httpcache.Token, httpcache.Shared),
		TTL: one(rt, "ttl", 5*time.Second, 30*time.Second), StaleIfError: one(rt, "stale_if_error", 0, 6*time.Second),
		StaleWhileRevalidate: one(rt, "stale_while_revalidate", 0, 0, 3*time.Second),
	}
	paced := one(rt, "paced", false, true)
	steps := rapid.SliceOfN(rapid.Custom(drawStep), 20, 60).Draw(rt, "steps")
	var faults string
	synctest.Test(t, func(t *testing.T) {
		w := newCacheWorld(t, rules, paced)
		defer w.close()
		for i, s := range steps {
			if err := w.take(s); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if i%20 == 19 {
				faults += w.probe(i)
			}
		}
		w.serving.Wait()
		synctest.Wait()
		for _, a := range w.asked {
			if fault := w.judge(a); fault != "" {
				faults += fmt.Sprintf("\n%s: %s", w.tell(a), fault)
			}
		}
		w.count(seen)
	})
	if faults != "" {
		rt.Fatalf("%+v:%s", rules, faults)
	}
}

// TestCacheRepeats: who asks again what is fresh gets what is stored, and who asks
// while it is on its way waits for it, in every mode and scope.
func TestCacheRepeats(t *testing.T) {
	t.Parallel()
	for _, mode := range []httpcache.Mode{httpcache.OptIn, httpcache.Always} {
		for _, scope := range []httpcache.Scope{httpcache.Project, httpcache.Token, httpcache.Shared} {
			synctest.Test(t, func(t *testing.T) {
				w := newCacheWorld(t, httpcache.Rules{Mode: mode, Scope: scope, TTL: time.Minute}, false)
				defer w.close()
				if faults := w.probe(1); faults != "" {
					t.Errorf("mode %d, scope %d:%s", mode, scope, faults)
				}
				for _, method := range []string{http.MethodGet, http.MethodPost} {
					first := w.plain(method, 2, method == http.MethodPost)
					first.plan.wait = time.Second
					second := first
					w.ask(&first)
					synctest.Wait()
					w.ask(&second)
					w.serving.Wait()
					if w.wasSent(&second) || second.rec.Cache != gateway.CacheCoalesced || second.body.String() != first.body.String() {
						t.Errorf("mode %d, scope %d: %s", mode, scope, w.tell(&second))
					}
				}
			})
		}
	}
}

// TestCacheMeanwhile: what was asked for before a purge or a DELETE and arrives after
// it is not stored, whether or not others might have joined it.
func TestCacheMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newCacheWorld(t, httpcache.Rules{Mode: httpcache.OptIn, Scope: httpcache.Project, TTL: time.Minute}, false)
		defer w.close()
		for n, event := range []string{"purge", "DELETE"} {
			for k, way := range []string{"joined", "alone", "HEAD"} {
				first := w.plain(http.MethodGet, 4*k+n, false)
				first.plan.etag = true
				slow, unsafe, last := first, first, first
				slow.plan.wait, slow.plan.pause, slow.plan.confirm = time.Second, 2*time.Second, true
				slow.wants.noCache = way == "alone"
				if unsafe.method = http.MethodDelete; way == "HEAD" {
					slow.method, slow.wants.noCache = http.MethodHead, true
					w.ask(&first)
					w.serving.Wait()
				}
				w.ask(&slow)
				<-time.After(time.Second / 2)
				if event == "DELETE" {
					w.ask(&unsafe)
				} else if err := w.purge(respcache.Selector{By: respcache.ByURL, Value: first.target}); err != nil {
					t.Fatal(err)
				}
				w.serving.Wait()
				w.ask(&last)
				w.serving.Wait()
				if last.rec.Cache != gateway.CacheMiss || !w.wasSent(&last) {
					t.Errorf("%s, %s: %s", event, way, w.tell(&last))
				}
			}
		}
	})
}

// take does what a step says.
func (w *cacheWorld) take(s step) error {
	if s.wait > 0 {
		<-time.After(s.wait)
		return nil
	}
	if s.purge != 0 {
		sel := respcache.Selector{By: s.purge}
		switch s.purge {
		case respcache.ByProject:
			sel.Value = w.tenants[0].project
		case respcache.ByURL:
			sel.Value = "/v1/models/a"
		case respcache.ByPrefix:
			sel.Value = "/v1/mod"
		case respcache.ByModel:
			sel.Value = "m1"
		}
		return w.purge(sel)
	}
	for i, a := range s.asked {
		a := *a // rapid may draw the step once and take it twice
		a.tenant = w.tenants[s.who[i]]
		if s.had {
			a.has = w.latest(&a)
		}
		w.ask(&a)
	}
	return nil
}

// latest is what a tenant has got last from where it asks.
func (w *cacheWorld) latest(a *asked) (serial int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, other := range w.asked {
		if other.tenant == a.tenant && other.target == a.target && other.over > 0 && other.status == http.StatusOK {
			serial = max(serial, serialIn(other.sent.Get("ETag")))
		}
	}
	return serial
}

// plain is a request that nobody has made before, for an answer that anybody may have.
func (w *cacheWorld) plain(method string, n int, stream bool) asked {
	a := asked{method: method, target: fmt.Sprint("/v1/models/probe", n), tenant: w.tenants[n%4], wants: nothing}
	if method == http.MethodPost {
		a.target, a.question, a.stream = chatPath, fmt.Sprint("probe", n), stream
		a.wants.maxAge, a.wants.public = 10, true
	}
	a.plan = plan{says: silent, age: unsaid, status: http.StatusOK}
	a.plan.says.maxAge, a.plan.says.public = 10, true
	return a
}

// probe asks twice, and says what is wrong if the second answer is not the first
// one.
func (w *cacheWorld) probe(n int) (faults string) {
	for _, first := range []asked{w.plain(http.MethodGet, n, false), w.plain(http.MethodPost, n, false), w.plain(http.MethodPost, n, true)} {
		second := first
		w.ask(&first)
		synctest.Wait()
		second.spelling = 1
		w.ask(&second)
		synctest.Wait()
		if second.rec.Cache != gateway.CacheHit || second.body.String() != first.body.String() || w.wasSent(&second) {
			faults += "\nnot what is stored: " + w.tell(&second)
		}
	}
	return faults
}

// tell describes a request and its answer.
func (w *cacheWorld) tell(a *asked) string {
	text := fmt.Sprintf("#%d %s of %s %s%s [%s] beta %q, at %s: %d [%s] %q", a.id, a.method, a.tenant.name, a.target, a.question, a.wants,
		a.beta, a.begunAt.Format("05.000"), a.status, a.sent.Get("Cache-Status"), a.body.String())
	for _, serial := range []int{serialIn(a.sent.Get("Content-Location")), serialIn(a.sent.Get("ETag"))} {
		if f := w.bySerial(serial); f != nil {
			text += fmt.Sprintf("\n\tserial %d for #%d of %s, sent %s, headed %s, ended %s, [%s] confirms %d %+v",
				f.serial, f.by.id, f.by.tenant.name, f.sentAt.Format("05.000"), f.headAt.Format("05.000"), f.endAt.Format("05.000"), f.says, f.confirms, f.plan)
		}
	}
	return text
}
