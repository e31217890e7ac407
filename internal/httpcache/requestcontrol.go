package httpcache

import (
	"strings"
	"time"
)

// requestControl is what a client's Cache-Control says. Durations are unset
// when they are not there.
type requestControl struct {
	maxAge, sMaxAge    time.Duration
	maxStale, minFresh time.Duration
	staleIfError       time.Duration
	noCache, noStore   bool
	onlyIfCached       bool
	public             bool
}

func parseRequestControl(lines, pragma []string) requestControl {
	c := requestControl{maxAge: unset, sMaxAge: unset, maxStale: unset, minFresh: unset, staleIfError: unset}
	if len(lines) == 0 { // RFC 9111, 5.4
		for _, line := range pragma {
			for member := range strings.SplitSeq(line, ",") {
				c.noCache = c.noCache || strings.EqualFold(strings.TrimSpace(member), "no-cache")
			}
		}
		return c
	}
	ds := directives{lines: lines}
	for d := (directive{}); ds.next(&d); {
		switch {
		case d.is("max-age"):
			d.lower(&c.maxAge)
		case d.is("s-maxage"):
			d.lower(&c.sMaxAge)
		case d.is("max-stale"):
			if !d.hasArg && !d.bad {
				if c.maxStale == unset {
					c.maxStale = maxDelta * time.Second
				}
				break
			}
			d.lower(&c.maxStale)
		case d.is("min-fresh"):
			v, ok := d.seconds()
			if !ok {
				v = maxDelta * time.Second
			}
			c.minFresh = max(c.minFresh, v)
		case d.is("stale-if-error"):
			d.lower(&c.staleIfError)
		case d.is("no-cache"):
			c.noCache = true
		case d.is("no-store"):
			c.noStore = true
		case d.is("only-if-cached"):
			c.onlyIfCached = true
		case d.is("public"):
			c.public = true
		}
	}
	return c
}

// asked is the lifetime that the client of a POST asks for: max-age, or
// s-maxage as the predecessor's clients have it, or the smaller of both.
func (c *requestControl) asked() (time.Duration, bool) {
	n := c.maxAge
	if n == unset || c.sMaxAge != unset && c.sMaxAge < n {
		n = c.sMaxAge
	}
	return n, n > 0
}
