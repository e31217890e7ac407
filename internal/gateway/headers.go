package gateway

import (
	"net/http"
	"strings"

	"github.com/sofatutor/caddy-llm-proxy/internal/glob"
)

// forwardedExact are the client headers that reach a provider, besides those
// with a prefix below. All keys are canonical.
var forwardedExact = map[string]bool{
	"Accept": true, "Accept-Language": true, "Accept-Charset": true,
	"Range": true, "If-Range": true, "If-Match": true, "If-None-Match": true, "If-Modified-Since": true, "If-Unmodified-Since": true,
	"Cache-Control": true, "User-Agent": true, "Idempotency-Key": true, "Openai-Beta": true,
	"Content-Type": true, "Content-Language": true, "Content-Disposition": true, "Content-Md5": true, "Content-Digest": true, "Content-Range": true,
}

var forwardedPrefixes = [...]string{"Anthropic-", "X-Stainless-", "X-Claude-Code-", "X-Goog-"}

// neverForwarded cannot be added by forward_headers: credentials, what tells
// of the client or of us, and what belongs to one connection (RFC 9110, 7.6.1).
var neverForwarded = map[string]bool{
	"Authorization": true, "Proxy-Authorization": true, "Proxy-Authenticate": true, "X-Api-Key": true, "Api-Key": true,
	"X-Goog-Api-Key": true, "X-Goog-Iam-Authorization-Token": true, "Cookie": true, "Cookie2": true, "Set-Cookie": true,
	"Connection": true, "Proxy-Connection": true, "Keep-Alive": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
	"Http2-Settings": true, "Via": true, "Forwarded": true, "Forwarded-For": true, "X-Original-Forwarded-For": true,
	"X-Real-Ip": true, "X-Client-Ip": true, "Client-Ip": true, "X-Remote-Ip": true, "X-Remote-Addr": true, "True-Client-Ip": true,
	"Cf-Connecting-Ip": true, "Cf-Connecting-Ipv6": true, "Cf-Ipcountry": true, "Fastly-Client-Ip": true, "Fly-Client-Ip": true,
	"X-Cluster-Client-Ip": true, "X-Envoy-External-Address": true, "X-Azure-Clientip": true, "X-Azure-Socketip": true, "X-Appengine-User-Ip": true,
	"Host": true, "Content-Length": true, "Content-Encoding": true, "Accept-Encoding": true, "Expect": true, "Early-Data": true,
	"Alt-Used": true,
}

var neverForwardedPrefixes = [...]string{"X-Forwarded", "X-Llm-Proxy-", "Sec-", "Proxy-", ":"}

// responseDropped are the provider's headers that speak of its own connection
// or host and would mean something else coming from ours.
var responseDropped = map[string]bool{
	"Connection": true, "Proxy-Connection": true, "Keep-Alive": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
	"Proxy-Authenticate": true, "Alt-Svc": true, "Strict-Transport-Security": true,
}

var identity = []string{"identity"}

// outboundHeader makes the header that the provider sees, short of its
// credential: an allow-list of the client's, never the client's map itself.
func (g *Gateway) outboundHeader(in http.Header, upload bool) http.Header {
	out := make(http.Header, len(in)+2)
	listed := in["Connection"]
	for name, values := range in {
		if g.sends(name, listed, upload) {
			out[name] = values
		}
	}
	out["Accept-Encoding"] = identity // usage is read from the bytes that pass
	if _, ok := out["User-Agent"]; !ok {
		out["User-Agent"] = nil // keeps net/http from adding its own
	}
	return out
}

// outboundFields are the fields of outboundHeader, looked up one by one: a hit needs
// but a few of them.
type outboundFields struct {
	g      *Gateway
	in     http.Header
	upload bool
}

// Values implements [httpcache.Header].
func (f *outboundFields) Values(name string) []string {
	if name == "Accept-Encoding" {
		return identity
	}
	values := f.in[name]
	if len(values) == 0 || !f.g.sends(name, f.in["Connection"], f.upload) {
		return nil
	}
	return values
}

// sends reports whether a field of the client's reaches the provider; connection are
// the lines of Connection, which list those that do not.
func (g *Gateway) sends(name string, connection []string, upload bool) bool {
	if !g.forwards(name) && !(upload && name == "Content-Encoding") {
		return false
	}
	return connection == nil || !listsToken(connection, name)
}

func (g *Gateway) forwards(name string) bool {
	if forwardedExact[name] {
		return true
	}
	if neverForwarded[name] {
		return false
	}
	for _, prefix := range forwardedPrefixes {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	if len(g.forwardGlobs) == 0 {
		return false
	}
	for _, prefix := range neverForwardedPrefixes {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	lower := strings.ToLower(name)
	for _, pattern := range g.forwardGlobs {
		if glob.Match(pattern, lower) {
			return true
		}
	}
	return false
}

// copyResponseHeader puts the provider's header into ours, byte for byte.
func copyResponseHeader(dst, src http.Header) {
	listed := src["Connection"]
	for name, values := range src {
		if responseDropped[name] || strings.HasPrefix(name, "X-Llm-Proxy-") || listed != nil && listsToken(listed, name) {
			continue
		}
		dst[name] = values
	}
}

// listsToken reports whether a comma-separated header lists the token, in any case.
func listsToken(lines []string, name string) bool {
	for _, line := range lines {
		for token := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(token), name) {
				return true
			}
		}
	}
	return false
}
