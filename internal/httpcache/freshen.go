package httpcache

import (
	"net/http"
	"strings"
	"time"
)

// described are the fields that belong to the stored bytes: those of a 304 or of
// a HEAD speak of others (RFC 9111, 3.2).
var described = map[string]bool{
	"Content-Encoding": true, "Content-Length": true, "Content-Md5": true, "Content-Range": true, "Content-Digest": true,
	"Digest": true, "Repr-Digest": true, "Etag": true,
}

// Freshen is what a 304 makes of the stored response that we asked about.
//
// ok is false when the 304 does not speak of it (RFC 9111, 4.3.4): the stored
// response is no longer to be used, and the request to be repeated with
// ClearConditions. If ok, the client is answered from Verdict.Meta and the stored body,
// whatever Verdict.Store says; if not Store, the store drops what it has.
func Freshen(req *Request, stored *Meta, notModified http.Header, requestTime, responseTime time.Time, rules *Rules) (_ Verdict, ok bool) {
	if req.Method != http.MethodGet || !sameValidator(stored, notModified) {
		return Verdict{}, false
	}
	return update(req, stored, notModified, requestTime, responseTime, rules), true
}

// FreshenHead is what the 200 to a HEAD makes of the stored response to a GET
// (RFC 9111, 4.3.5). Not ok: it is out of date, and the store should drop it.
func FreshenHead(req *Request, stored *Meta, header http.Header, requestTime, responseTime time.Time, rules *Rules) (_ Verdict, ok bool) {
	if stored.Method != http.MethodGet || !sameValidator(stored, header) {
		return Verdict{}, false
	}
	if got := header["Content-Length"]; len(got) > 0 {
		have := stored.Header["Content-Length"]
		if len(have) != 1 || len(got) != 1 || strings.TrimSpace(have[0]) != strings.TrimSpace(got[0]) {
			return Verdict{}, false
		}
	}
	get := *req
	get.Method = http.MethodGet
	return update(&get, stored, header, requestTime, responseTime, rules), true
}

func update(req *Request, stored *Meta, fresh http.Header, requestTime, responseTime time.Time, rules *Rules) Verdict {
	merged := make(http.Header, len(stored.Header)+4)
	for name, values := range stored.Header {
		merged[name] = values
	}
	for name, values := range storedHeader(fresh, nil, rules.Fields) {
		if !described[name] {
			merged[name] = values
		}
	}
	v := judge(req, merged, fresh, requestTime, responseTime, rules)
	if !v.Store { // good for this once: the origin just said so
		v.Meta = *stored
		v.Meta.Header = storedHeader(merged, nil, rules.Fields)
		v.Meta.ResponseTime, v.Meta.InitialAge = responseTime.Round(0).UTC(), 0
	}
	return v
}
