package gateway

import (
	"net/http"
	"strconv"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
)

// addHeaders adds what a client may know about how it was served and what it has
// left. All values are cut from one text and lie in one array.
func (x *exchange) addHeaders(h http.Header) {
	if x.fetching { // each client gets its own
		return
	}
	a := answerHeaders{header: h, text: x.text[:0]}
	a.describe(x)
	a.write()
}

// addStored does so for an answer of the cache, whose body has a length unless that is
// negative.
func (x *exchange) addStored(h http.Header, m *httpcache.Meta, length int) {
	a := answerHeaders{header: h, text: x.text[:0]}
	a.text = m.AppendAge(a.text, time.Now())
	a.ended("Age")
	if length >= 0 {
		a.text = strconv.AppendInt(a.text, int64(length), 10)
		a.ended("Content-Length")
	}
	a.text = x.cached.status.AppendTo(a.text, h["Cache-Status"])
	a.ended("Cache-Status")
	a.describe(x)
	a.write()
}

func (a *answerHeaders) describe(x *exchange) {
	if !x.g.cfg.HideHeaders {
		a.expose(x)
	}
	a.quota(x.dialect(), &requestNames, &x.requests)
	a.quota(x.dialect(), &tokenNames, &x.tokens)
}

// answerHeaders collects headers of one value each.
type answerHeaders struct {
	header http.Header
	text   []byte
	lines  [maxLines]headerLine
	n      int
}

// headerLine is a header with the end of its value in the text; it begins where
// the one before ends.
type headerLine struct {
	name string
	end  int
}

// maxLines is how many headers there may be: three of the cache, an id, the provider,
// the attempts, the timing, and three of each kind of limit in two dialects.
const maxLines = 3 + 4 + 2*3*2

// headerText is how long their values are together, mostly.
const headerText = 384

// ended says that the value of a header is in the text.
func (a *answerHeaders) ended(name string) {
	a.lines[a.n] = headerLine{name, len(a.text)}
	a.n++
}

// write puts the headers in.
func (a *answerHeaders) write() {
	if a.n == 0 {
		return
	}
	text, values := string(a.text), make([]string, a.n)
	from := 0
	for i, l := range a.lines[:a.n] {
		values[i] = text[from:l.end]
		from = l.end
		if theirs := a.header[l.name]; l.name == serverTiming && theirs != nil {
			a.header[l.name] = append(theirs, values[i])
		} else {
			a.header[l.name] = values[i : i+1 : i+1]
		}
	}
}

const serverTiming = "Server-Timing"

func (a *answerHeaders) expose(x *exchange) {
	a.text = append(a.text, x.rec.RequestID...)
	a.ended("X-Llm-Proxy-Request-Id")
	if x.rec.Provider != "" {
		a.text = append(a.text, x.rec.Provider...)
		a.ended("X-Llm-Proxy-Provider")
	}
	a.text = strconv.AppendInt(a.text, int64(x.rec.Attempts), 10)
	a.ended("X-Llm-Proxy-Attempts")
	a.text = append(a.text, "llm-proxy;dur="...)
	a.text = appendMillis(a.text, time.Since(x.rec.Started)-x.rec.Upstream)
	if x.rec.Attempts > 0 {
		a.text = append(a.text, ", upstream;dur="...)
		a.text = appendMillis(a.text, x.rec.Upstream)
	}
	a.ended(serverTiming)
}

func appendMillis(b []byte, d time.Duration) []byte {
	return strconv.AppendFloat(b, float64(max(d, 0))/float64(time.Millisecond), 'f', 3, 64)
}

// quotaNames are the headers of one kind of limit, as OpenAI and as Anthropic have
// them: https://platform.openai.com/docs/guides/rate-limits,
// https://docs.anthropic.com/en/api/rate-limits.
type quotaNames struct{ limit, remaining, reset, theirLimit, theirRemaining, theirReset string }

var (
	requestNames = quotaNames{
		"X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests",
		"Anthropic-Ratelimit-Requests-Limit", "Anthropic-Ratelimit-Requests-Remaining", "Anthropic-Ratelimit-Requests-Reset",
	}
	tokenNames = quotaNames{
		"X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens",
		"Anthropic-Ratelimit-Tokens-Limit", "Anthropic-Ratelimit-Tokens-Remaining", "Anthropic-Ratelimit-Tokens-Reset",
	}
)

// quota tells of a limit, unless the provider's own is tighter: whoever goes by
// the headers must stay within both.
func (a *answerHeaders) quota(d apierr.Dialect, names *quotaNames, q *limit.Quota) {
	if !q.Present {
		return
	}
	if a.number(names.limit, q.Limit); a.number(names.remaining, q.Remaining) {
		a.text = appendReset(a.text, q.Reset)
		a.ended(names.reset)
	}
	if d != apierr.Anthropic {
		return
	}
	if a.number(names.theirLimit, q.Limit); a.number(names.theirRemaining, q.Remaining) {
		a.text = time.Now().Add(q.Reset).UTC().AppendFormat(a.text, time.RFC3339)
		a.ended(names.theirReset)
	}
}

// number adds a number, unless the provider has given a lower one.
func (a *answerHeaders) number(name string, n int64) (ours bool) {
	if theirs := a.header[name]; len(theirs) > 0 {
		if other, err := strconv.ParseInt(theirs[0], 10, 64); err == nil && other < n {
			return false
		}
	}
	a.text = strconv.AppendInt(a.text, n, 10)
	a.ended(name)
	return true
}

// appendReset writes a time as OpenAI does: 6m0s, 1.5s, 20ms.
func appendReset(b []byte, d time.Duration) []byte {
	return append(b, d.Round(time.Millisecond).String()...)
}
