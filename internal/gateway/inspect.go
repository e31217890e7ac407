package gateway

import (
	"bytes"
	"io"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// The members that the gateway itself reads.
const (
	memberModel    = "model"
	memberStream   = "stream"
	memberUser     = "user"
	memberMetadata = "metadata"
)

// inspection is what the gateway reads of a JSON body: the top-level members
// it was asked for, exactly once each. The body itself is forwarded as it came.
type inspection struct {
	model   member
	stream  bool
	params  []member // in the order of the names asked for
	endUser string   // user, or metadata.user_id: for the record alone, so the last one counts
}

// member is one top-level member.
type member struct {
	present bool
	text    string // the string, or the literal of a number, true, false or null
	simple  bool   // not an object or array
	str     bool
}

// scanProblem says why a body cannot be judged.
type scanProblem uint8

const (
	scanOK        scanProblem = iota
	scanNotJSON               // not one valid, complete JSON object
	scanRepeated              // a member asked for appears twice
	scanAmbiguous             // a member is spelled like one asked for, in another case
)

// scanner is a pooled decoder: the buffer is replaced without copying.
type scanner struct {
	buf     bytes.Buffer
	decoder *jsontext.Decoder
	name    []byte
}

var scanners = sync.Pool{New: func() any {
	s := new(scanner)
	s.decoder = jsontext.NewDecoder(&s.buf, scanOptions...)
	return s
}}

// Nested duplicates and lone surrogates are the provider's business; the scan
// only vouches for the members it reads. Clients written in JavaScript send the latter.
var scanOptions = []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}

// inspectJSON scans the top level of body for model, stream and the named
// members; names must not hold "model". What a, if it is not nil, wants to know it
// is told.
func inspectJSON(body []byte, names []string, a *ask) (in inspection, problem scanProblem) {
	s := scanners.Get().(*scanner)
	defer func() {
		s.buf = bytes.Buffer{}
		scanners.Put(s)
	}()
	s.buf = *bytes.NewBuffer(body)
	s.decoder.Reset(&s.buf, scanOptions...)
	return s.scan(body, names, a)
}

func (s *scanner) scan(body []byte, names []string, a *ask) (in inspection, problem scanProblem) {
	d := s.decoder
	in.params = newParams(names)
	if d.PeekKind() != '{' {
		return in, scanNotJSON
	}
	if _, err := d.ReadToken(); err != nil {
		return in, scanNotJSON
	}
	var streamSeen bool
	for d.PeekKind() == '"' {
		name, err := s.readName()
		if err != nil {
			return in, scanNotJSON
		}
		target, match := in.target(name, names)
		switch {
		case match == matchFold:
			problem = max(problem, scanAmbiguous)
		case match == matchStream && streamSeen, target != nil && target.present:
			problem = max(problem, scanRepeated)
		}
		user, metadata := string(name) == memberUser, string(name) == memberMetadata
		size := a.wants(name)
		if match != matchStream && target == nil && !user && !metadata && size == sizeNone {
			if err := d.SkipValue(); err != nil {
				return in, scanNotJSON
			}
			continue
		}
		value, err := d.ReadValue()
		if err != nil {
			return in, scanNotJSON
		}
		switch {
		case match == matchStream:
			streamSeen = true
			in.stream = value.Kind() == 't'
		case target != nil:
			if err := target.take(value); err != nil {
				return in, scanNotJSON
			}
		}
		if user && value.Kind() == '"' || metadata && value.Kind() == '{' {
			if of, ok := endUser(value); ok {
				in.endUser = of
			}
		}
		a.take(size, value)
	}
	if _, err := d.ReadToken(); err != nil { // the closing brace
		return in, scanNotJSON
	}
	if _, err := d.ReadToken(); err != io.EOF { // nothing may follow
		return in, scanNotJSON
	}
	if !utf8.Valid(body) {
		return in, scanNotJSON
	}
	for i, name := range names {
		if name == memberStream {
			in.stream = in.params[i].text == "true" && !in.params[i].str
		}
	}
	return in, problem
}

func newParams(names []string) []member {
	if len(names) == 0 {
		return nil
	}
	return make([]member, len(names))
}

// readName returns the next member's name, valid until the next call.
func (s *scanner) readName() ([]byte, error) {
	raw, err := s.decoder.ReadValue()
	if err != nil {
		return nil, err
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], nil
	}
	// The decoder has checked the literal. What is left to complain about is a lone
	// surrogate, and no name asked for holds one.
	s.name, _ = jsontext.AppendUnquote(s.name[:0], raw)
	return s.name, nil
}

type nameMatch uint8

const (
	matchNone nameMatch = iota
	matchExact
	matchStream
	matchFold
)

// target finds where a member's value goes. A name that differs from one asked
// for only in case is no match but must not pass: some servers read it as one.
func (in *inspection) target(name []byte, names []string) (*member, nameMatch) {
	if string(name) == memberModel {
		return &in.model, matchExact
	}
	for i, n := range names {
		if string(name) == n {
			return &in.params[i], matchExact
		}
	}
	if string(name) == memberStream {
		return nil, matchStream
	}
	if foldsTo(name, memberModel) || foldsTo(name, memberStream) {
		return nil, matchFold
	}
	for _, n := range names {
		if foldsTo(name, n) {
			return nil, matchFold
		}
	}
	return nil, matchNone
}

func foldsTo(name []byte, s string) bool {
	// Folding may change the length (ſ is s), but never by more than three times.
	return len(name) >= len(s) && len(name) <= 3*len(s) && bytes.EqualFold(name, []byte(s))
}

func (m *member) take(value jsontext.Value) error {
	m.present = true
	switch value.Kind() {
	case '"':
		m.simple, m.str = true, true
		if bytes.IndexByte(value, '\\') < 0 {
			m.text = string(value[1 : len(value)-1])
			return nil
		}
		unquoted, err := jsontext.AppendUnquote(nil, value)
		m.text = string(unquoted)
		return err
	case '{', '[':
		m.simple = false
	default:
		m.simple = true
		m.text = string(value)
	}
	return nil
}
