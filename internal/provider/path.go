package provider

import "strings"

// CanonicalPath puts an escaped URL path into the one form that is checked and
// sent: unreserved characters are decoded once (RFC 3986, 2.3), what a path may
// not hold raw is escaped, repeated slashes collapsed, escapes written in upper
// case. It refuses (ok false) what
// two parsers could read differently: dot segments, encoded slashes, backslashes,
// percent signs or control characters, ";" and anything that is not ASCII. A path
// that is canonical already is returned as it is, without allocating.
func CanonicalPath(raw string) (path string, ok bool) {
	if raw == "" || raw[0] != '/' {
		return "", false
	}
	if isCanonical(raw) {
		return raw, true
	}
	b := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c == '%' {
			if i+2 >= len(raw) || !isHex(raw[i+1]) || !isHex(raw[i+2]) {
				return "", false
			}
			c = unhex(raw[i+1])<<4 | unhex(raw[i+2])
			i += 2
			switch {
			case class[c] == refused || c == '/' || c == '%':
				return "", false
			case class[c] != unreserved:
				b = appendEscape(b, c)
				continue
			}
		} else {
			switch {
			case class[c] == refused || c == ' ' || c == '?' || c == '#':
				return "", false
			case class[c] == escaped:
				b = appendEscape(b, c)
				continue
			}
		}
		if c == '/' && len(b) > 0 && b[len(b)-1] == '/' {
			continue
		}
		b = append(b, c)
	}
	path = string(b)
	if hasDotSegment(path) {
		return "", false
	}
	return path, true
}

// FirstSegment is the first segment of an escaped path, decoded as liberally as
// any server behind us might: it decides whether a path that has no canonical
// form was meant for us and must be refused, or is another handler's business.
// Escapes that are broken stay as they are and do not spoil the others.
func FirstSegment(raw string) string {
	b := make([]byte, 0, 64)
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c == '%' && i+2 < len(raw) && isHex(raw[i+1]) && isHex(raw[i+2]) {
			c = unhex(raw[i+1])<<4 | unhex(raw[i+2])
			i += 2
		}
		switch c {
		case '/', '\\':
			if len(b) == 0 {
				continue
			}
			return string(b)
		case ';', 0:
			return string(b)
		}
		b = append(b, c)
	}
	return string(b)
}

func isCanonical(p string) bool {
	for i := 0; i < len(p); i++ {
		switch c := class[p[i]]; {
		case c == refused, c == escaped, p[i] == '%':
			return false
		case p[i] == '/' && i+1 < len(p) && (p[i+1] == '/' || p[i+1] == '.'):
			return false // "/." may be a dot segment: the slow path knows
		}
	}
	return true
}

func hasDotSegment(p string) bool {
	for segment := range strings.SplitSeq(p, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

type byteClass uint8

const (
	reserved   byteClass = iota // stays as it is, escaped or not
	unreserved                  // decoded
	escaped                     // may not stand raw in a path
	refused
)

// class sorts bytes as RFC 3986 does, with what we refuse on top.
var class = func() (t [256]byteClass) {
	for c := range t {
		switch {
		case c < 0x20 || c >= 0x7f || c == '\\' || c == ';':
			t[c] = refused
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", byte(c)) >= 0:
			t[c] = unreserved
		case strings.IndexByte(" \"#<>?[]^`{|}", byte(c)) >= 0:
			t[c] = escaped
		}
	}
	return t
}()

func appendEscape(b []byte, c byte) []byte {
	const digits = "0123456789ABCDEF"
	return append(b, '%', digits[c>>4], digits[c&15])
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f' }

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}
