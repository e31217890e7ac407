package simulator

import (
	"net/http"
	"strconv"
	"time"
)

// gemini follows https://ai.google.dev/gemini-api/docs/troubleshooting and the
// error model of https://cloud.google.com/apis/design/errors. It sends no
// rate-limit headers, like the real one; a 429 carries RetryInfo instead.
type gemini struct{}

func (gemini) problem(p problem, _ string) object {
	var details list
	if p.reason != "" {
		details = append(details, object{
			"@type", "type.googleapis.com/google.rpc.ErrorInfo",
			"reason", p.reason,
			"domain", "googleapis.com",
			"metadata", object{"service", "generativelanguage.googleapis.com"},
		})
	}
	if p.status == http.StatusTooManyRequests {
		details = append(details,
			object{
				"@type", "type.googleapis.com/google.rpc.QuotaFailure",
				"violations", list{object{"quotaId", "GenerateRequestsPerMinutePerProjectPerModel"}},
			},
			object{"@type", "type.googleapis.com/google.rpc.RetryInfo", "retryDelay", "1s"},
		)
	}
	body := object{"code", p.status, "message", p.message, "status", geminiStatus(p.status)}
	return object{"error", body.with(details != nil, "details", details)}
}

func geminiStatus(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "UNAUTHENTICATED"
	case http.StatusForbidden:
		return "PERMISSION_DENIED"
	case http.StatusNotFound:
		return "NOT_FOUND"
	case http.StatusConflict:
		return "ABORTED"
	case http.StatusTooManyRequests:
		return "RESOURCE_EXHAUSTED"
	case http.StatusNotImplemented:
		return "UNIMPLEMENTED"
	case http.StatusServiceUnavailable:
		return "UNAVAILABLE"
	case http.StatusGatewayTimeout:
		return "DEADLINE_EXCEEDED"
	}
	if status >= 500 {
		return "INTERNAL"
	}
	return "INVALID_ARGUMENT"
}

// unauthorized answers a wrong key with 400 API_KEY_INVALID: the real one does
// not use 401 for it, and a gateway must know that a 400 can mean its key.
func (gemini) unauthorized(c credential) problem {
	if c.value == "" {
		return problem{
			status:  http.StatusUnauthorized,
			reason:  "CREDENTIALS_MISSING",
			message: "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or other valid authentication credential.",
		}
	}
	return problem{
		status:  http.StatusBadRequest,
		reason:  "API_KEY_INVALID",
		message: "API key not valid. Please pass a valid API key.",
	}
}

func (gemini) headers(h http.Header, _ string, took time.Duration) {
	h.Set("Server", "scaffolding on HTTPServer2")
	h.Set("Server-Timing", "gfet4t7; dur="+strconv.FormatInt(took.Milliseconds(), 10))
	h.Set("X-Content-Type-Options", "nosniff")
}

func (gemini) limits(http.Header, int, time.Time) {}
