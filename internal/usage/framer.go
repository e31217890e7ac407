package usage

import "bytes"

// framer cuts server-sent events into tokens, whatever the pieces they come
// in: lines end with LF, CR or CRLF, and a stream may begin with a byte order mark.
// See https://html.spec.whatwg.org/multipage/server-sent-events.html.
type framer struct {
	state frameState
	bom   uint8 // bytes of the mark that have come; 3: it is passed or there is none
	lf    bool  // a line has ended with CR: an LF belongs to it
	n     uint8 // bytes of the field's name
	name  [5]byte
}

type frameState uint8

const (
	frameLine frameState = iota // at the start of a line
	frameName
	frameData
	frameEvent
	frameOther
	frameComment
)

// token is what some bytes of a stream are.
type token uint8

const (
	tokenOther    token = iota // of no meaning, inside an event
	tokenMark                  // of no meaning, outside of one: the byte order mark
	tokenComment               // of a comment, its end of line included
	tokenData                  // of an event's data
	tokenDataEnd               // the end of a line of data
	tokenEvent                 // of an event's name
	tokenEventEnd              // the end of that line
	tokenFrame                 // the empty line that ends an event
	tokenTail                  // the LF that belongs to the CR before it
)

// maxRun bounds how far next looks for the end of a line, so that lines that end
// with CR alone are not looked for over and over.
const maxRun = 4096

const byteOrderMark = "\xef\xbb\xbf"

// next tells what the first n bytes of p are, which must not be empty; n is
// at least 1.
func (f *framer) next(p []byte) (t token, n int) {
	if f.bom < 3 {
		if p[0] == byteOrderMark[f.bom] {
			f.bom++
			return tokenMark, 1
		}
		if f.bom > 0 {
			f.state = frameOther // half a mark begins some other field
		}
		f.bom = 3
	}
	if f.lf {
		f.lf = false
		if p[0] == '\n' {
			return tokenTail, 1
		}
	}
	switch f.state {
	case frameLine:
		switch p[0] {
		case '\n', '\r':
			return f.endLine(p[0], tokenFrame)
		case ':':
			f.state = frameComment
			return tokenComment, 1
		}
		f.state, f.n = frameName, 0
		if bytes.HasPrefix(p, dataField) {
			f.state = frameData
			return tokenOther, len(dataField)
		}
		return f.readName(p)
	case frameName:
		return f.readName(p)
	}
	n = lineEnd(p)
	switch f.state {
	case frameData:
		if n == 0 {
			return f.endLine(p[0], tokenDataEnd)
		}
		return tokenData, n
	case frameEvent:
		if n == 0 {
			return f.endLine(p[0], tokenEventEnd)
		}
		return tokenEvent, n
	case frameComment:
		if n == 0 {
			return f.endLine(p[0], tokenComment)
		}
		return tokenComment, n
	default:
		if n == 0 {
			return f.endLine(p[0], tokenOther)
		}
		return tokenOther, n
	}
}

var dataField = []byte("data:")

// lineEnd is how many bytes come before an end of line, or are looked at.
func lineEnd(p []byte) int {
	p = p[:min(len(p), maxRun)]
	if i := bytes.IndexByte(p, '\n'); i >= 0 {
		p = p[:i]
	}
	if i := bytes.IndexByte(p, '\r'); i >= 0 {
		p = p[:i]
	}
	return len(p)
}

func (f *framer) endLine(c byte, t token) (token, int) {
	f.state, f.lf = frameLine, c == '\r'
	return t, 1
}

func (f *framer) readName(p []byte) (token, int) {
	for i, c := range p {
		switch c {
		case ':':
			switch string(f.name[:min(int(f.n), len(f.name))]) {
			case "data":
				f.state = frameData
			case "event":
				f.state = frameEvent
			default:
				f.state = frameOther
			}
			if int(f.n) > len(f.name) {
				f.state = frameOther
			}
			return tokenOther, i + 1
		case '\n', '\r': // a field without a value
			if i > 0 {
				return tokenOther, i
			}
			return f.endLine(c, tokenOther)
		}
		if int(f.n) < len(f.name) {
			f.name[f.n] = c
		}
		f.n = min(f.n+1, uint8(len(f.name))+1)
	}
	return tokenOther, len(p)
}
