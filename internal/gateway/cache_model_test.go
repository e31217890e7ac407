package gateway_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

// judge says what is wrong with an answer, from what the origin has said and when:
// nothing of how the cache decides. Empty: nothing.
//
// An answer has a body, which one answer of the origin, the source, has brought, and a
// header, which a later one may have renewed.
func (w *cacheWorld) judge(a *asked) string {
	renewal := w.bySerial(serialIn(a.sent.Get("Content-Location")))
	switch {
	case a.wants.onlyIfCached && a.method != http.MethodDelete && w.wasSent(a):
		return "the origin was asked for who wanted nothing but a stored answer"
	case renewal == nil && a.status != http.StatusOK && a.status != http.StatusNotModified:
		return "" // ours: an error, or nothing at all as the client had left
	case renewal == nil:
		return "an answer that the origin has not given"
	}
	direct := renewal.by == a
	if a.status != http.StatusOK && a.status != http.StatusNotModified || a.method == http.MethodDelete {
		if !direct {
			return "an error, or what an unsafe request got, for another request"
		}
		return ""
	}
	source := w.source(a, renewal)
	if source == nil {
		return "a body that the origin has not given"
	}
	if renewal != source && renewal.confirms != source.serial {
		return fmt.Sprintf("the header of %d with the body of %d", renewal.serial, source.serial)
	}
	if fault := a.wholeOf(source); fault != "" {
		return fault
	}
	if a.status == http.StatusNotModified && source.serial != a.has {
		return "not modified, but that is not what the client has"
	}
	if fault := a.told(renewal, direct); fault != "" {
		return fault
	}
	if direct && (renewal == source || a.status == http.StatusNotModified || a.method == http.MethodHead) {
		return "" // its own
	}
	if fault := w.reused(a, source); fault != "" {
		return fault
	}
	if direct {
		return "" // the origin has confirmed for this request that it is right
	}
	if renewal != source {
		if fault := w.mayBeKept(renewal, source); fault != "" {
			return "renewed: " + fault
		}
	}
	return w.stale(a, renewal)
}

func (w *cacheWorld) bySerial(serial int) *fetched {
	if serial < 1 || serial > len(w.fetched) {
		return nil
	}
	return w.fetched[serial-1]
}

func (w *cacheWorld) wasSent(a *asked) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.fetched {
		if f.by == a {
			return true
		}
	}
	return false
}

// source is where the body of an answer comes from, or would if it had one.
func (w *cacheWorld) source(a *asked, renewal *fetched) *fetched {
	serial := serialIn(a.body.String())
	if a.method != http.MethodHead && a.status == http.StatusOK && (serial > 0 || !a.aborted) { // else it was broken off before
		return w.bySerial(serial)
	}
	if serial = serialIn(a.sent.Get("ETag")); serial > 0 {
		return w.bySerial(serial)
	}
	return renewal
}

// wholeOf says whether an answer that looks complete is.
func (a *asked) wholeOf(source *fetched) string {
	switch {
	case a.method == http.MethodHead || a.status != http.StatusOK || a.aborted:
		return ""
	case source.ending == broken:
		return "complete, though the origin never sent all of it"
	case a.body.String() != source.body:
		return fmt.Sprintf("%d bytes of %d, and no sign of it", a.body.Len(), len(source.body))
	}
	return ""
}

// told holds what an answer says of itself against where it comes from.
func (a *asked) told(renewal *fetched, direct bool) string {
	status := a.sent.Get("Cache-Status")
	hit := strings.Contains(status, "; hit")
	if direct && hit {
		return "called a hit, and is none: " + status
	}
	if direct {
		return ""
	}
	if !hit && !strings.Contains(status, "collapsed") {
		return "called neither a hit nor collapsed: " + status
	}
	for _, name := range []string{"Set-Cookie", "X-Ratelimit-Remaining-Requests"} {
		if a.sent.Get(name) != "" {
			return name + " is another request's"
		}
	}
	if age, err := strconv.Atoi(a.sent.Get("Age")); hit && (err != nil || age < int(a.at.Sub(renewal.headAt)/time.Second)) {
		return "claims to be younger than it is"
	}
	return ""
}

