package simulator

import (
	"net/http"
	"strconv"
	"time"
)

// anthropic follows https://docs.anthropic.com/en/api/errors and
// https://docs.anthropic.com/en/api/rate-limits#response-headers.
type anthropic struct{}

func (anthropic) problem(p problem, requestID string) object {
	message := p.message
	if p.code == "model_not_found" {
		message = "model: " + message
	}
	return object{
		"type", "error",
		"error", object{"type", anthropicKind(p.status), "message", message},
		"request_id", requestID,
	}
}

func anthropicKind(status int) string {
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
	case http.StatusGatewayTimeout:
		return "timeout_error"
	case statusOverloaded:
		return "overloaded_error"
	}
	if status >= 500 {
		return "api_error"
	}
	return "invalid_request_error"
}

func (anthropic) unauthorized(c credential) problem {
	message := "invalid x-api-key"
	if c.value == "" {
		message = "x-api-key header is required"
	}
	return problem{status: http.StatusUnauthorized, message: message}
}

func (anthropic) headers(h http.Header, requestID string, _ time.Duration) {
	h.Set("request-id", requestID)
	h.Set("anthropic-organization-id", "00000000-0000-4000-8000-0000000051b0")
}

func (anthropic) limits(h http.Header, promptTokens int, now time.Time) {
	reset := now.Add(time.Second).UTC().Format(time.RFC3339)
	set := func(kind string, limit, used int) {
		h.Set("anthropic-ratelimit-"+kind+"-limit", strconv.Itoa(limit))
		h.Set("anthropic-ratelimit-"+kind+"-remaining", strconv.Itoa(max(0, limit-used)))
		h.Set("anthropic-ratelimit-"+kind+"-reset", reset)
	}
	set("requests", requestLimit, 1)
	set("tokens", tokenLimit, promptTokens)
	set("input-tokens", tokenLimit, promptTokens)
	set("output-tokens", tokenLimit/5, 0)
}
