package apierr_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
)

const requestID = "0198c0de-0000-7000-8000-000000000001"

// cases are errors as the gateway makes them, by name.
func cases() map[string]*apierr.Error {
	limited := apierr.New(429, "rate_limit_exceeded", "too many requests; try again later")
	limited.RetryAfter = 1500 * time.Millisecond
	limited.Metadata = map[string]string{"limit": "requests", "a \"scope\"": "token"}
	method := apierr.New(405, apierr.MethodNotAllowed, "this method is not allowed here")
	method.Allow = "GET, POST"
	return map[string]*apierr.Error{
		"token":  apierr.New(401, apierr.InvalidToken, "the token is not valid"),
		"param":  apierr.New(400, apierr.ParamNotAllowed, `the value of "model" is not allowed`).WithParam("model"),
		"limit":  limited,
		"method": method,
		"store":  apierr.New(503, apierr.StoreUnavailable, "try again").WithCause(errors.New("secret detail")),
	}
}

func TestGoldenBodies(t *testing.T) {
	for _, tc := range []struct {
		name    string
		dialect apierr.Dialect
		want    string
	}{
		{"token", apierr.OpenAI, `{"error":{"message":"the token is not valid","type":"authentication_error","param":null,"code":"invalid_token"}}`},
		{"param", apierr.OpenAI, `{"error":{"message":"the value of \"model\" is not allowed","type":"invalid_request_error","param":"model","code":"param_not_allowed"}}`},
		{"limit", apierr.OpenAI, `{"error":{"message":"too many requests; try again later","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded","metadata":{"a \"scope\"":"token","limit":"requests"}}}`},
		{"method", apierr.OpenAIResponses, `{"error":{"message":"this method is not allowed here","type":"invalid_request_error","param":null,"code":"method_not_allowed"}}`},
		{"store", apierr.OpenAI, `{"error":{"message":"try again","type":"server_error","param":null,"code":"store_unavailable"}}`},
		{"token", apierr.Anthropic, `{"type":"error","error":{"type":"authentication_error","message":"the token is not valid","code":"invalid_token"},"request_id":"` + requestID + `"}`},
		{"param", apierr.Anthropic, `{"type":"error","error":{"type":"invalid_request_error","message":"the value of \"model\" is not allowed","code":"param_not_allowed"},"request_id":"` + requestID + `"}`},
		{"limit", apierr.Anthropic, `{"type":"error","error":{"type":"rate_limit_error","message":"too many requests; try again later","code":"rate_limit_exceeded","metadata":{"a \"scope\"":"token","limit":"requests"}},"request_id":"` + requestID + `"}`},
		{"store", apierr.Anthropic, `{"type":"error","error":{"type":"overloaded_error","message":"try again","code":"store_unavailable"},"request_id":"` + requestID + `"}`},
		{"token", apierr.Gemini, `{"error":{"code":401,"message":"the token is not valid","status":"UNAUTHENTICATED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"invalid_token","domain":"llm-proxy"}]}}`},
		{"limit", apierr.Gemini, `{"error":{"code":429,"message":"too many requests; try again later","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"rate_limit_exceeded","domain":"llm-proxy"}],"metadata":{"a \"scope\"":"token","limit":"requests"}}}`},
		{"store", apierr.Gemini, `{"error":{"code":503,"message":"try again","status":"UNAVAILABLE","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"store_unavailable","domain":"llm-proxy"}]}}`},
	} {
		t.Run(fmt.Sprint(tc.name, tc.dialect), func(t *testing.T) {
			if got := string(tc.dialect.Body(cases()[tc.name], requestID)); got != tc.want {
				t.Errorf("body\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

func TestGoldenEvents(t *testing.T) {
	for _, tc := range []struct {
		name    string
		dialect apierr.Dialect
		want    string
	}{
		{"store", apierr.OpenAI, "data: " + `{"error":{"message":"try again","type":"server_error","param":null,"code":"store_unavailable"}}` + "\n\n"},
		{"store", apierr.OpenAIResponses, "event: error\ndata: " + `{"type":"error","code":"store_unavailable","message":"try again","param":null}` + "\n\n"},
		{"param", apierr.OpenAIResponses, "event: error\ndata: " + `{"type":"error","code":"param_not_allowed","message":"the value of \"model\" is not allowed","param":"model"}` + "\n\n"},
		{"store", apierr.Anthropic, "event: error\ndata: " + `{"type":"error","error":{"type":"overloaded_error","message":"try again","code":"store_unavailable"},"request_id":"` + requestID + `"}` + "\n\n"},
		{"token", apierr.Gemini, "data: " + `{"error":{"code":401,"message":"the token is not valid","status":"UNAUTHENTICATED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"invalid_token","domain":"llm-proxy"}]}}` + "\n\n"},
	} {
		if got := string(tc.dialect.Event(cases()[tc.name], requestID)); got != tc.want {
			t.Errorf("%s in dialect %d:\n%s\nwant\n%s", tc.name, tc.dialect, got, tc.want)
		}
	}
}

// TestTypes pins the error types by which SDKs choose their exceptions.
func TestTypes(t *testing.T) {
	for _, tc := range []struct {
		status                    int
		openAI, anthropic, gemini string
	}{
		{400, "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"},
		{401, "authentication_error", "authentication_error", "UNAUTHENTICATED"},
		{402, "insufficient_quota", "billing_error", "RESOURCE_EXHAUSTED"},
		{403, "permission_error", "permission_error", "PERMISSION_DENIED"},
		{404, "invalid_request_error", "not_found_error", "NOT_FOUND"},
		{405, "invalid_request_error", "invalid_request_error", "UNIMPLEMENTED"},
		{413, "invalid_request_error", "request_too_large", "INVALID_ARGUMENT"},
		{425, "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"},
		{429, "rate_limit_error", "rate_limit_error", "RESOURCE_EXHAUSTED"},
		{500, "server_error", "api_error", "INTERNAL"},
		{502, "server_error", "api_error", "UNAVAILABLE"},
		{503, "server_error", "overloaded_error", "UNAVAILABLE"},
		{504, "server_error", "timeout_error", "DEADLINE_EXCEEDED"},
	} {
		e := apierr.New(tc.status, "c", "m")
		for dialect, want := range map[apierr.Dialect]string{
			apierr.OpenAI:    `{"error":{"message":"m","type":"` + tc.openAI + `","param":null,"code":"c"}}`,
			apierr.Anthropic: `{"type":"error","error":{"type":"` + tc.anthropic + `","message":"m","code":"c"},"request_id":""}`,
			apierr.Gemini: `{"error":{"code":` + strconv.Itoa(tc.status) + `,"message":"m","status":"` + tc.gemini +
				`","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"c","domain":"llm-proxy"}]}}`,
		} {
			if got := string(dialect.Body(e, "")); got != want {
				t.Errorf("%d in dialect %d: %s, want %s", tc.status, dialect, got, want)
			}
		}
	}
}

func TestWriteHeaders(t *testing.T) {
	retryAfter := func(d time.Duration) *apierr.Error {
		e := apierr.New(429, "rate_limit_exceeded", "later")
		e.RetryAfter = d
		return e
	}
	retryYes := apierr.New(402, "budget_in_flight", "later")
	retryYes.Retry = apierr.RetryYes
	for _, tc := range []struct {
		name string
		err  *apierr.Error
		want map[string]string // "": absent
	}{
		{"always", cases()["param"], map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "X-Request-Id": requestID, "Request-Id": requestID}},
		{"unsaid", cases()["param"], map[string]string{"X-Should-Retry": "", "Retry-After": "", "Retry-After-Ms": "", "Allow": ""}},
		{"401", cases()["token"], map[string]string{"X-Should-Retry": "false", "Retry-After": ""}},
		{"402", apierr.New(402, "c", "m"), map[string]string{"X-Should-Retry": "false"}},
		{"402 that is worth a retry", retryYes, map[string]string{"X-Should-Retry": "true"}},
		{"403", apierr.New(403, "c", "m"), map[string]string{"X-Should-Retry": "false"}},
		{"404", apierr.New(404, "c", "m"), map[string]string{"X-Should-Retry": ""}},
		{"405", cases()["method"], map[string]string{"Allow": "GET, POST", "X-Should-Retry": ""}},
		{"a nanosecond", retryAfter(1), map[string]string{"Retry-After": "1", "Retry-After-Ms": "1"}},
		{"half a millisecond", retryAfter(500 * time.Microsecond), map[string]string{"Retry-After": "1", "Retry-After-Ms": "1"}},
		{"under a second", retryAfter(10 * time.Millisecond), map[string]string{"Retry-After": "1", "Retry-After-Ms": "10"}},
		{"a second", retryAfter(time.Second), map[string]string{"Retry-After": "1", "Retry-After-Ms": "1000"}},
		{"just over a second", retryAfter(time.Second + 1), map[string]string{"Retry-After": "2", "Retry-After-Ms": "1001"}},
		{"1.5 s", retryAfter(1500 * time.Millisecond), map[string]string{"Retry-After": "2", "Retry-After-Ms": "1500"}},
		{"an hour", retryAfter(time.Hour), map[string]string{"Retry-After": "3600", "Retry-After-Ms": "3600000"}},
		{"nothing to wait for", retryAfter(0), map[string]string{"Retry-After": "", "Retry-After-Ms": ""}},
		{"negative", retryAfter(-time.Second), map[string]string{"Retry-After": "", "Retry-After-Ms": ""}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			apierr.Write(w, apierr.OpenAI, tc.err, requestID)
			res := w.Result()
			body, err := io.ReadAll(res.Body)
			if err != nil || string(body) != string(apierr.OpenAI.Body(tc.err, requestID)) {
				t.Fatalf("body %s, %v", body, err)
			}
			if res.StatusCode != tc.err.Status || res.Header.Get("Content-Length") != strconv.Itoa(len(body)) {
				t.Errorf("status %d, length %s", res.StatusCode, res.Header.Get("Content-Length"))
			}
			for name, want := range tc.want {
				if got := res.Header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
		})
	}
}

// Write shares header values between answers: one answer's header, changed by
// a middleware in the usual ways, must not show in the next.
func TestAnswersDoNotShareHeaders(t *testing.T) {
	first := httptest.NewRecorder()
	apierr.Write(first, apierr.OpenAI, cases()["token"], "1")
	for _, name := range []string{"Content-Type", "Cache-Control", "X-Should-Retry", "X-Request-Id"} {
		first.Header().Add(name, "spoiled")
		first.Header().Set(name, "spoiled")
	}
	second := httptest.NewRecorder()
	apierr.Write(second, apierr.OpenAI, cases()["token"], "2")
	want := http.Header{
		"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}, "X-Should-Retry": {"false"}, "X-Request-Id": {"2"}, "Request-Id": {"2"},
	}
	for name, values := range want {
		if got := second.Header()[name]; len(got) != 1 || got[0] != values[0] {
			t.Errorf("%s: %q, want %q", name, got, values)
		}
	}
}

func TestErrorIsAnError(t *testing.T) {
	cause := errors.New("connection refused")
	e := apierr.New(503, apierr.StoreUnavailable, "try again")
	withCause := e.WithCause(cause)
	if !errors.Is(withCause, cause) || withCause.Error() != "store_unavailable: connection refused" {
		t.Errorf("with a cause: %v", withCause)
	}
	if e.Cause != nil || e.Error() != "store_unavailable: try again" {
		t.Errorf("WithCause changed its receiver: %v", e)
	}
	if p := e.WithParam("model"); p.Param != "model" || e.Param != "" {
		t.Errorf("WithParam gave %q and left %q", p.Param, e.Param)
	}
	var target *apierr.Error
	if !errors.As(fmt.Errorf("serving: %w", withCause), &target) || target.Code != apierr.StoreUnavailable {
		t.Errorf("errors.As found %v", target)
	}
}