// reused says why a request must not get what another one fetched, however
// fresh it is.
func (w *cacheWorld) reused(a *asked, source *fetched) string {
	by := source.by
	read := by.method
	if a.method == http.MethodHead && read == http.MethodGet {
		read = http.MethodHead
	}
	switch {
	case !w.shares(a, by):
		return "it is another partition's"
	case a.method != read || a.target != by.target || a.question != by.question || a.stream != by.stream || a.beta != by.beta:
		return "it answers another question"
	case strings.Contains(source.vary, "Accept-Language") && a.language != by.language, strings.Contains(source.vary, "Accept,") && a.accept != by.accept:
		return "it is another variant"
	case a.wants.noStore:
		return "the client wants nothing of the cache"
	case a.method == http.MethodPost && w.rules.Mode == httpcache.OptIn && a.wants.maxAge <= 0 && a.wants.sMaxAge <= 0 && !a.wants.onlyIfCached:
		return "the client has not asked for it"
	case (source.ending == short || source.ending == apology || source.long) && !source.endAt.IsZero() && a.begunAt.After(source.endAt):
		return "what was not whole, or too long, was stored: " + source.ending.String()
	}
	for _, p := range w.purged {
		if source.received < p.begun && p.ended < a.begun && w.selects(p.sel, source) {
			return "it was purged by " + p.sel.By.String()
		}
	}
	for _, f := range w.fetched {
		d := f.by
		if d.method == http.MethodDelete && !f.headAt.IsZero() && f.status >= 200 && f.status < 400 && d.over > 0 && d.over < a.begun &&
			source.received < f.received && d.target == by.target && d.beta == by.beta && w.shares(d, a) {
			return "it was made out of date by a DELETE"
		}
	}
	return w.mayBeKept(source, source)
}

// shares reports whether two requests are in one partition.
func (w *cacheWorld) shares(a, b *asked) bool {
	switch w.rules.Scope {
	case httpcache.Token:
		return a.tenant == b.tenant
	case httpcache.Project:
		return a.tenant.project == b.tenant.project
	}
	return true
}

// selects reports whether a purge is about what was fetched, whoever has had it
// confirmed since.
func (w *cacheWorld) selects(sel respcache.Selector, f *fetched) bool {
	switch sel.By {
	case respcache.ByAll:
		return true
	case respcache.ByProject:
		for _, other := range w.fetched {
			if other.confirms == f.serial && other.by.tenant.project != sel.Value {
				return false // it is now what another project was told
			}
		}
		return f.by.tenant.project == sel.Value
	case respcache.ByURL:
		return f.by.target == sel.Value
	case respcache.ByPrefix:
		return strings.HasPrefix(f.by.target, sel.Value)
	case respcache.ByModel:
		return f.by.method == http.MethodPost && sel.Value == "m1"
	}
	return false
}

// mayBeKept says why an answer must not be given to others than who asked for it.
// It may be one that only confirms the source.
func (w *cacheWorld) mayBeKept(f, source *fetched) string {
	by, s, post := f.by, &f.says, f.by.method == http.MethodPost
	shared := w.rules.Scope == httpcache.Shared
	switch {
	case f == source && f.status != http.StatusOK:
		return fmt.Sprintf("its status is %d", f.status)
	case s.noStore, by.wants.noStore:
		return "it must not be stored"
	case s.private && w.rules.Scope != httpcache.Token:
		return "it is private"
	case source.vary == "*":
		return "nobody knows what it varies on"
	case shared && source.vary == "Authorization":
		return "it varies on who asks"
	case strings.HasPrefix(source.cookie, "session"):
		return "it sets a cookie"
	case s.noCache && post && !by.stream:
		return "it is not to be used again"
	case post && w.rules.Mode == httpcache.OptIn && by.wants.maxAge <= 0 && by.wants.sMaxAge <= 0:
		return "who fetched it did not ask for it to be stored"
	case source.ending == unframed && !by.stream:
		return "nobody knows whether it is complete"
	case shared && !s.public && !s.mustRevalidate && s.sMaxAge == unsaid &&
		!(post && (w.rules.Mode == httpcache.Always || by.wants.public || by.wants.sMaxAge > 0)):
		return "nobody said that all may have it"
	}
	return ""
}

