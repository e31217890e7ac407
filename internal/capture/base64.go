package capture

import (
	"strconv"
	"strings"
)

// LongBase64 is how many characters of base64 on end are left out: pictures, sound,
// files, signatures, encrypted thoughts. No word is that long.
const LongBase64 = 1024

// shorten replaces long base64 by its length. Of a data URL the beginning stays, which
// tells what it was.
func shorten(s string) string {
	if len(s) < LongBase64 {
		return s
	}
	var b strings.Builder
	done := 0
	for i := 0; i < len(s); i++ {
		from := i
		for i < len(s) && base64Chars[s[i]] {
			i++
		}
		if i-from < LongBase64 {
			continue
		}
		b.WriteString(s[done:from])
		b.WriteString("[" + strconv.Itoa(i-from) + " characters of base64 omitted]")
		done = i
	}
	if done == 0 {
		return s
	}
	b.WriteString(s[done:])
	return b.String()
}

// base64Chars are those of both alphabets, and the padding.
var base64Chars = func() (set [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=") {
		set[c] = true
	}
	return set
}()
