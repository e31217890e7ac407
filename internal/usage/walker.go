package usage

// walker goes through a JSON document that comes in pieces and tells a visitor of
// the places that a tree of nodes names. It holds a piece of one key, number or
// short text and nothing else, however large the document is. It is no
// validator: what is valid it reads as any parser does, and what is not can end in
// wrong numbers, but never in a panic or an allocation.
type walker struct {
	state walkState
	depth int8
	esc   uint8  // 0, or 1 after a backslash, or 2 to 5 before the hexadecimal digits of \u
	hex   uint16 // the digits so far
	high  uint16 // a high surrogate that waits for its other half
	n     int    // bytes in buf; more than fit: too many
	skip  int    // open brackets of a value that is skipped
	size  int64  // decoded bytes of the string under way
	cur   *node  // of the value that comes or is under way; nil: nobody asks
	root  *node
	stack [maxDepth]level
	buf   [maxText]byte
}

const (
	maxDepth = 8   // of the trees
	maxText  = 128 // longer keys are nobody's, longer texts are not kept
)

type level struct {
	node  *node
	array bool
}

// visitor is told of the nodes. Bytes are only valid during the call.
type visitor interface {
	// begin: a value begins, with this byte.
	begin(n *node, first byte)
	// end: an object or array is complete.
	end(n *node)
	// text: a string is complete. Of one longer than maxText only the size is known.
	text(n *node, s []byte, size int64)
	// number: a number, or true, false or null, is complete.
	number(n *node, literal []byte)
}

type walkState uint8

const (
	walkValue   walkState = iota
	walkElement           // a value, or the end of the array
	walkMember            // a key, or the end of the object
	walkKey               // a key
	walkInKey
	walkColon
	walkInText
	walkInLiteral
	walkAfter // a comma, or the end of what the value is in
	walkSkip
	walkSkipText
	walkDone
	walkBad
)

func (w *walker) reset(root *node) {
	w.state, w.root, w.cur = walkValue, root, root
	w.depth, w.skip = 0, 0
	w.clear()
}

func (w *walker) clear() { w.n, w.size, w.esc, w.high = 0, 0, 0, 0 }

func (w *walker) write(p []byte, v visitor) {
	for i := 0; i < len(p); {
		switch w.state {
		case walkBad:
			return
		case walkSkip:
			i = w.skipValue(p, i)
		case walkSkipText:
			i = w.skipText(p, i)
		case walkInText:
			i = w.readText(p, i, v)
		case walkInKey:
			if i = w.readText(p, i, v); w.state == walkColon && i < len(p) && p[i] == ':' {
				w.state = walkValue // as it nearly always goes on
				i++
			}
		case walkInLiteral:
			i = w.readLiteral(p, i, v)
		default:
			if c := p[i]; c != ' ' && c != '\n' && c != '\r' && c != '\t' {
				i = w.token(p, i, c, v)
			} else {
				i++
			}
		}
	}
}

func (w *walker) token(p []byte, i int, c byte, v visitor) int {
	switch w.state {
	case walkElement:
		if c == ']' {
			w.pop(true, v)
			return i + 1
		}
		return w.value(i, c, v)
	case walkValue:
		return w.value(i, c, v)
	case walkMember, walkKey:
		switch {
		case c == '"':
			w.clear()
			w.state = walkInKey
		case c == '}' && w.state == walkMember:
			w.pop(false, v)
		default:
			w.state = walkBad
		}
	case walkColon:
		if w.state = walkValue; c != ':' {
			w.state = walkBad
		}
	case walkAfter:
		top := &w.stack[w.depth-1]
		switch {
		case c == ',' && top.array:
			w.cur, w.state = top.node.elem, walkValue
		case c == ',':
			if w.state = walkKey; i+1 < len(p) && p[i+1] == '"' {
				w.clear()
				w.state = walkInKey // as it nearly always goes on
				i++
			}
		case c == ']' || c == '}':
			w.pop(c == ']', v)
		default:
			w.state = walkBad
		}
	default: // walkDone
		w.state = walkBad
	}
	return i + 1
}

func (w *walker) value(i int, c byte, v visitor) int {
	n := w.cur
	switch c {
	case '{', '[', '"', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 't', 'f', 'n':
	default:
		w.state = walkBad
		return i
	}
	if n != nil {
		v.begin(n, c)
	}
	switch {
	case c == '"':
		w.clear()
		if w.state = walkInText; n == nil {
			w.state = walkSkipText
		}
	case c == '{' && n != nil && n.kids != nil:
		w.push(n, false)
		w.state = walkMember
	case c == '[' && n != nil && n.elem != nil:
		w.push(n, true)
		w.state = walkElement
		w.cur = n.elem
	case c == '{' || c == '[':
		w.skip = 1
		w.state = walkSkip
	default:
		w.clear()
		w.state = walkInLiteral
		return i // it is part of the literal
	}
	return i + 1
}

// push cannot exceed the stack: it goes as deep as the trees do.
func (w *walker) push(n *node, array bool) {
	w.stack[w.depth] = level{n, array}
	w.depth++
}

func (w *walker) pop(array bool, v visitor) {
	top := w.stack[w.depth-1]
	if top.array != array {
		w.state = walkBad
		return
	}
	w.depth--
	w.ended()
	v.end(top.node)
}

func (w *walker) ended() {
	if w.state = walkAfter; w.depth == 0 {
		w.state = walkDone
	}
}

func (w *walker) skipValue(p []byte, i int) int {
	for ; i < len(p); i++ {
		switch p[i] {
		case '"':
			w.clear()
			w.state = walkSkipText
			return i + 1
		case '{', '[':
			w.skip++
		case '}', ']':
			if w.skip--; w.skip == 0 {
				w.ended()
				return i + 1
			}
		}
	}
	return i
}

func (w *walker) skipText(p []byte, i int) int {
	if w.esc != 0 {
		w.esc = 0
		return i + 1
	}
	i += plain(p[i:])
	switch {
	case i == len(p):
		return i
	case p[i] == '\\':
		w.esc = 1
	case w.skip > 0:
		w.state = walkSkip
	default:
		w.ended()
	}
	return i + 1
}

func (w *walker) readLiteral(p []byte, i int, v visitor) int {
	from := i
	for ; i < len(p); i++ {
		switch p[i] {
		case ',', ']', '}', ' ', '\n', '\r', '\t':
			literal := p[from:i]
			if w.n > 0 {
				w.keep(literal)
				literal = w.buf[:min(w.n, maxText)]
			}
			w.ended()
			if w.cur != nil && len(literal) <= maxNumber {
				v.number(w.cur, literal)
			}
			return i
		}
	}
	w.keep(p[from:i])
	return i
}

// pending is the node and the decoded size so far of a string under way.
func (w *walker) pending() (*node, int64) {
	if w.state != walkInText {
		return nil, 0
	}
	return w.cur, w.size
}
