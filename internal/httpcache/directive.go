package httpcache

import (
	"strings"
	"time"
)

// maxDelta is what numbers that do not fit count as (RFC 9111, 1.2.2).
const maxDelta = 1 << 31

// unset is the duration of a directive that is not there.
const unset time.Duration = -1

// directive is one member of Cache-Control. The argument of a quoted one is
// without its quotes, escapes as they are: no directive that we know needs any.
type directive struct {
	name   string
	arg    string
	hasArg bool
	bad    bool // malformed: counts for the worse
}

// is compares names, which have no case.
func (d *directive) is(name string) bool { return strings.EqualFold(d.name, name) }

// directives walks all lines of Cache-Control as the one list that they are
// (RFC 9110, 5.3), without allocating.
type directives struct {
	lines []string
	line  string
}

func (ds *directives) next(d *directive) bool {
	for {
		ds.line = strings.TrimLeft(ds.line, " \t,")
		if ds.line != "" {
			break
		}
		if len(ds.lines) == 0 {
			return false
		}
		ds.line, ds.lines = ds.lines[0], ds.lines[1:]
	}
	*d = directive{}
	end := strings.IndexAny(ds.line, "=,\"")
	if end < 0 {
		end = len(ds.line)
	}
	name := ds.line[:end]
	d.name = strings.TrimRight(name, " \t")
	rest := ds.line[end:]
	switch {
	case rest == "" || rest[0] == ',':
		ds.line = rest
		return true
	case rest[0] == '"': // name"…": no such thing
		d.bad = true
		ds.line = skipMember(rest)
		return true
	}
	d.hasArg = true
	d.bad = len(d.name) != len(name) // no space is allowed before =
	rest = rest[1:]
	if rest != "" && rest[0] == '"' {
		end, closed := quotedEnd(rest)
		d.bad = d.bad || !closed
		if closed {
			d.arg = rest[1 : end-1]
		}
		rest = strings.TrimLeft(rest[end:], " \t")
		if rest != "" && rest[0] != ',' {
			d.bad = true
		}
		ds.line = skipMember(rest)
		return true
	}
	end = strings.IndexByte(rest, ',')
	if end < 0 {
		end = len(rest)
	}
	d.arg = strings.TrimRight(rest[:end], " \t")
	if d.arg == "" || strings.ContainsAny(d.arg, " \t\"") {
		d.bad = true
	}
	ds.line = skipMember(rest)
	return true
}

// quotedEnd is the index behind the quoted string that s begins with, and
// whether it has an end.
func quotedEnd(s string) (int, bool) {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1, true
		}
	}
	return len(s), false
}

// skipMember drops what is left of a member, commas in quotes included.
func skipMember(s string) string {
	for i := 0; i < len(s); {
		switch s[i] {
		case ',':
			return s[i:]
		case '"':
			n, _ := quotedEnd(s[i:])
			i += n
		default:
			i++
		}
	}
	return ""
}

// seconds is the directive's number; not ok: it has none that is valid.
func (d *directive) seconds() (_ time.Duration, ok bool) {
	if d.bad {
		return 0, false
	}
	return deltaSeconds(d.arg)
}

// deltaSeconds reads digits and nothing else (RFC 9111, 1.2.2).
func deltaSeconds(s string) (_ time.Duration, ok bool) {
	if s == "" {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		if n < maxDelta {
			n = n*10 + int64(c-'0')
		}
	}
	return time.Duration(min(n, maxDelta)) * time.Second, true
}

// lower keeps the smaller of a directive's values: of one that is there twice,
// or is invalid, the cautious reading counts (RFC 9111, 4.2.1).
func (d *directive) lower(to *time.Duration) {
	v, ok := d.seconds()
	if !ok {
		v = 0
	}
	if *to == unset || v < *to {
		*to = v
	}
}
