package usage

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

// scan goes through a JSON document that is in memory, one object at a time.
type scan struct {
	body  []byte
	at    int
	empty bool // the object has no members
}

// members visits the members of the object that begins here, until visit
// says no, and returns where the first one could be put in. It reports whether the
// object was read to its end.
func (s *scan) members(visit func(name []byte, v span) bool) (first int, ok bool) {
	if !s.skip('{') {
		return 0, false
	}
	first = s.at
	if s.skip('}') {
		s.empty = true
		return first, true
	}
	for {
		name, ok := s.name()
		if !ok || !s.skip(':') {
			return first, false
		}
		s.space()
		from := s.at
		if !s.value() || !visit(name, span{from, s.at}) {
			return first, false
		}
		switch {
		case s.skip(','):
		case s.skip('}'):
			return first, true
		default:
			return first, false
		}
	}
}

// atEnd reports whether nothing but white space follows.
func (s *scan) atEnd() bool {
	s.space()
	return s.at == len(s.body)
}

func (s *scan) space() {
	for s.at < len(s.body) {
		switch s.body[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return
		}
	}
}

// skip goes over white space and c, if c follows.
func (s *scan) skip(c byte) bool {
	s.space()
	if s.at == len(s.body) || s.body[s.at] != c {
		return false
	}
	s.at++
	return true
}

// name reads a member's name.
func (s *scan) name() ([]byte, bool) {
	s.space()
	from := s.at
	if s.at == len(s.body) || s.body[s.at] != '"' || !s.text() {
		return nil, false
	}
	quoted := s.body[from:s.at]
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1], true
	}
	// A lone surrogate is an error, and part of no name that is looked for.
	name, _ := jsontext.AppendUnquote(nil, quoted)
	return name, true
}

// text goes over the string that begins here.
func (s *scan) text() bool {
	for s.at++; ; s.at += 2 { // the quote, or a backslash with what it escapes
		if s.at > len(s.body) {
			return false
		}
		if s.at += plain(s.body[s.at:]); s.at == len(s.body) {
			return false
		}
		if s.body[s.at] == '"' {
			s.at++
			return true
		}
	}
}

// value goes over any value, of any depth.
func (s *scan) value() bool {
	depth := 0
	for s.at < len(s.body) {
		switch c := s.body[s.at]; c {
		case '"':
			if !s.text() {
				return false
			}
			if depth == 0 {
				return true
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth < 0 {
				return false // where a value should be
			}
			if s.at++; depth == 0 {
				return true
			}
			continue
		default:
			if depth == 0 {
				return s.literal()
			}
		}
		s.at++
	}
	return false
}

// literal goes over a number, true, false or null.
func (s *scan) literal() bool {
	from := s.at
	for s.at < len(s.body) {
		c := s.body[s.at]
		if c != '-' && c != '+' && c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && c != 'E' {
			break
		}
		s.at++
	}
	return s.at > from
}
