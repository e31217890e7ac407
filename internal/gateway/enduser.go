package gateway

import (
	"bytes"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"
)

// maxRecordedUser bounds what a client can write into our records, in bytes.
const maxRecordedUser = 256

// headerUser names the end user where a body cannot.
const headerUser = "X-Llm-Proxy-User"

var memberUserID = []byte(`"user_id"`)

// endUser reads the value of user, a string, or of metadata, an object with a
// user_id.
func endUser(value jsontext.Value) (string, bool) {
	switch value.Kind() {
	case '"':
		return userText(value)
	case '{':
		if !bytes.Contains(value, memberUserID) {
			return "", false
		}
	default:
		return "", false
	}
	d := jsontext.NewDecoder(bytes.NewReader(value), scanOptions...)
	if _, err := d.ReadToken(); err != nil {
		return "", false
	}
	for d.PeekKind() == '"' {
		name, err := d.ReadValue()
		if err != nil {
			return "", false
		}
		if !bytes.Equal(name, memberUserID) {
			if err := d.SkipValue(); err != nil {
				return "", false
			}
			continue
		}
		if value, err = d.ReadValue(); err != nil || value.Kind() != '"' {
			return "", false
		}
		return userText(value)
	}
	return "", false
}

func userText(literal []byte) (string, bool) {
	// No more is unquoted than can be kept: an escape takes up to six bytes a byte.
	if len(literal) > 6*maxRecordedUser {
		literal = append(bytes.Clone(literal[:6*maxRecordedUser]), '"')
	}
	// The decoder has checked the literal: what is left to complain about is a lone
	// surrogate, which is replaced, and where we cut it.
	text, _ := jsontext.AppendUnquote(nil, literal)
	return truncate(string(text), maxRecordedUser), true
}

// headerEndUser is the end user that a header names.
func headerEndUser(h http.Header) string {
	if values := h[headerUser]; len(values) > 0 {
		return truncate(values[0], maxRecordedUser)
	}
	return ""
}
