package httpcache

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/sofatutor/caddy-llm-proxy/internal/glob"
)

// storable are the fields of a response that are stored, besides those with a
// prefix below: what describes the answer, and tells clients how to treat it.
// What tells of one exchange (its id, its time, the state of somebody's limits,
// the account that paid) is not among them. All keys are canonical.
var storable = map[string]bool{
	"Cache-Control": true, "Date": true, "Expires": true, "Etag": true, "Last-Modified": true, "Vary": true,
	"Accept-Ranges": true, "Digest": true, "Repr-Digest": true, "Link": true, "Deprecation": true, "Sunset": true,
	"Clear-Site-Data": true, "Permissions-Policy": true, "Public-Key-Pins": true, "Referrer-Policy": true,
	"X-Frame-Options": true, "X-Robots-Tag": true, "X-Xss-Protection": true,
	"Openai-Model": true, "Openai-Version": true,
}

var storablePrefixes = [...]string{"Content-", "X-Content-"}

// unstorable cannot be added by the operator either. All keys are canonical.
var unstorable = map[string]bool{
	// one connection's (RFC 9110, 7.6.1; RFC 9111, 3.1)
	"Connection": true, "Keep-Alive": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
	"Http2-Settings": true,
	// one client's
	"Set-Cookie": true, "Set-Cookie2": true, "Cookie": true, "Www-Authenticate": true, "Authentication-Info": true,
	"Authorization": true, "X-Api-Key": true, "Api-Key": true, "X-Goog-Api-Key": true,
	// one exchange's
	"Request-Id": true, "X-Request-Id": true, "Apim-Request-Id": true, "X-Ms-Request-Id": true, "X-Ms-Client-Request-Id": true,
	"X-Amzn-Requestid": true, "X-Amzn-Trace-Id": true, "X-Amz-Request-Id": true, "X-Correlation-Id": true, "X-Trace-Id": true, "Traceparent": true,
	"Tracestate": true, "Cf-Ray": true, "Server-Timing": true, "Openai-Processing-Ms": true, "X-Envoy-Upstream-Service-Time": true,
	"Retry-After": true, "Retry-After-Ms": true, "X-Should-Retry": true, "Via": true, "Timing-Allow-Origin": true,
	// one account's
	"Openai-Organization": true, "Openai-Project": true, "Anthropic-Organization-Id": true,
	// made anew
	"Age": true, "Cache-Status": true, "Warning": true,
}

var unstorablePrefixes = [...]string{
	"Proxy-", "Access-Control-", "X-Ratelimit-", "Ratelimit", "X-Rate-Limit-", "Anthropic-Ratelimit-", "X-Llm-Proxy-",
}

// Fields are response fields that the operator has stored besides the known ones.
type Fields struct{ patterns []string }

// ParseFields reads names, or patterns with * and ?. One that names nothing but
// what is never stored is an error; the others never store such a field either.
func ParseFields(patterns []string) (*Fields, error) {
	f := &Fields{patterns: make([]string, 0, len(patterns))}
	for _, p := range patterns {
		if !isToken(strings.ReplaceAll(p, "?", "x")) {
			return nil, fmt.Errorf("%q is not the name of a header field, nor a pattern with * and ?", p)
		}
		if never(http.CanonicalHeaderKey(p)) {
			return nil, fmt.Errorf("%q is never stored: it belongs to one client or one exchange", p)
		}
		f.patterns = append(f.patterns, strings.ToLower(p))
	}
	return f, nil
}

func never(name string) bool {
	return unstorable[name] || slices.ContainsFunc(unstorablePrefixes[:], func(p string) bool { return strings.HasPrefix(name, p) })
}

// stores takes canonical names.
func (f *Fields) stores(name string) bool {
	if never(name) {
		return false
	}
	if storable[name] || slices.ContainsFunc(storablePrefixes[:], func(p string) bool { return strings.HasPrefix(name, p) }) {
		return true
	}
	if f == nil || len(f.patterns) == 0 {
		return false
	}
	lower := strings.ToLower(name)
	return slices.ContainsFunc(f.patterns, func(p string) bool { return glob.Match(p, lower) })
}

// storedHeader is a copy of what may be stored of a response's header: not what
// Connection lists, nor what a qualified no-cache or private does.
func storedHeader(header http.Header, unwanted []string, fields *Fields) http.Header {
	out := make(http.Header, len(header))
	listed := header["Connection"]
	for name, values := range header {
		if !fields.stores(name) || listsField(listed, name) || slices.ContainsFunc(unwanted, func(u string) bool { return strings.EqualFold(u, name) }) {
			continue
		}
		out[name] = slices.Clone(values)
	}
	return out
}

// listsField reports whether a comma-separated header lists a field, in any case.
func listsField(lines []string, name string) bool {
	for _, line := range lines {
		for member := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(member), name) {
				return true
			}
		}
	}
	return false
}
