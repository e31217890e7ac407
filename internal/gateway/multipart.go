package gateway

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"strings"
)

// maxFormFields bounds the parts that are looked at.
const maxFormFields = 1000

// isMultipart reports whether a Content-Type is multipart/form-data.
func isMultipart(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && kind == "multipart/form-data"
}

// inspectForm reads the model and the named fields of a form, with the rules
// of [inspectJSON]: once each, and no look-alikes.
func inspectForm(body []byte, contentType string, names []string) (in inspection, problem scanProblem) {
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil || params["boundary"] == "" {
		return in, scanNotJSON
	}
	in.params = newParams(names)
	reader := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	for range maxFormFields {
		part, err := reader.NextRawPart()
		if errors.Is(err, io.EOF) {
			return in, problem
		}
		if err != nil {
			return in, scanNotJSON
		}
		// A part that two parsers could name differently is not accepted.
		disposition := part.Header["Content-Disposition"]
		name := part.FormName()
		if len(disposition) != 1 || name == "" || strings.Contains(disposition[0], "*") {
			return in, scanNotJSON
		}
		if problem, err = in.readField(part, name, names, problem); err != nil {
			return in, scanNotJSON
		}
	}
	return in, scanNotJSON
}

func (in *inspection) readField(part *multipart.Part, name string, names []string, problem scanProblem) (scanProblem, error) {
	target, match := in.target([]byte(name), names)
	switch {
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
	if len(value) > maxFormValue {
		return problem, errors.New("form field is too long")
	}
	*target = member{present: true, simple: true, str: true, text: string(value)}
	return problem, nil
}

const maxFormValue = 4096
