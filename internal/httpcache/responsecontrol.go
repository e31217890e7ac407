package httpcache

import (
	"strings"
	"time"
)

// responseControl is what a response's Cache-Control says. Durations are unset
// when they are not there.
type responseControl struct {
	maxAge, sMaxAge              time.Duration
	staleIfError                 time.Duration
	staleWhileRevalidate         time.Duration
	noStore, noCache, private    bool
	public                       bool
	mustRevalidate, proxyRevalid bool
	fields                       []string // that a qualified no-cache or private names
	anything                     bool
}

func parseResponseControl(lines []string) responseControl {
	c := responseControl{maxAge: unset, sMaxAge: unset, staleIfError: unset, staleWhileRevalidate: unset}
	ds := directives{lines: lines}
	for d := (directive{}); ds.next(&d); {
		c.anything = true
		switch {
		case d.is("max-age"):
			d.lower(&c.maxAge)
		case d.is("s-maxage"):
			d.lower(&c.sMaxAge)
		case d.is("stale-if-error"):
			d.lower(&c.staleIfError)
		case d.is("stale-while-revalidate"):
			d.lower(&c.staleWhileRevalidate)
		case d.is("no-store"):
			c.noStore = true
		case d.is("no-cache"):
			// Named fields alone must not be reused (RFC 9111, 5.2.2.4): they are not
			// stored. What names none that can be read is the stricter form.
			if !c.name(&d) {
				c.noCache = true
			}
		case d.is("private"):
			// The qualified form would let the rest be stored (RFC 9111, 5.2.2.7). Many
			// caches take it for the other one, and origins know it.
			c.name(&d)
			c.private = true
		case d.is("public"):
			c.public = true
		case d.is("must-revalidate"):
			c.mustRevalidate = true
		case d.is("proxy-revalidate"):
			c.proxyRevalid = true
		}
	}
	return c
}

// name adds the fields that a directive lists, and reports whether it listed any.
func (c *responseControl) name(d *directive) bool {
	if !d.hasArg || d.bad {
		return false
	}
	var some bool
	for field := range strings.SplitSeq(d.arg, ",") {
		field = strings.TrimSpace(field)
		if field == "" {
			continue
		}
		if !isToken(field) {
			return false
		}
		c.fields = append(c.fields, field)
		some = true
	}
	return some
}

// sharedMay reports whether the response may be reused for others than the one
// whose credential the request had (RFC 9111, 3.5).
func (c *responseControl) sharedMay() bool { return c.public || c.mustRevalidate || c.sMaxAge != unset }

// noStale reports whether the response forbids being used when it is stale.
// s-maxage has the meaning of proxy-revalidate (RFC 9111, 5.2.2.10).
func (c *responseControl) noStale() bool {
	return c.mustRevalidate || c.proxyRevalid || c.noCache || c.sMaxAge != unset
}

// isToken reports whether s is a token (RFC 9110, 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}
