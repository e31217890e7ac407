package httpcache

import (
	"net/http"
	"net/url"
	"strings"
)

// Invalidates lists what an answer to an unsafe request makes out of date (RFC
// 9111, 4.4): path and query of the target as sent upstream, and what Location
// and Content-Location name on the same origin.
//
// What is stored of these under GET must go. Answers to POSTs stay: they are kept
// by what was asked, and another question does not make them wrong.
func Invalidates(method string, status int, header http.Header, target *url.URL) []string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return nil
	}
	if status < 200 || status > 399 {
		return nil
	}
	out := []string{target.RequestURI()}
	for _, name := range [...]string{"Location", "Content-Location"} {
		for _, value := range header[name] {
			ref, err := target.Parse(value)
			if err != nil || ref.Opaque != "" || !sameOrigin(ref, target) {
				continue
			}
			if uri := ref.RequestURI(); uri != out[0] && uri != out[len(out)-1] {
				out = append(out, uri)
			}
		}
	}
	return out
}

func sameOrigin(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	switch strings.ToLower(u.Scheme) {
	case "https":
		return "443"
	case "http":
		return "80"
	}
	return ""
}
