package capture

import (
	"cmp"
	"slices"
	"strings"
)

// Redacted stands for what the operator's expressions match, and for what looks like
// a token or a provider's key.
const Redacted = "[redacted]"

// maxMatches bounds how many matches of one expression in one string are replaced
// one by one; a string with more is replaced as a whole.
const maxMatches = 10_000

// span is a part of a string.
type span struct{ from, to int }

// clean returns what may be stored of s. cut says that s may lack its end.
func (p *Processor) clean(s string, cut bool) string {
	s = shorten(s)
	spans := secrets(nil, s, cut)
	for _, re := range p.redact {
		found := re.FindAllStringIndex(s, maxMatches)
		if len(found) == maxMatches {
			return Redacted
		}
		for _, f := range found {
			if f[0] < f[1] {
				spans = append(spans, span{f[0], f[1]})
			}
		}
	}
	return replace(s, spans)
}

// replace replaces the spans, of which those that touch are one. All were found in the same
// text: what one expression matches hides nothing from the next.
func replace(s string, spans []span) string {
	if len(spans) == 0 {
		return s
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var b strings.Builder
	done := 0
	for i := 0; i < len(spans); {
		at := spans[i]
		for i++; i < len(spans) && spans[i].from <= at.to; i++ {
			at.to = max(at.to, spans[i].to)
		}
		b.WriteString(s[done:at.from])
		b.WriteString(Redacted)
		done = at.to
	}
	b.WriteString(s[done:])
	return b.String()
}
