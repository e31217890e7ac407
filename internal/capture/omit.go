package capture

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"
)

// omitted stands for a body of which nothing is stored but what and how long it was.
func omitted(contentType string, size int64) string {
	return `{"omitted":` + quote(contentType) + `,"bytes":` + strconv.FormatInt(size, 10) + `}`
}

// isForm reports whether text is multipart: a boundary's line, and a part's header.
func isForm(text []byte) bool {
	if !bytes.HasPrefix(text, []byte("--")) {
		return false
	}
	head := bytes.ToLower(text[:min(len(text), 1024)])
	return bytes.Contains(head, []byte("\ncontent-disposition:")) || bytes.Contains(head, []byte("\ncontent-type:"))
}

// isText reports whether data is UTF-8 without control characters that no text has.
func isText(data []byte) bool {
	for _, c := range data {
		if c < ' ' && !strings.ContainsRune("\t\n\v\f\r\b\x1b", rune(c)) {
			return false
		}
	}
	return utf8.Valid(data)
}

// wholeRunes leaves out the part of a character at the end of data.
func wholeRunes(data []byte) []byte {
	for n := 1; n < min(utf8.UTFMax, len(data)+1); n++ {
		if end := data[len(data)-n:]; utf8.RuneStart(end[0]) {
			if !utf8.FullRune(end) {
				return data[:len(data)-n]
			}
			break
		}
	}
	return data
}

// binaryType guesses what data is that is no text.
func binaryType(data []byte) string {
	contentType, _, _ := strings.Cut(http.DetectContentType(data), ";")
	if strings.HasPrefix(contentType, "text/") {
		return "application/octet-stream" // text is what it is not
	}
	return contentType
}
