package usage

import (
	"math"
	"strconv"
)

// maxNumber is the longest number that is read. Longer ones are absent.
const maxNumber = 32

// count reads a number of things: a JSON number that is whole, not negative and
// below maxCount. Anything else, a string of digits among them, is no count.
func count(literal []byte) (int64, bool) {
	n := int64(0)
	for _, c := range literal {
		if c < '0' || c > '9' {
			f, ok := decimal(literal)
			return int64(f), ok && f == math.Trunc(f)
		}
		if n = n*10 + int64(c-'0'); n > maxCount {
			return 0, false
		}
	}
	return n, len(literal) > 0
}

// millis reads a number of seconds, as milliseconds rounded up.
func millis(literal []byte) (int64, bool) {
	f, ok := decimal(literal)
	if f = math.Ceil(f * 1000); !ok || f > maxCount {
		return 0, false
	}
	return int64(f), true
}

// decimal reads a number that is neither negative nor beyond maxCount.
func decimal(literal []byte) (float64, bool) {
	if c := literal[0]; c != '-' && (c < '0' || c > '9') { // true, false or null
		return 0, false
	}
	for _, c := range literal {
		if c == '_' || c == 'x' || c == 'X' || c == 'p' || c == 'P' { // Go's own notation
			return 0, false
		}
	}
	f, err := strconv.ParseFloat(string(literal), 64)
	if err != nil || f < 0 || f > maxCount {
		return 0, false
	}
	return f, true
}
