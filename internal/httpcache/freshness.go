package httpcache

import (
	"net/http"
	"strings"
	"time"
)

// explicitLifetime is what a response says about its freshness (RFC 9111,
// 4.2.1), as a shared cache reads it, in every scope. Nothing is guessed: a
// response that says nothing has no lifetime, and ok is false.
func explicitLifetime(c *responseControl, header http.Header, date time.Time) (_ time.Duration, ok bool) {
	switch {
	case c.sMaxAge != unset:
		return c.sMaxAge, true
	case c.maxAge != unset:
		return c.maxAge, true
	}
	lines, ok := header["Expires"]
	if !ok {
		return 0, false
	}
	expires, valid := parseDate(lines)
	if !valid { // "0" too: in the past (RFC 9111, 5.3)
		return 0, true
	}
	return min(max(0, expires.Sub(date)), maxDelta*time.Second), true
}

// initialAge is corrected_initial_age (RFC 9111, 4.2.3).
//
// The delay of a POST is left out: it is the time in which the answer was made,
// minutes sometimes, and not on its way. POST is cached by our rule, not the RFC's.
func initialAge(method string, header http.Header, date, requestTime, responseTime time.Time) time.Duration {
	apparent := max(0, responseTime.Sub(date))
	corrected := ageValue(header["Age"])
	if method != http.MethodPost {
		corrected += max(0, responseTime.Sub(requestTime))
	}
	return max(apparent, corrected)
}

// ageValue reads Age. What is not one number makes the response very old, where
// the RFC would let it be ignored: two caches that disagree are no reason to
// believe the younger one.
func ageValue(lines []string) time.Duration {
	if len(lines) == 0 {
		return 0
	}
	if len(lines) == 1 {
		if age, ok := deltaSeconds(strings.TrimSpace(lines[0])); ok {
			return age
		}
	}
	return maxDelta * time.Second
}
