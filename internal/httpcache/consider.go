package httpcache

import (
	"net/http"
	"strings"
	"time"
)

// Verdict is what becomes of a response.
type Verdict struct {
	Store  bool
	Reason Reason // why not
	Meta   Meta   // what to store with the body
	// Keep is how long the store may have to offer it: fresh, or stale where that
	// is allowed, or to be revalidated.
	Keep time.Duration
}

// Consider decides whether the answer to a request is stored. It knows the
// header alone: a body that turns out incomplete, too long, or an error in
// disguise, is the recorder's to discard.
//
// The times are when the request was sent and when the header had come.
func Consider(req *Request, status int, header http.Header, requestTime, responseTime time.Time, rules *Rules) Verdict {
	a := req.access(rules)
	switch {
	case !a.store && a.reason == ReasonNone: // HEAD
		return Verdict{Reason: ReasonMethod}
	case !a.store:
		return Verdict{Reason: a.reason}
	case status != http.StatusOK: // a 206 is a part, a 304 has no body, the rest may pass
		return Verdict{Reason: ReasonStatus}
	}
	return judge(req, header, header, requestTime, responseTime, rules)
}

// judge is Consider for a response that is complete by its status; fresh is the
// header that came with it just now, which may be a 304's.
func judge(req *Request, header, fresh http.Header, requestTime, responseTime time.Time, rules *Rules) Verdict {
	c := parseResponseControl(header["Cache-Control"])
	vary, star := ParseVary(header["Vary"])
	post := req.Method == http.MethodPost
	switch {
	case c.noStore: // with must-understand, too
		return Verdict{Reason: ReasonRespNoStore}
	case c.private && rules.Scope != Token:
		return Verdict{Reason: ReasonPrivate}
	case star:
		return Verdict{Reason: ReasonVaryStar}
	case rules.Scope == Shared && namesCredential(vary):
		return Verdict{Reason: ReasonVaryCred}
	case rules.Scope == Shared && !c.sharedMay() && !(post && req.shares(rules)):
		return Verdict{Reason: ReasonNotShared}
	case setsCookie(header["Set-Cookie"]), header["Set-Cookie2"] != nil:
		return Verdict{Reason: ReasonSetCookie}
	}
	// Providers send no-cache with every event stream, to keep intermediaries from
	// buffering. Of a GET, or of an answer in one piece, it is meant.
	if c.noCache = c.noCache && !(post && isEventStream(header)); c.noCache && post {
		return Verdict{Reason: ReasonRespNoCache} // and could not be revalidated
	}

	date, ok := parseDate(fresh["Date"])
	if !ok {
		date = responseTime
	}
	lifetime, explicit := explicitLifetime(&c, header, date)
	if post {
		lifetime, explicit = req.lifetime(rules, lifetime, explicit), true
	}
	m := Meta{
		Status: http.StatusOK, Method: req.Method, Vary: vary,
		Date: date.Round(0).UTC(), ResponseTime: responseTime.Round(0).UTC(),
		InitialAge: initialAge(req.Method, fresh, date, requestTime, responseTime),
		Lifetime:   lifetime, AlwaysConfirm: c.noCache, NeverStale: c.noStale(),
		IfError: c.staleIfError, WhileRefresh: c.staleWhileRevalidate,
	}
	promised := !m.NeverStale && max(c.staleIfError, c.staleWhileRevalidate) > 0
	if m.IfError == unset {
		m.IfError = rules.StaleIfError
	}
	if m.WhileRefresh == unset {
		m.WhileRefresh = rules.StaleWhileRevalidate
	}
	if m.NeverStale {
		m.IfError, m.WhileRefresh = 0, 0
	}
	m.Header = storedHeader(header, c.fields, rules.Fields)

	left := lifetime - m.InitialAge
	usable := left > 0 && !c.noCache
	validated := m.Validated() && (explicit || c.anything)
	if !usable && !validated && !promised {
		return Verdict{Reason: ReasonNoLifetime}
	}
	keep := max(0, left) + max(m.IfError, m.WhileRefresh)
	if validated {
		keep = max(keep, max(0, left)+rules.TTL)
	}
	if keep <= 0 {
		return Verdict{Reason: ReasonNoLifetime}
	}
	return Verdict{Store: true, Meta: m, Keep: keep}
}

// lifetime of a POST's response: what the client asked for, or the operator's;
// the response may shorten it, and nothing makes it longer than the operator's.
func (r *Request) lifetime(rules *Rules, says time.Duration, explicit bool) time.Duration {
	d := rules.TTL
	if n, ok := r.control.asked(); ok && rules.Mode == OptIn {
		d = min(d, n)
	}
	if explicit {
		d = min(d, says)
	}
	return d
}

// shares reports whether the response to a POST may go to everybody though it
// does not say so itself: the operator said it of every POST, or the client of
// its own.
func (r *Request) shares(rules *Rules) bool {
	return rules.Mode == Always || r.control.public || r.control.sMaxAge > 0
}

// infrastructureCookies are set by load balancers and bot filters on every answer,
// whoever asks: without them nothing that passes such a front would ever be stored.
var infrastructureCookies = map[string]bool{
	"__cf_bm": true, "_cfuvid": true, "__cflb": true, "__cfruid": true, "__cfwaitingroom": true, // Cloudflare
	"AWSALB": true, "AWSALBCORS": true, "AWSALBTG": true, "AWSALBTGCORS": true, "AWSELB": true, "AWSELBCORS": true,
	"GCLB": true, "ARRAffinity": true, "ARRAffinitySameSite": true, // Google, Azure
}

// setsCookie reports whether a response sets a cookie that may mean somebody.
func setsCookie(lines []string) bool {
	for _, line := range lines {
		name, _, _ := strings.Cut(line, "=")
		if !infrastructureCookies[strings.TrimSpace(name)] {
			return true
		}
	}
	return false
}

func isEventStream(header http.Header) bool {
	v := header["Content-Type"]
	if len(v) != 1 {
		return false
	}
	media, _, _ := strings.Cut(v[0], ";")
	return strings.EqualFold(strings.TrimSpace(media), "text/event-stream")
}
