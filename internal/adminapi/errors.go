package adminapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// The stable codes of refusals. Each has one status; the served description
// lists the same codes.
const (
	codeUnauthorized     = "unauthorized"
	codeNotFound         = "not_found"
	codeMethodNotAllowed = "method_not_allowed"
	codeInvalidJSON      = "invalid_json"
	codeUnknownField     = "unknown_field"
	codeInvalidRequest   = "invalid_request"
	codeRequestTooLarge  = "request_too_large"
	codeProjectExists    = "project_exists"
	codeKeyExists        = "key_exists"
	codeProjectInactive  = "project_inactive"
	codeTokenInactive    = "token_inactive"
	codePurgeIncomplete  = "purge_incomplete"
	codeStoreUnavailable = "store_unavailable"
	codeInternal         = "internal"
)

var statusOf = map[string]int{
	codeUnauthorized:     http.StatusUnauthorized,
	codeNotFound:         http.StatusNotFound,
	codeMethodNotAllowed: http.StatusMethodNotAllowed,
	codeInvalidJSON:      http.StatusBadRequest,
	codeUnknownField:     http.StatusBadRequest,
	codeInvalidRequest:   http.StatusBadRequest,
	codeRequestTooLarge:  http.StatusRequestEntityTooLarge,
	codeProjectExists:    http.StatusConflict,
	codeKeyExists:        http.StatusConflict,
	codeProjectInactive:  http.StatusForbidden,
	codeTokenInactive:    http.StatusConflict,
	codePurgeIncomplete:  http.StatusServiceUnavailable,
	codeStoreUnavailable: http.StatusServiceUnavailable,
	codeInternal:         http.StatusInternalServerError,
}

// retryAfter is what clients are told to wait, in seconds, while the database is
// away: short, because nothing is lost by asking again.
const retryAfter = "1"

// failure is a refusal in words that the client may see.
type failure struct {
	code   string
	text   string
	detail string // sent as "message" beside "error"
	header http.Header
	cause  error // for the log only
}

func (f *failure) Error() string { return f.code + ": " + f.text }

func (f *failure) Unwrap() error { return f.cause }

func fail(code, text string) *failure { return &failure{code: code, text: text} }

// invalid refuses one field; the text goes on from its name.
func invalid(field, format string, args ...any) *failure {
	return fail(codeInvalidRequest, field+": "+fmt.Sprintf(format, args...))
}

func unavailable(cause error) *failure {
	return &failure{code: codeStoreUnavailable, text: "the database cannot be reached; try again", cause: cause}
}

// found turns the storage's "not found" into a refusal that names the kind of object.
func found(what string, err error) error {
	if errors.Is(err, storage.ErrNotFound) {
		return fail(codeNotFound, what+" not found")
	}
	return err
}

type errorBody struct {
	Error   string `json:"error"`
	Message string `json:"message,omitempty"`
	Code    string `json:"code"`
}

// refusal turns any error into an answer. Only a failure's own words reach the
// client; what else went wrong is for the log.
func (a *API) refusal(c *call, err error) answer {
	f := asFailure(err)
	h := f.header.Clone()
	if h == nil {
		h = http.Header{}
	}
	switch f.code {
	case codeUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
	case codeStoreUnavailable:
		h.Set("Retry-After", retryAfter)
	}
	if f.cause != nil && c.r.Context().Err() == nil { // a client that left is no fault of ours
		a.log.LogAttrs(c.r.Context(), slog.LevelError, "management call failed",
			slog.String("request_id", c.requestID), slog.String("method", methodLabel(c.r.Method)),
			slog.String("route", c.pattern), slog.String("code", f.code), slog.Any("error", f.cause))
	}
	return answer{status: statusOf[f.code], header: h, body: errorBody{f.text, f.detail, f.code}}
}

func asFailure(err error) *failure {
	var f *failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, storage.ErrUnreachable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return unavailable(err)
	}
	return &failure{code: codeInternal, text: "internal error; the log has it under this request id", cause: err}
}
