package simulator

import (
	"net/http"
	"strconv"
	"time"
)

// openAI follows https://platform.openai.com/docs/guides/error-codes and the
// headers listed in https://platform.openai.com/docs/api-reference/debugging-requests.
type openAI struct{}

func (openAI) problem(p problem, _ string) object {
	return object{"error", object{
		"message", p.message,
		"type", openAIKind(p.status),
		"param", orNull(p.param),
		"code", orNull(p.code),
	}}
}

func openAIKind(status int) string {
	switch {
	case status == http.StatusTooManyRequests:
		return "requests"
	case status >= 500:
		return "server_error"
	}
	return "invalid_request_error"
}

func (openAI) unauthorized(c credential) problem {
	if c.value == "" {
		return problem{
			status:  http.StatusUnauthorized,
			message: "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
		}
	}
	return problem{
		status: http.StatusUnauthorized,
		code:   "invalid_api_key",
		message: "Incorrect API key provided: " + masked(c.value) +
			". You can find your API key at https://platform.openai.com/account/api-keys.",
	}
}

func (openAI) headers(h http.Header, requestID string, took time.Duration) {
	h.Set("x-request-id", requestID)
	h.Set("openai-processing-ms", strconv.FormatInt(max(1, took.Milliseconds()), 10))
	h.Set("openai-version", "2020-10-01")
	h.Set("openai-organization", "org-sim")
}

func (openAI) limits(h http.Header, promptTokens int, _ time.Time) {
	h.Set("x-ratelimit-limit-requests", strconv.Itoa(requestLimit))
	h.Set("x-ratelimit-remaining-requests", strconv.Itoa(requestLimit-1))
	h.Set("x-ratelimit-reset-requests", "6ms")
	h.Set("x-ratelimit-limit-tokens", strconv.Itoa(tokenLimit))
	h.Set("x-ratelimit-remaining-tokens", strconv.Itoa(max(0, tokenLimit-promptTokens)))
	h.Set("x-ratelimit-reset-tokens", (time.Duration(promptTokens) * time.Minute / tokenLimit).Round(time.Millisecond).String())
}

// orNull renders an absent text as null, which OpenAI always spells out.
func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}
