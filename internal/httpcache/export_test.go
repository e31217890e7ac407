package httpcache

import "time"

// Directive is a member of Cache-Control as the parser sees it.
type Directive struct {
	Name, Arg   string
	HasArg, Bad bool
}

// Directives parses all lines.
func Directives(lines []string) []Directive {
	var out []Directive
	ds := directives{lines: lines}
	for d := (directive{}); ds.next(&d); {
		out = append(out, Directive{d.name, d.arg, d.hasArg, d.bad})
	}
	return out
}

// DeltaSeconds, Matches, CutETag and ParseDate are the parsers of their names.
func DeltaSeconds(s string) (time.Duration, bool)   { return deltaSeconds(s) }
func Matches(lines []string, etag string) bool      { return matches(lines, etag) }
func CutETag(s string) (string, bool, string, bool) { return cutETag(s) }
func ParseDate(lines []string) (time.Time, bool)    { return parseDate(lines) }
