package usage

// Inclusion is what [IncludeUsage] has found or done.
type Inclusion uint8

// The inclusions.
const (
	NotIncluded Inclusion = iota // left alone: no stream, no object, or an odd shape, which is the provider's to judge
	Asked                        // the client asks for usage itself
	Included                     // asked for on the client's behalf: its frame is to be taken out again
)

const (
	memberOptions = "stream_options"
	memberInclude = "include_usage"
	memberStream  = "stream"

	askOptions = `"stream_options":{"include_usage":true}`
	askInclude = `"include_usage":true`
)

// IncludeUsage makes the request of a chat completion ask for its usage, if it
// streams and does not ask already. The body is not written anew: the result is
// the body itself, or a copy with a few bytes more, put in where they belong. A
// body that another parser could read differently, with a member twice, is left alone.
//
// It is meant for bodies that are known to be JSON. It checks no more than it needs
// to find its place, and what was not JSON before is not JSON after.
func IncludeUsage(body []byte) ([]byte, Inclusion) {
	s := scan{body: body}
	var options, stream span
	first, ok := s.members(func(name []byte, v span) bool {
		switch string(name) {
		case memberOptions:
			return options.once(v)
		case memberStream:
			return stream.once(v)
		}
		return true
	})
	if !ok || !s.atEnd() || string(stream.of(body)) != "true" {
		return body, NotIncluded
	}
	switch value := options.of(body); {
	case value == nil:
		return insert(body, first, first, askOptions, s.empty), Included
	case string(value) == "null":
		return insert(body, options.from, options.to, `{`+askInclude+`}`, true), Included
	case value[0] != '{':
		return body, NotIncluded
	}
	return includeInto(body, options)
}

// includeInto is for a body that has options already.
func includeInto(body []byte, options span) ([]byte, Inclusion) {
	s := scan{body: body[:options.to], at: options.from}
	var include span
	first, ok := s.members(func(name []byte, v span) bool {
		return string(name) != memberInclude || include.once(v)
	})
	if !ok {
		return body, NotIncluded
	}
	switch value := include.of(body); string(value) {
	case "true":
		return body, Asked
	case "false", "null":
		return insert(body, include.from, include.to, "true", true), Included
	case "":
		return insert(body, first, first, askInclude, s.empty), Included
	}
	return body, NotIncluded
}

// insert replaces body[from:to]. A comma follows unless what is put in stands alone.
func insert(body []byte, from, to int, what string, alone bool) []byte {
	out := make([]byte, 0, len(body)+len(what)+1)
	out = append(out, body[:from]...)
	out = append(out, what...)
	if !alone {
		out = append(out, ',')
	}
	return append(out, body[to:]...)
}

// span is where a value is. The zero value is nowhere, since a value cannot be at 0.
type span struct{ from, to int }

// once takes a place, but not a second one.
func (s *span) once(v span) bool {
	if s.to > 0 {
		return false
	}
	*s = v
	return true
}

func (s span) of(body []byte) []byte {
	if s.to == 0 {
		return nil
	}
	return body[s.from:s.to]
}
