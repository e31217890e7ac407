package httpcache

import (
	"net/http"
	"strings"
	"time"
)

// parseDate reads the one date that a field holds (RFC 9110, 5.6.7). A field that
// is there twice, or holds anything else, has no date.
func parseDate(lines []string) (time.Time, bool) {
	if len(lines) != 1 {
		return time.Time{}, false
	}
	s := strings.TrimSpace(lines[0])
	if len(s) < 24 || len(s) > 40 { // no form of a date has another length
		return time.Time{}, false
	}
	t, err := http.ParseTime(s)
	if err != nil {
		return time.Time{}, false
	}
	return t.UTC(), true
}
