package adminapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
)

const maxBodyBytes = 1 << 20

// opt is a member of a request body that may be absent, null or a value.
type opt[T any] struct {
	set, null bool
	value     T
}

// UnmarshalJSONFrom tells null from a value, which decoding into T would not.
func (o *opt[T]) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	o.set = true
	if dec.PeekKind() == 'n' {
		o.null = true
		return dec.SkipValue()
	}
	return json.UnmarshalDecode(dec, &o.value)
}

// decode reads the body, a JSON object, into v, a pointer to a struct. Unknown
// and repeated members, other spellings of a name and trailing data are refused.
func (c *call) decode(v any) error { return c.decodeBody(v, false) }

// decodeOptional is decode for calls whose body may be left out.
func (c *call) decodeOptional(v any) error { return c.decodeBody(v, true) }

func (c *call) decodeBody(v any, optional bool) error {
	if err := checkContentType(c.r.Header["Content-Type"]); err != nil {
		return err
	}
	tooLarge := fail(codeRequestTooLarge, fmt.Sprintf("the body may have at most %d bytes", maxBodyBytes))
	if c.r.ContentLength > maxBodyBytes {
		return tooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBodyBytes))
	if err != nil {
		var tooMany *http.MaxBytesError
		if errors.As(err, &tooMany) {
			return tooLarge
		}
		return fail(codeInvalidJSON, "the body could not be read to its end")
	}
	body = bytes.TrimLeft(body, " \t\r\n")
	switch {
	case len(body) == 0 && optional:
		return nil
	case len(body) == 0:
		return fail(codeInvalidJSON, "the body is empty; send a JSON object")
	case body[0] != '{':
		return fail(codeInvalidJSON, "the body must be a JSON object")
	}
	if err := json.Unmarshal(body, v, json.RejectUnknownMembers(true)); err != nil {
		return explain(err, c.pattern)
	}
	return nil
}

func checkContentType(values []string) error {
	if len(values) == 0 {
		return nil
	}
	if mediaType, _, err := mime.ParseMediaType(values[0]); err != nil || len(values) > 1 || mediaType != "application/json" {
		return fail(codeInvalidRequest, "Content-Type: send application/json")
	}
	return nil
}

// moved tells where fields are that people look for elsewhere, such as those that
// clients of the predecessor send.
var moved = map[string]string{
	projectPattern + " api_key": "; keys are changed with PATCH /manage/projects/{id}/keys/{kid}",

	"/manage/tokens allow_unpriced":       ofProjects,
	"/manage/tokens allow_unbounded":      ofProjects,
	"/manage/tokens/{id} allow_unpriced":  ofProjects,
	"/manage/tokens/{id} allow_unbounded": ofProjects,
}

const ofProjects = "; only projects have it: PATCH /manage/projects/{id}"

// explain says in the API's words what is wrong with a body. It never repeats a
// value, which may be a provider key in the wrong place.
func explain(err error, pattern string) error {
	var syntax *jsontext.SyntacticError
	if errors.As(err, &syntax) {
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return fail(codeInvalidJSON, fieldName(syntax.JSONPointer)+": given more than once")
		}
		return fail(codeInvalidJSON, fmt.Sprintf("the body is not valid JSON (RFC 8259, UTF-8) at byte %d", syntax.ByteOffset))
	}
	var semantic *json.SemanticError
	if !errors.As(err, &semantic) {
		return fail(codeInvalidJSON, "the body is not valid JSON")
	}
	field := fieldName(semantic.JSONPointer)
	if errors.Is(err, json.ErrUnknownName) {
		return fail(codeUnknownField, field+": unknown field"+moved[pattern+" "+field])
	}
	for _, known := range []error{usd.ErrDecimal, usd.ErrNegative, usd.ErrTooLarge, usd.ErrPrecision} {
		if errors.Is(err, known) {
			return invalid(field, "%v", semantic.Err)
		}
	}
	return invalid(field, "expected %s", kindName(semantic.GoType))
}

// fieldName writes a JSON pointer as people do: allowed_models[0], metadata.team.
func fieldName(p jsontext.Pointer) string {
	var b strings.Builder
	for tok := range p.Tokens() {
		switch {
		case b.Len() == 0:
			b.WriteString(tok)
		case strings.Trim(tok, "0123456789") == "":
			b.WriteString("[" + tok + "]")
		default:
			b.WriteString("." + tok)
		}
	}
	return clip(b.String(), 128)
}

func kindName(t reflect.Type) string {
	if t == nil {
		return "another type"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number, without fraction or exponent"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Int64 {
			return "an array of whole numbers"
		}
		return "an array of strings"
	case reflect.Map:
		return "an object whose values are strings"
	}
	return "a string"
}
