package respcache

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/go-json-experiment/json/jsontext"
)

// Body is the part of an [Identity] that stands for a request's body. The zero
// Body is none.
type Body struct {
	kind bodyKind
	sum  [sha256.Size]byte
}

// bodyKind keeps bodies apart that are the same bytes in another meaning.
type bodyKind uint8

const (
	rawBody  bodyKind = iota + 1 // its bytes
	jsonBody                     // its canonical form
)

// maxDepth is how deep a JSON body may be nested to be made canonical. Sorting
// moves a member once for each level.
const maxDepth = 128

// RawBody stands for the bytes of a body, and for the header fields that say how to
// read them, such as Content-Type.
func RawBody(body []byte, fields ...string) Body {
	if len(body) == 0 {
		return Body{}
	}
	var room [256]byte
	head := binary.AppendUvarint(room[:0], uint64(len(fields)))
	for _, f := range fields {
		head = appendPart(head, f)
	}
	return digest(rawBody, head, body)
}

// JSONBody stands for what a JSON body says, less what is ignored. If it has no
// canonical form, it is the [RawBody].
func JSONBody(body []byte, ignore *Ignore, fields ...string) Body {
	canonical, ok := CanonicalBody(body, ignore)
	if !ok {
		return RawBody(body, fields...)
	}
	// The ignored members are part of it: what was stored by somebody who ignores a
	// member is not for somebody who does not.
	return digest(jsonBody, ignore.identity(), canonical)
}

func digest(kind bodyKind, head, body []byte) Body {
	h := sha256.New()
	h.Write(head)
	h.Write(body)
	b := Body{kind: kind}
	h.Sum(b.sum[:0])
	return b
}

// CanonicalBody is a JSON body with its members sorted, its strings escaped and its
// whitespace removed as in RFC 8785, less the ignored members. Number literals stay
// as they were sent: 1 and 1.0 may mean two things to a provider. It reports false
// for what is not I-JSON (RFC 7493: duplicate names, invalid UTF-8, lone surrogates),
// which providers read in more than one way, and for what is nested too deep.
func CanonicalBody(body []byte, ignore *Ignore) (canonical []byte, ok bool) {
	if !shallow(body) {
		return nil, false
	}
	canonical, err := jsontext.AppendFormat(make([]byte, 0, len(body)), body,
		jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false), jsontext.ReorderRawObjects(true),
		jsontext.AllowDuplicateNames(false), jsontext.AllowInvalidUTF8(false), jsontext.PreserveRawStrings(false),
		jsontext.EscapeForHTML(false), jsontext.EscapeForJS(false), jsontext.Multiline(false),
		jsontext.SpaceAfterColon(false), jsontext.SpaceAfterComma(false))
	if err != nil {
		return nil, false
	}
	return ignore.strip(canonical), true
}

// shallow reports whether nothing is nested too deep, in text that need not be JSON.
func shallow(body []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return false
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return true
}
