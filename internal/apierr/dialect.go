package apierr

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Dialect is the form of errors that a client's SDK understands.
type Dialect uint8

// The dialects. OpenAI's is also that of every compatible provider.
const (
	OpenAI Dialect = iota
	OpenAIResponses
	Anthropic
	Gemini
)

// Write sends e as the whole answer. The request id goes into X-Request-Id
// (OpenAI's SDKs read it) and Request-Id (Anthropic's).
func Write(w http.ResponseWriter, d Dialect, e *Error, requestID string) {
	h := w.Header()
	body := d.Body(e, requestID)
	id := []string{requestID}
	h["X-Request-Id"] = id
	h["Request-Id"] = id
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	h["Cache-Control"] = noStore
	switch e.Retry {
	case RetryNo:
		h["X-Should-Retry"] = retryFalse
	case RetryYes:
		h["X-Should-Retry"] = retryTrue
	}
	if e.RetryAfter > 0 {
		h["Retry-After"] = []string{strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10)}
		h["Retry-After-Ms"] = []string{strconv.FormatInt(int64((e.RetryAfter+time.Millisecond-1)/time.Millisecond), 10)}
	}
	if e.Allow != "" {
		h["Allow"] = []string{e.Allow}
	}
	w.WriteHeader(e.Status)
	_, _ = w.Write(body) // the client is gone: nobody is left to tell
}

// Shared header values; net/http only reads them.
var (
	jsonType   = []string{"application/json"}
	noStore    = []string{"no-store"}
	retryFalse = []string{"false"}
	retryTrue  = []string{"true"}
)

// Body is the JSON of e in the dialect.
func (d Dialect) Body(e *Error, requestID string) []byte {
	b := make([]byte, 0, 384)
	switch d {
	case Anthropic:
		b = append(b, `{"type":"error","error":{"type":`...)
		b = quote(b, anthropicType(e.Status))
		b = append(b, `,"message":`...)
		b = quote(b, e.Message)
		b = append(b, `,"code":`...)
		b = quote(b, e.Code)
		b = appendMetadata(b, e)
		b = append(b, `},"request_id":`...)
		b = quote(b, requestID)
		return append(b, '}')
	case Gemini:
		b = append(b, `{"error":{"code":`...)
		b = strconv.AppendInt(b, int64(e.Status), 10)
		b = append(b, `,"message":`...)
		b = quote(b, e.Message)
		b = append(b, `,"status":`...)
		b = quote(b, geminiStatus(e.Status))
		b = append(b, `,"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":`...)
		b = quote(b, e.Code)
		b = append(b, `,"domain":"llm-proxy"}]`...)
		b = appendMetadata(b, e)
		return append(b, `}}`...)
	default:
		b = append(b, `{"error":`...)
		b = d.appendOpenAI(b, e)
		return append(b, '}')
	}
}

// Event is e as the last server-sent event of a stream that has begun.
func (d Dialect) Event(e *Error, requestID string) []byte {
	switch d {
	case Anthropic:
		return frame("event: error\ndata: ", d.Body(e, requestID))
	case OpenAIResponses:
		b := []byte(`{"type":"error","code":`)
		b = quote(b, e.Code)
		b = append(b, `,"message":`...)
		b = quote(b, e.Message)
		b = append(b, `,"param":`...)
		b = quoteOrNull(b, e.Param)
		b = append(b, '}')
		return frame("event: error\ndata: ", b)
	default:
		return frame("data: ", d.Body(e, requestID))
	}
}

func frame(head string, data []byte) []byte {
	out := make([]byte, 0, len(head)+len(data)+2)
	out = append(out, head...)
	out = append(out, data...)
	return append(out, "\n\n"...)
}

func (d Dialect) appendOpenAI(b []byte, e *Error) []byte {
	b = append(b, `{"message":`...)
	b = quote(b, e.Message)
	b = append(b, `,"type":`...)
	b = quote(b, openAIType(e.Status))
	b = append(b, `,"param":`...)
	b = quoteOrNull(b, e.Param)
	b = append(b, `,"code":`...)
	b = quote(b, e.Code)
	b = appendMetadata(b, e)
	return append(b, '}')
}

func appendMetadata(b []byte, e *Error) []byte {
	if len(e.Metadata) == 0 {
		return b
	}
	b = append(b, `,"metadata":{`...)
	for i, key := range slices.Sorted(maps.Keys(e.Metadata)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = quote(b, key)
		b = append(b, ':')
		b = quote(b, e.Metadata[key])
	}
	return append(b, '}')
}

// quote appends s as a JSON string. Invalid UTF-8, which only a client could
// have sent, becomes the replacement character.
func quote(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}

func quoteOrNull(b []byte, s string) []byte {
	if s == "" {
		return append(b, `null`...)
	}
	return quote(b, s)
}

// openAIType follows https://platform.openai.com/docs/guides/error-codes.
func openAIType(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return "authentication_error"
	case status == http.StatusPaymentRequired:
		return "insufficient_quota"
	case status == http.StatusForbidden:
		return "permission_error"
	case status == http.StatusTooManyRequests:
		return "rate_limit_error"
	case status >= 500:
		return "server_error"
	default:
		return "invalid_request_error"
	}
}

// anthropicType follows https://docs.anthropic.com/en/api/errors.
func anthropicType(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "authentication_error"
	case http.StatusPaymentRequired:
		return "billing_error"
	case http.StatusForbidden:
		return "permission_error"
	case http.StatusNotFound:
		return "not_found_error"
	case http.StatusRequestEntityTooLarge:
		return "request_too_large"
	case http.StatusTooManyRequests:
		return "rate_limit_error"
	case http.StatusServiceUnavailable:
		return "overloaded_error"
	case http.StatusGatewayTimeout:
		return "timeout_error"
	}
	if status >= 500 {
		return "api_error"
	}
	return "invalid_request_error"
}

// geminiStatus follows google.rpc.Code, https://cloud.google.com/apis/design/errors.
func geminiStatus(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "UNAUTHENTICATED"
	case http.StatusForbidden:
		return "PERMISSION_DENIED"
	case http.StatusNotFound:
		return "NOT_FOUND"
	case http.StatusMethodNotAllowed:
		return "UNIMPLEMENTED"
	case http.StatusPaymentRequired, http.StatusTooManyRequests:
		return "RESOURCE_EXHAUSTED"
	case http.StatusGatewayTimeout:
		return "DEADLINE_EXCEEDED"
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return "UNAVAILABLE"
	}
	if status >= 500 {
		return "INTERNAL"
	}
	return "INVALID_ARGUMENT"
}
