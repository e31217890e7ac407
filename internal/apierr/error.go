// Package apierr is the one error that a client of the data path can get, and
// its forms in the dialects that provider SDKs understand.
package apierr

import (
	"net/http"
	"time"
)

// Codes of the errors. Clients may rely on them.
const (
	ParamNotAllowed      = "param_not_allowed"
	InvalidJSON          = "invalid_json"
	HeaderRequired       = "header_required"
	OriginRequired       = "origin_required"
	InvalidToken         = "invalid_token"
	TokenExpired         = "token_expired"
	TokenInactive        = "token_inactive"
	ProjectInactive      = "project_inactive"
	ModelNotAllowed      = "model_not_allowed"
	ProviderNotAllowed   = "provider_not_allowed"
	OriginNotAllowed     = "origin_not_allowed"
	IPNotAllowed         = "ip_not_allowed"
	EndpointNotFound     = "endpoint_not_found"
	MethodNotAllowed     = "method_not_allowed"
	RequestTooLarge      = "request_too_large"
	TooEarly             = "too_early"
	UpstreamError        = "upstream_error"
	CredentialsExhausted = "upstream_credentials_exhausted"
	StoreUnavailable     = "store_unavailable"
	LimiterUnavailable   = "limiter_unavailable"
	RateLimited          = "rate_limit_exceeded"
	QuotaExceeded        = "quota_exceeded"
	HoldTooLarge         = "budget_hold_too_large"
	BudgetExceeded       = "budget_exceeded"
	BudgetInFlight       = "budget_in_flight"
	NotBudgetable        = "endpoint_not_budgetable"
	Starting             = "starting"
	NotCached            = "not_cached"
	UpstreamTimeout      = "upstream_timeout"
)

// Retry is what x-should-retry tells the official SDKs, overriding their own
// rules by status.
type Retry uint8

// Values of Retry.
const (
	RetryUnsaid Retry = iota // no header: the SDK's rule for the status applies
	RetryNo
	RetryYes
)

// Error is a refusal or failure on its way to a client.
type Error struct {
	Status     int
	Code       string // one of the constants above
	Message    string // says what to do; never holds a secret or an internal detail
	Param      string // the request member at fault, if one is
	Retry      Retry
	RetryAfter time.Duration     // 0: no Retry-After
	Allow      string            // Allow header of a 405
	Metadata   map[string]string // error.metadata, for limits and budgets
	Cause      error             // for logs only
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Code + ": " + e.Cause.Error()
	}
	return e.Code + ": " + e.Message
}

func (e *Error) Unwrap() error { return e.Cause }

// New makes an error. Authentication and permission errors (401, 402, 403) tell
// SDKs not to retry.
func New(status int, code, message string) *Error {
	e := &Error{Status: status, Code: code, Message: message}
	switch status {
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden:
		e.Retry = RetryNo
	}
	return e
}

// WithCause returns a copy of e that carries cause for the logs.
func (e *Error) WithCause(cause error) *Error {
	c := *e
	c.Cause = cause
	return &c
}

// WithParam returns a copy of e that names the request member at fault.
func (e *Error) WithParam(param string) *Error {
	c := *e
	c.Param = param
	return &c
}
