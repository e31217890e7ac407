package gateway_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// unsaid is a number of seconds that nobody gave.
const unsaid = -1

// says is what an origin says of its answer.
type says struct {
	maxAge, sMaxAge, expires, ifError, whileRefresh   int
	noStore, noCache, private, public, mustRevalidate bool
}

func (s says) String() string {
	return directives(map[string]int{
		"max-age": s.maxAge, "s-maxage": s.sMaxAge, "stale-if-error": s.ifError, "stale-while-revalidate": s.whileRefresh,
	}, map[string]bool{
		"no-store": s.noStore, "no-cache": s.noCache, "private": s.private, "public": s.public, "must-revalidate": s.mustRevalidate,
	})
}

// wants is what a client wants of a cache.
type wants struct {
	maxAge, sMaxAge, minFresh, maxStale, ifError int
	noStore, noCache, onlyIfCached, public       bool
	pragma                                       bool
}

func (c wants) String() string {
	return directives(map[string]int{
		"max-age": c.maxAge, "s-maxage": c.sMaxAge, "min-fresh": c.minFresh, "max-stale": c.maxStale, "stale-if-error": c.ifError,
	}, map[string]bool{"no-store": c.noStore, "no-cache": c.noCache, "only-if-cached": c.onlyIfCached, "public": c.public})
}

func directives(seconds map[string]int, words map[string]bool) string {
	var out []string
	for name, n := range seconds {
		if n != unsaid {
			out = append(out, name+"="+strconv.Itoa(n))
		}
	}
	for name, said := range words {
		if said {
			out = append(out, name)
		}
	}
	return strings.Join(out, ", ")
}

// ending is how a body ends.
type ending int

const (
	whole    ending = iota
	broken          // the connection breaks in the middle
	short           // a stream ends properly, without its last event
	apology         // an error in the disguise of a success
	unframed        // nobody can tell whether it is complete
)

func (e ending) String() string {
	return [...]string{"whole", "broken", "short", "apology", "unframed"}[e]
}

// plan is what the origin does.
type plan struct {
	says    says
	vary    string
	etag    bool
	confirm bool // what a conditional request or a HEAD asks about is still right
	cookie  string
	age     int // what a cache before us says; unsaid: there is none
	status  int // 0: there is no answer
	ending  ending
	long    bool          // longer than what is stored
	wait    time.Duration // for the header
	pause   time.Duration // in the middle of the body
}

// text is an answer's body, which tells its serial and for whom it was made.
func (f *fetched) text() string {
	filler := ""
	if f.long {
		filler = strings.Repeat(" and so on", maxCached/10+1)
	}
	says := fmt.Sprintf("serial %d for %s%s", f.serial, f.by.tenant.name, filler)
	const tokens = `"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}`
	switch {
	case f.status != http.StatusOK || f.by.method == http.MethodPost && f.ending == apology && !f.by.stream:
		return `{"error":{"message":"` + says + `","type":"server_error"}}`
	case f.by.method != http.MethodPost:
		return `{"object":"model","id":"` + says + `"}`
	case !f.by.stream:
		return `{"id":"chatcmpl-1","model":"m1","choices":[{"index":0,"message":{"role":"assistant","content":"` + says + `"}}],` + tokens + `}`
	}
	text := `data: {"id":"chatcmpl-1","model":"m1","choices":[{"index":0,"delta":{"content":"` + says + `"}}]}` + "\n\n" +
		`data: {"id":"chatcmpl-1","model":"m1","choices":[],` + tokens + "}\n\n"
	switch f.ending {
	case short:
		return text
	case apology:
		text += `data: {"error":{"message":"overloaded","type":"server_error"}}` + "\n\n"
	}
	return text + doneFrame
}

// settle decides what an answer to a question about another one says.
func (f *fetched) settle(req *http.Request, all []*fetched) {
	if f.status != http.StatusOK || !f.confirm {
		return
	}
	switch f.by.method {
	case http.MethodGet:
		if f.confirms = serialIn(req.Header.Get("If-None-Match")); f.confirms == 0 {
			return
		}
		f.status = http.StatusNotModified
	case http.MethodHead:
		for _, other := range all {
			if other.by.method == http.MethodGet && other.by.target == f.by.target && other.status == http.StatusOK && other.etag {
				f.confirms = other.serial
			}
		}
		if f.confirms == 0 {
			return
		}
		f.body = all[f.confirms-1].body
	default:
		return
	}
	if f.says.maxAge == unsaid && f.says.sMaxAge == unsaid { // else what was said before would still hold
		f.says.maxAge = 2
	}
}

// describe writes an answer's header.
func (f *fetched) describe(h http.Header) {
	now := time.Now().UTC()
	h.Set("Date", now.Format(http.TimeFormat))
	h.Set("Content-Location", fmt.Sprint("/serials/", f.serial)) // is stored, and there in every 304
	h.Set("X-Ratelimit-Remaining-Requests", strconv.Itoa(f.serial))
	if text := f.says.String(); text != "" {
		h.Set("Cache-Control", text)
	}
	if f.age != unsaid {
		h.Set("Age", strconv.Itoa(f.age))
	}
	switch {
	case f.confirms > 0:
		h.Set("ETag", etagOf(f.confirms))
	case f.etag || f.by.method == http.MethodHead: // what has none there confirms whatever is as long
		h.Set("ETag", etagOf(f.serial))
	}
	if f.by.method == http.MethodHead {
		h.Set("Content-Length", strconv.Itoa(len(f.body)))
	}
	if f.confirms > 0 {
		return // the rest has not changed
	}
	if f.says.expires != unsaid {
		h.Set("Expires", now.Add(time.Duration(f.says.expires)*time.Second).Format(http.TimeFormat))
	}
	if f.vary != "" {
		h.Set("Vary", f.vary)
	}
	if f.cookie != "" {
		h.Set("Set-Cookie", f.cookie)
	}
	if f.by.stream && f.status == http.StatusOK {
		h.Set("Content-Type", "text/event-stream")
	}
}
