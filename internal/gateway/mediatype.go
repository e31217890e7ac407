package gateway

import (
	"mime"
	"strings"
	"unicode/utf8"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
)

// checkType refuses a body that the provider, going by its Content-Type, could
// read otherwise than the inspection did, which goes by the content.
func (x *exchange) checkType(body []byte, names []string) *apierr.Error {
	lines := x.r.Header["Content-Type"]
	if len(lines) > 1 || !isUTF8(lines, body) {
		return errType
	}
	if len(lines) == 0 || !strings.Contains(strings.ToLower(lines[0]), "urlencoded") {
		return nil
	}
	// One text can be JSON and a form at once: {"model":"a","x":"&model=b"}.
	form := string(body)
	if len(queryValues(form, memberModel)) > 0 {
		return errType.WithParam(memberModel)
	}
	for _, name := range names {
		if len(queryValues(form, name)) > 0 {
			return errType.WithParam(name)
		}
	}
	return nil
}

// isUTF8 reports whether text means the same in the charset that Content-Type
// lines name as in UTF-8, which it is in.
func isUTF8(contentType []string, text []byte) bool {
	if !utf8.Valid(text) {
		return false
	}
	for _, line := range contentType {
		_, params, err := mime.ParseMediaType(line)
		if err != nil {
			if strings.Contains(strings.ToLower(line), "charset") {
				return false
			}
			continue
		}
		switch strings.ToLower(params["charset"]) {
		case "", "utf-8", "utf8":
		case "us-ascii", "ascii", "iso-8859-1", "latin1", "windows-1252":
			if !isASCII(text) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// isJSONType reports whether Content-Type lines say that a body is JSON in UTF-8.
func isJSONType(lines []string) bool {
	if len(lines) != 1 {
		return false
	}
	if lines[0] == "application/json" { // what SDKs send
		return true
	}
	kind, params, err := mime.ParseMediaType(lines[0])
	if err != nil || kind != "application/json" {
		return false
	}
	for name, value := range params {
		if name != "charset" || !strings.EqualFold(value, "utf-8") && !strings.EqualFold(value, "utf8") {
			return false
		}
	}
	return true
}

func isASCII(text []byte) bool {
	for _, c := range text {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
