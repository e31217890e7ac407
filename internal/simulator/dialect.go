package simulator

import (
	"net/http"
	"time"
)

// dialect is how one provider words errors and headers, on whatever endpoint.
type dialect interface {
	// problem is the error body.
	problem(p problem, requestID string) object
	// unauthorized words a refused credential; the zero credential means that
	// the request had none.
	unauthorized(c credential) problem
	// headers sets what the provider sends with every answer.
	headers(h http.Header, requestID string, took time.Duration)
	// limits sets the rate-limit headers of a model call.
	limits(h http.Header, promptTokens int, now time.Time)
}

// Plausible limits of a mid-tier account.
const (
	requestLimit = 10_000
	tokenLimit   = 2_000_000
)

// Interface guards.
var (
	_ dialect = openAI{}
	_ dialect = anthropic{}
	_ dialect = gemini{}
)
