package gateway

import (
	"net/http"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
)

// Refusals and failures that carry nothing of their request.
var (
	errInvalidToken    = apierr.New(http.StatusUnauthorized, apierr.InvalidToken, "no valid proxy token was given: send one in Authorization: Bearer, x-api-key, api-key, x-goog-api-key or ?key=, and only one")
	errTokenExpired    = apierr.New(http.StatusUnauthorized, apierr.TokenExpired, "this proxy token has expired; ask its issuer for a new one")
	errTokenInactive   = apierr.New(http.StatusUnauthorized, apierr.TokenInactive, "this proxy token was revoked; ask its issuer for a new one")
	errProjectInactive = apierr.New(http.StatusForbidden, apierr.ProjectInactive, "the project of this proxy token is inactive")
	errProvider        = apierr.New(http.StatusForbidden, apierr.ProviderNotAllowed, "this proxy token may not use this provider")
	errIP              = apierr.New(http.StatusForbidden, apierr.IPNotAllowed, "this proxy token may not be used from this address")
	errEndpoint        = apierr.New(http.StatusNotFound, apierr.EndpointNotFound, "no such endpoint here")
	errTooLarge        = apierr.New(http.StatusRequestEntityTooLarge, apierr.RequestTooLarge, "the request body is too large")
	errTooEarly        = apierr.New(http.StatusTooEarly, apierr.TooEarly, "this request must not be sent as early data; send it again")
	errCompressed      = apierr.New(http.StatusBadRequest, apierr.InvalidJSON, "compressed request bodies are not accepted here; send the JSON without Content-Encoding")
	errNotJSON         = apierr.New(http.StatusBadRequest, apierr.InvalidJSON, "the request body must be one JSON object, valid and complete")
	errType            = apierr.New(http.StatusBadRequest, apierr.InvalidJSON, "the request body may be read differently by its Content-Type; send JSON as application/json, in UTF-8")
	errBodyRead        = apierr.New(http.StatusBadRequest, apierr.InvalidJSON, "the request body could not be read to its end")
	errNoModel         = apierr.New(http.StatusForbidden, apierr.ModelNotAllowed, "only certain models are allowed here, so the request must name one")
	errHiddenModel     = apierr.New(http.StatusForbidden, apierr.ModelNotAllowed, "only certain models are allowed here, and those of this endpoint's requests cannot be checked")
	errUpstream        = apierr.New(http.StatusBadGateway, apierr.UpstreamError, "the provider could not be reached or broke off its answer")
	errUpstreamTimeout = apierr.New(http.StatusGatewayTimeout, apierr.UpstreamTimeout, "the provider did not answer in time")
	errNoCredential    = noRetry(apierr.New(http.StatusBadGateway, apierr.CredentialsExhausted, "the project has no usable key for this provider; an operator must add or replace one"))
	errCredential      = noRetry(apierr.New(http.StatusBadGateway, apierr.CredentialsExhausted, "the provider did not accept the project's key; an operator must replace it"))
	errStore           = retryAfter(apierr.New(http.StatusServiceUnavailable, apierr.StoreUnavailable, "the proxy cannot check tokens at the moment; try again soon"), time.Second)
	errLimiter         = retryAfter(apierr.New(http.StatusServiceUnavailable, apierr.LimiterUnavailable, "the proxy cannot count requests at the moment; try again soon"), time.Second)

	// ErrStarting refuses requests until the database is open.
	ErrStarting = retryAfter(apierr.New(http.StatusServiceUnavailable, apierr.Starting, "the proxy is starting; try again soon"), 2*time.Second)
)

func noRetry(e *apierr.Error) *apierr.Error {
	e.Retry = apierr.RetryNo
	return e
}

func retryAfter(e *apierr.Error, d time.Duration) *apierr.Error {
	e.RetryAfter = d
	return e
}
