package usage

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// plain is how many bytes come before a quote or a backslash. It looks at eight
// at once: most of an answer is inside of strings.
func plain(p []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(p); i += 8 {
		x := binary.LittleEndian.Uint64(p[i:])
		q, b := x^(ones*'"'), x^(ones*'\\')
		if found := ((q-ones)&^q | (b-ones)&^b) & highs; found != 0 {
			return i + bits.TrailingZeros64(found)/8 // the lowest bit is exact
		}
	}
	for ; i < len(p); i++ {
		if p[i] == '"' || p[i] == '\\' {
			break
		}
	}
	return i
}

// readText reads on in a key or a string that is asked for.
func (w *walker) readText(p []byte, i int, v visitor) int {
	if w.esc != 0 {
		w.escape(p[i])
		return i + 1
	}
	end := i + plain(p[i:])
	if end < len(p) && p[end] == '"' && w.size == 0 && w.high == 0 {
		w.textEnded(p[i:end], int64(end-i), v) // all of it in one piece
		return end + 1
	}
	if end > i {
		w.unpair()
		w.keep(p[i:end])
		w.size += int64(end - i)
	}
	switch {
	case end == len(p):
		return end
	case p[end] == '\\':
		w.esc = 1
	default:
		w.unpair()
		w.textEnded(w.buf[:min(w.n, maxText)], w.size, v)
	}
	return end + 1
}

func (w *walker) textEnded(s []byte, size int64, v visitor) {
	if w.state == walkInKey {
		if w.cur = nil; size <= maxText {
			w.cur = w.stack[w.depth-1].node.child(s)
		}
		w.state = walkColon
		return
	}
	w.ended()
	v.text(w.cur, s, size)
}

// keep appends to the buffer what fits.
func (w *walker) keep(p []byte) {
	if w.n+len(p) > maxText {
		w.n = maxText + 1
		return
	}
	w.n += copy(w.buf[w.n:], p)
}

// escape takes one byte of an escape.
func (w *walker) escape(c byte) {
	if w.esc == 1 {
		if c == 'u' {
			w.esc, w.hex = 2, 0
			return
		}
		w.esc = 0
		w.unpair()
		switch c {
		case 'n':
			c = '\n'
		case 't':
			c = '\t'
		case 'r':
			c = '\r'
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case '"', '\\', '/':
		default:
			w.state = walkBad
		}
		w.keep([]byte{c})
		w.size++
		return
	}
	switch {
	case c >= '0' && c <= '9':
		c -= '0'
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		c = c | 0x20 - 'a' + 10
	default:
		w.state = walkBad
	}
	w.hex = w.hex<<4 | uint16(c)
	if w.esc++; w.esc > 5 {
		w.esc = 0
		w.unit(w.hex)
	}
}

// unit takes a code unit of UTF-16; two surrogates are one character.
func (w *walker) unit(u uint16) {
	if w.high != 0 {
		if r := utf16.DecodeRune(rune(w.high), rune(u)); r != utf8.RuneError {
			w.high = 0
			w.rune(r)
			return
		}
		w.unpair()
	}
	if u >= 0xd800 && u < 0xdc00 {
		w.high = u
		return
	}
	w.rune(rune(u)) // a low surrogate alone becomes the replacement character
}

// unpair gives up waiting for a low surrogate.
func (w *walker) unpair() {
	if w.high != 0 {
		w.high = 0
		w.rune(utf8.RuneError)
	}
}

func (w *walker) rune(r rune) {
	var b [utf8.UTFMax]byte
	n := utf8.EncodeRune(b[:], r)
	w.keep(b[:n])
	w.size += int64(n)
}
