package capture

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

const byteOrderMark = "\xef\xbb\xbf"

var fields = [][]byte{[]byte("data:"), []byte("event:"), []byte("id:"), []byte("retry:"), []byte(":")}

// isStream reports whether text begins as server-sent events do.
func isStream(text []byte) bool {
	for _, field := range fields {
		if bytes.HasPrefix(text, field) {
			return true
		}
	}
	return false
}

// payloads are the data of a stream's events, as JSON: what is none becomes a string.
// OpenAI's end mark is left out. An event without the empty line at its end counts,
// unless the stream was cut inside of it.
// See https://html.spec.whatwg.org/multipage/server-sent-events.html.
func payloads(stream []byte, cut bool) []jsontext.Value {
	var all []jsontext.Value
	var data []byte
	var lines int
	end := func(last bool) {
		if lines > 0 {
			if v := jsontext.Value(bytes.TrimSpace(data)); isValid(v) {
				all = append(all, v)
			} else if len(v) > 0 && string(v) != "[DONE]" && !(last && cut) {
				all = append(all, jsontext.Value(quote(string(v))))
			}
		}
		data, lines = nil, 0
	}
	for len(stream) > 0 {
		var line []byte
		line, stream = nextLine(stream)
		if len(line) == 0 {
			end(false)
			continue
		}
		value, ok := bytes.CutPrefix(line, fields[0])
		value = bytes.TrimPrefix(value, []byte(" "))
		switch {
		case !ok:
		case lines == 0:
			data, lines = value, 1
		default:
			if lines == 1 {
				data = bytes.Clone(data) // it was a part of the stream
			}
			data = append(append(data, '\n'), value...)
			lines++
		}
	}
	end(true)
	return all
}

// nextLine takes a line that ends with LF, CR or CRLF, or with the text.
func nextLine(text []byte) (line, rest []byte) {
	i := bytes.IndexByte(text, '\n')
	if i < 0 {
		i = len(text)
	}
	if j := bytes.IndexByte(text[:i], '\r'); j >= 0 {
		rest = text[j+1:]
		if len(rest) > 0 && rest[0] == '\n' {
			rest = rest[1:]
		}
		return text[:j], rest
	}
	return text[:i], text[min(i+1, len(text)):]
}

// arrayElements are those of a JSON array that is a stream. Of one that was cut
// those that are complete.
func arrayElements(text []byte, cut bool) (all []jsontext.Value, ok bool) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(text), lenient...)
	if _, err := dec.ReadToken(); err != nil {
		return nil, false
	}
	for dec.PeekKind() > 0 && dec.PeekKind() != ']' {
		v, err := readValue(dec, text)
		if err != nil {
			return all, cut && len(all) > 0
		}
		all = append(all, v)
	}
	if _, err := dec.ReadToken(); err != nil {
		return all, cut && len(all) > 0
	}
	return all, len(bytes.TrimSpace(text[dec.InputOffset():])) == 0
}
