package gateway

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"unicode/utf8"
)

// maxFormFields bounds the parts that are looked at, maxFormValue the fields
// that are read, in bytes.
const (
	maxFormFields = 1000
	maxFormValue  = 4096
)

var (
	crlf          = []byte("\r\n")
	endOfHeader   = []byte("\r\n\r\n")
	errFieldValue = errors.New("the value of a form field may be read differently elsewhere")
)

// isMultipart reports whether a Content-Type is multipart/form-data.
func isMultipart(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && kind == "multipart/form-data"
}

// inspectForm reads the model and the named fields of a form, with the rules
// of [inspectJSON]: once each, and no look-alikes. Parsers of forms differ widely;
// what two of them could cut or name differently is refused.
func inspectForm(body []byte, contentType string, names []string) (in inspection, problem scanProblem) {
	in.params = newParams(names)
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil || params["boundary"] == "" || strings.ContainsAny(contentType, `*\`) || !isPlainForm(body, params["boundary"]) {
		return in, scanNotJSON
	}
	reader := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	for range maxFormFields {
		part, err := reader.NextRawPart()
		if errors.Is(err, io.EOF) {
			return in, problem
		}
		if err != nil {
			return in, scanNotJSON
		}
		name := part.FormName()
		if disposition := part.Header["Content-Disposition"]; name == "" || len(disposition) != 1 || !isPlainDisposition(disposition[0]) {
			return in, scanNotJSON
		}
		if problem, err = in.readField(part, name, names, problem); err != nil {
			return in, scanNotJSON
		}
	}
	return in, scanNotJSON
}

// isPlainForm reports whether a form begins with its first part, ends with its
// last one, and holds its boundary nowhere but between them, with lines that
// end as they should and headers that are not folded.
func isPlainForm(body []byte, boundary string) bool {
	delimiter := []byte("--" + boundary)
	rest, ok := bytes.CutPrefix(body, delimiter)
	for n := 0; ok; n++ {
		if end, last := bytes.CutPrefix(rest, []byte("--")); last {
			return n > 0 && (len(end) == 0 || bytes.Equal(end, crlf))
		}
		part, after, found := bytes.Cut(rest, delimiter)
		if !found || !bytes.HasPrefix(part, crlf) || !bytes.HasSuffix(part, crlf) {
			return false
		}
		head, _, found := bytes.Cut(part[len(crlf):], endOfHeader)
		if !found || !isPlainHeader(head) {
			return false
		}
		rest = after
	}
	return false
}

func isPlainHeader(head []byte) bool {
	for line := range bytes.SplitSeq(head, crlf) {
		if len(line) == 0 || line[0] == ' ' || line[0] == '\t' || bytes.ContainsAny(line, "\r\n") {
			return false
		}
	}
	return true
}

// isPlainDisposition refuses extended parameters (RFC 5987), escapes inside
// quotes, encoded words and bytes that are no UTF-8.
func isPlainDisposition(s string) bool {
	return !strings.ContainsAny(s, `*\`) && !strings.Contains(s, "=?") && utf8.ValidString(s)
}

func (in *inspection) readField(part *multipart.Part, name string, names []string, problem scanProblem) (scanProblem, error) {
	target, match := in.target([]byte(name), names)
	switch {
	case name == "_charset_": // RFC 7578, 4.6: of all other fields
		return problem, errFieldValue
	case match == matchFold:
		return max(problem, scanAmbiguous), nil
	case match != matchExact:
		return problem, nil
	case target.present:
		return max(problem, scanRepeated), nil
	}
	value, err := io.ReadAll(io.LimitReader(part, maxFormValue+1))
	if err != nil {
		return problem, err
	}
	if len(value) > maxFormValue || !isPlainField(part, value) {
		return problem, errFieldValue
	}
	*target = member{present: true, simple: true, str: true, text: string(value)}
	return problem, nil
}

// isPlainField refuses fields that may be taken for files, or whose value is
// encoded.
func isPlainField(part *multipart.Part, value []byte) bool {
	h := part.Header
	if strings.Contains(strings.ToLower(h.Get("Content-Disposition")), "filename") || !isUTF8(h["Content-Type"], value) {
		return false
	}
	for _, encoding := range h["Content-Transfer-Encoding"] {
		switch strings.ToLower(encoding) {
		case "7bit", "8bit", "binary":
		default:
			return false
		}
	}
	return true
}
