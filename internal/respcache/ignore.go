package respcache

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Bounds of paths.
const (
	maxPathText  = 256
	maxPathSteps = 16
	maxPaths     = 64
)

// Path leads to a member of a JSON body, through objects alone.
type Path struct{ steps []string }

// ParsePath reads the names of members with dots between them, such as user or
// metadata.user_id. A dot that is part of a name is written \. and a backslash \\.
func ParsePath(text string) (p Path, err error) {
	switch {
	case text == "":
		return p, errors.New("expected the name of a member of JSON bodies, such as user or metadata.user_id")
	case len(text) > maxPathText || !utf8.ValidString(text):
		return p, fmt.Errorf("expected a path of at most %d bytes of UTF-8", maxPathText)
	}
	var step strings.Builder
	end := func() error {
		if step.Len() == 0 {
			return fmt.Errorf("%q has an empty name between its dots", text)
		}
		p.steps = append(p.steps, step.String())
		step.Reset()
		return nil
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text) && (text[i+1] == '.' || text[i+1] == '\\'):
			i++
			step.WriteByte(text[i])
		case c == '\\':
			return Path{}, fmt.Errorf("%q has a backslash that is followed by neither a dot nor a backslash", text)
		case c == '.':
			if err := end(); err != nil {
				return Path{}, err
			}
		default:
			step.WriteByte(c)
		}
	}
	if err := end(); err != nil {
		return Path{}, err
	}
	if len(p.steps) > maxPathSteps {
		return Path{}, fmt.Errorf("%q has more than %d names", text, maxPathSteps)
	}
	return p, nil
}

// String is the path as [ParsePath] reads it.
func (p Path) String() string {
	quoted := make([]string, len(p.steps))
	for i, s := range p.steps {
		quoted[i] = strings.NewReplacer(`\`, `\\`, `.`, `\.`).Replace(s)
	}
	return strings.Join(quoted, ".")
}

// Ignore is a set of members that are left out of keys; nil is none. It is safe for
// concurrent use.
type Ignore struct {
	root node
	id   []byte
}

// node has the next steps by their names as they are written in canonical JSON.
type node map[string]*branch

type branch struct {
	next node
	leaf bool // the member itself is ignored
}

// NewIgnore makes a set of paths.
func NewIgnore(paths ...Path) (*Ignore, error) {
	if len(paths) > maxPaths {
		return nil, fmt.Errorf("expected at most %d paths", maxPaths)
	}
	n := &Ignore{root: make(node)}
	var names []string
	for _, p := range paths {
		if len(p.steps) == 0 {
			return nil, errors.New("expected paths that were parsed")
		}
		names = append(names, p.String())
		at := n.root
		for i, step := range p.steps {
			quoted, err := jsontext.AppendQuote(nil, step)
			if err != nil {
				return nil, fmt.Errorf("the path %q: %w", p, err)
			}
			b := at[string(quoted)]
			if b == nil {
				b = &branch{next: make(node)}
				at[string(quoted)] = b
			}
			b.leaf = b.leaf || i == len(p.steps)-1
			at = b.next
		}
	}
	if len(names) == 0 {
		return n, nil
	}
	slices.Sort(names)
	names = slices.Compact(names)
	all := binary.AppendUvarint(nil, uint64(len(names)))
	for _, name := range names {
		all = appendPart(all, name)
	}
	sum := sha256.Sum256(all)
	n.id = sum[:]
	return n, nil
}

// identity is of the same length for all sets that ignore anything, and a zero
// otherwise.
func (n *Ignore) identity() []byte {
	if n == nil || len(n.id) == 0 {
		return make([]byte, sha256.Size)
	}
	return n.id
}

// strip takes the ignored members out of canonical JSON, in place.
func (n *Ignore) strip(canonical []byte) []byte {
	if n == nil || len(n.root) == 0 || len(canonical) == 0 || canonical[0] != '{' {
		return canonical
	}
	out, _ := n.root.strip(canonical[:0], canonical, 0)
	return out
}

// strip appends the object at src[i:] to dst, which may be the same memory as it
// never gets ahead, and tells where the object ends.
func (n node) strip(dst, src []byte, i int) ([]byte, int) {
	dst = append(dst, '{')
	first := true
	for i++; src[i] != '}'; {
		if src[i] == ',' {
			i++
		}
		value := endOfString(src, i) + 1 // after the colon
		b, known := n[string(src[i:value-1])]
		if known && b.leaf {
			i = endOfValue(src, value)
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, src[i:value]...)
		if known && src[value] == '{' {
			dst, i = b.next.strip(dst, src, value)
			continue
		}
		i = endOfValue(src, value)
		dst = append(dst, src[value:i]...)
	}
	return append(dst, '}'), i + 1
}

// endOfString is where the string that begins at i has ended.
func endOfString(src []byte, i int) int {
	for i++; src[i] != '"'; i++ {
		if src[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// endOfValue is where the value that begins at i has ended, in canonical JSON.
func endOfValue(src []byte, i int) int {
	for depth := 0; i < len(src); {
		switch src[i] {
		case '"':
			i = endOfString(src, i)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
			i++
		case ',':
			if depth == 0 {
				return i
			}
			i++
		default:
			i++
		}
	}
	return i
}
