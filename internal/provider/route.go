package provider

import (
	"net/url"
	"strings"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
)

// Route is where a request goes: a provider, the endpoint for allow-lists, and
// the path to send.
type Route struct {
	Provider *Provider
	Endpoint string // canonical, such as /v1/chat/completions, however the client and the base URL spell the root
	Path     string // canonical path at the provider
}

// RouteDefault maps a canonical path below /v1/ of the site to the provider.
// The client's /v1 stands for the base URL's version, whatever that is.
func (p *Provider) RouteDefault(path string) Route {
	if p.version == "" {
		return Route{Provider: p, Endpoint: path, Path: p.basePath + path}
	}
	if p.basePath == "/v1" && p.dialect != apierr.Gemini {
		return Route{Provider: p, Endpoint: path, Path: path} // the usual case: one string is all three
	}
	return p.route(strings.TrimPrefix(path, "/v1"), path)
}

// RouteNamed maps rest, what follows /<provider> in a canonical path, with its
// leading slash. A version that the base URL ends with is not doubled.
func (p *Provider) RouteNamed(rest string) Route {
	if p.overlap != "" {
		rest = cutSegment(rest, p.overlapBefore())
	}
	whole := rest
	if p.version != "" {
		rest = cutSegment(rest, p.version)
	}
	return p.route(rest, whole)
}

// overlapBefore is the overlap segment when the base path ends with it, the
// version aside.
func (p *Provider) overlapBefore() string {
	root := p.basePath
	if p.version != "" {
		root = strings.TrimSuffix(root, "/"+p.version)
	}
	if strings.HasSuffix(root, "/"+p.overlap) {
		return p.overlap
	}
	return ""
}

// route maps what follows the version. whole is the path before the version was
// cut from it, or the same: it saves making that string again.
func (p *Provider) route(rest, whole string) Route {
	r := Route{Provider: p, Endpoint: rest}
	switch {
	case p.version == "":
	case p.dialect == apierr.Gemini:
		r.Endpoint = "/" + p.version + rest
	case len(whole) == len("/v1")+len(rest) && strings.HasPrefix(whole, "/v1"):
		r.Endpoint = whole
	default: // presets list endpoints below /v1, whatever the version is called
		r.Endpoint = "/v1" + rest
	}
	switch p.basePath {
	case "":
		r.Path = rest
	case strings.TrimSuffix(r.Endpoint, rest):
		r.Path = r.Endpoint
	default:
		r.Path = p.basePath + rest
	}
	return r
}

// URL is the provider's URL for the route with a raw query.
func (r *Route) URL(rawQuery string) *url.URL {
	u := &url.URL{Scheme: r.Provider.base.Scheme, Host: r.Provider.base.Host, Path: r.Path, RawQuery: rawQuery}
	if strings.ContainsAny(r.Path, "%!'()*") { // net/url would escape them anew
		u.RawPath = r.Path
		u.Path, _ = url.PathUnescape(r.Path) // canonical: every escape is valid
	}
	return u
}

// Dialect is the error dialect of the route: that of the API the path belongs
// to, else the provider's own.
func (r *Route) Dialect() apierr.Dialect {
	e := r.Endpoint
	switch {
	case hasSegments(e, "/v1/messages"), e == "/v1/complete":
		return apierr.Anthropic
	case hasSegments(e, "/v1/chat/completions"), hasSegments(e, "/v1beta/openai"):
		return apierr.OpenAI
	case hasSegments(e, "/v1/responses"):
		return apierr.OpenAIResponses
	}
	return r.Provider.dialect
}

func hasSegments(path, prefix string) bool {
	return strings.HasPrefix(path, prefix) && (len(path) == len(prefix) || path[len(prefix)] == '/')
}

// cutSegment removes a first segment from a rest path.
func cutSegment(rest, segment string) string {
	if segment != "" && hasSegments(rest, "/"+segment) {
		return rest[1+len(segment):]
	}
	return rest
}

// isVersion tells path segments such as v1, v1beta and v2024 from others.
func isVersion(s string) bool {
	if len(s) < 2 || s[0] != 'v' || s[1] < '0' || s[1] > '9' {
		return false
	}
	rest := strings.TrimLeft(s[1:], "0123456789")
	rest = strings.TrimPrefix(strings.TrimPrefix(rest, "alpha"), "beta")
	return strings.Trim(rest, "0123456789") == ""
}
