package httpcache

import (
	"net/http"
	"strings"
)

// SetConditions makes an outbound request ask whether the stored response is
// still good (RFC 9111, 4.3.1). The client's own conditions go: its 304 could
// not be told from ours.
func SetConditions(outbound http.Header, stored *Meta) {
	ClearConditions(outbound)
	if etag := stored.ETag(); etag != "" {
		outbound["If-None-Match"] = []string{etag}
	}
	if v := stored.Header["Last-Modified"]; len(v) == 1 {
		outbound["If-Modified-Since"] = []string{v[0]}
	}
}

// ClearConditions makes an outbound request ask for the response itself.
func ClearConditions(outbound http.Header) {
	delete(outbound, "If-None-Match")
	delete(outbound, "If-Modified-Since")
}

// NotModified reports whether the client's conditions say that it has the stored
// response (RFC 9111, 4.3.2): a 304 is enough then.
func NotModified(req *Request, stored *Meta) bool {
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		return false
	}
	if lines, ok := req.Header["If-None-Match"]; ok { // and If-Modified-Since says nothing (RFC 9110, 13.1.3)
		return matches(lines, stored.ETag())
	}
	since, ok := parseDate(req.Header["If-Modified-Since"])
	if !ok {
		return false
	}
	modified, ok := parseDate(stored.Header["Last-Modified"])
	if !ok {
		modified = stored.Date
	}
	return !modified.After(since)
}

// matches compares a list of entity tags weakly (RFC 9110, 13.1.2) with a stored
// one. * is whatever there is.
func matches(lines []string, etag string) bool {
	if len(lines) == 1 && strings.Trim(lines[0], " \t") == "*" {
		return true
	}
	want, _, rest, ok := cutETag(etag)
	if !ok || rest != "" {
		return false
	}
	for _, line := range lines {
		for {
			line = strings.TrimLeft(line, " \t,")
			tag, _, rest, ok := cutETag(line)
			if !ok {
				break // what follows something malformed cannot be trusted
			}
			rest = strings.TrimLeft(rest, " \t")
			if rest != "" && rest[0] != ',' {
				break
			}
			if tag == want {
				return true
			}
			line = rest
		}
	}
	return false
}

// cutETag reads the entity tag that s begins with: its opaque part, quotes included.
func cutETag(s string) (opaque string, weak bool, rest string, ok bool) {
	if len(s) > 1 && s[0] == 'W' && s[1] == '/' {
		weak, s = true, s[2:]
	}
	if s == "" || s[0] != '"' {
		return "", false, "", false
	}
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return s[:i+1], weak, s[i+1:], true
		case c < 0x21 || c == 0x7f:
			return "", false, "", false
		}
	}
	return "", false, "", false
}

// sameValidator reports whether a 304 speaks of the stored response (RFC 9111,
// 4.3.4): its strong tag is the stored one, or it has a weak one, or a date, that
// is the stored one's, or no validator at all and can mean nothing else, since
// we named one response only.
func sameValidator(stored *Meta, header http.Header) bool {
	if lines := header["Etag"]; len(lines) > 0 {
		if len(lines) > 1 {
			return false
		}
		got, gotWeak, gotRest, ok := cutETag(strings.TrimSpace(lines[0]))
		have, haveWeak, haveRest, stores := cutETag(stored.ETag())
		if !ok || !stores || gotRest != "" || haveRest != "" { // unquoted: by its bytes
			return lines[0] == stored.ETag()
		}
		return got == have && (gotWeak || !haveWeak)
	}
	if lines := header["Last-Modified"]; len(lines) > 0 {
		got, ok := parseDate(lines)
		have, stores := parseDate(stored.Header["Last-Modified"])
		return ok && stores && got.Equal(have)
	}
	return true
}