// seconds is a duration that was given as a number.
func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// life is for how long an answer is fresh.
func (w *cacheWorld) life(f *fetched) time.Duration {
	life, said := time.Duration(0), true
	switch s := &f.says; {
	case s.sMaxAge != unsaid:
		life = seconds(s.sMaxAge)
	case s.maxAge != unsaid:
		life = seconds(s.maxAge)
	case s.expires != unsaid:
		life = seconds(s.expires)
	default:
		said = false
	}
	if f.by.method != http.MethodPost {
		return life
	}
	if !said {
		life = w.rules.TTL
	}
	if w.rules.Mode == httpcache.OptIn {
		life = min(life, f.by.oldest())
	}
	return min(life, w.rules.TTL)
}

// oldest is the age up to which the client of a POST takes an answer that it asked
// to be stored.
func (a *asked) oldest() time.Duration {
	n := a.wants.maxAge
	if n == unsaid || a.wants.sMaxAge != unsaid && a.wants.sMaxAge < n {
		n = a.wants.sMaxAge
	}
	return seconds(n)
}

// stale says why an answer that another request got is too old for this one.
func (w *cacheWorld) stale(a *asked, f *fetched) string {
	c := &a.wants
	if c.noCache || c.pragma && c.String() == "" || c.maxAge == 0 {
		return "the client wants one of its own"
	}
	if f.headAt.IsZero() || !a.begunAt.After(f.headAt) {
		return "" // who asks before it arrives may have it
	}
	return w.tooOld(a, f)
}

func (w *cacheWorld) tooOld(a *asked, f *fetched) string {
	c, s := &a.wants, &f.says
	post := f.by.method == http.MethodPost
	when := a.begunAt
	age := when.Sub(f.headAt)
	if !post { // the time that it was on its way counts
		age = when.Sub(f.sentAt)
	}
	if f.age != unsaid {
		age += seconds(f.age)
	}
	left := w.life(f) - age
	forever := c.maxStale != unsaid && left > -seconds(c.maxStale)-1
	confirm := s.noCache && !(post && f.by.stream)
	never := s.mustRevalidate || s.sMaxAge != unsaid || confirm
	oldest := unsaid * time.Second
	switch {
	case post && w.rules.Mode == httpcache.OptIn:
		oldest = a.oldest()
	case c.maxAge != unsaid:
		oldest = seconds(c.maxAge)
	}
	if !confirm && (oldest < 0 || age <= oldest) {
		switch {
		case left > 0 && (c.minFresh == unsaid || left >= seconds(c.minFresh)):
			return ""
		case never || c.minFresh != unsaid:
		case forever, !(post && w.rules.Mode == httpcache.OptIn) && -left < w.window(s.whileRefresh, w.rules.StaleWhileRevalidate):
			return ""
		}
	}
	window := w.window(s.ifError, w.rules.StaleIfError)
	if c.ifError != unsaid {
		window = seconds(c.ifError)
	}
	if !never && c.minFresh == unsaid && -left < window && w.failedFor(a) {
		return ""
	}
	return fmt.Sprintf("it is %v old, and was fresh for %v", age, w.life(f))
}

func (w *cacheWorld) window(said int, otherwise time.Duration) time.Duration {
	if said != unsaid {
		return seconds(said)
	}
	return otherwise
}

// failedFor reports whether the origin has failed a request, or another one like it
// whose answer it waited for.
func (w *cacheWorld) failedFor(a *asked) bool {
	for _, f := range w.fetched {
		if (f.status == 0 || f.status >= 500) && !f.headAt.Before(a.begunAt) && !f.headAt.After(a.at) && f.by.target == a.target && w.shares(a, f.by) {
			return true
		}
	}
	return false
}

// count tells which kinds of answers there were.
func (w *cacheWorld) count(into map[string]int) {
	for _, a := range w.asked {
		if strings.Contains(a.target+a.question, "probe") {
			continue
		}
		into[a.rec.Cache]++
		if a.status == http.StatusNotModified && a.rec.Cache == gateway.CacheHit {
			into["not modified"]++
		}
	}
}
