package gateway_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

func as(kind string) func(*provider.Config) {
	return func(c *provider.Config) { c.Type, c.Endpoints = kind, []string{chatPath} }
}

// Answers about our credential stay with us: they echo it, and make the client
// doubt its own.
func TestAnswersAboutTheKeyAreWithheld(t *testing.T) {
	long := strings.Repeat("x", 40_000)
	for name, tc := range map[string]struct {
		provider func(*provider.Config)
		status   int
		body     string
	}{
		"401":                     {nil, 401, `{"error":{"message":"Incorrect API key provided: sk-sh***cdef"}}`},
		"401 without a body":      {nil, 401, ""},
		"the key in a 400":        {nil, 400, `{"error":"bad key ` + sharedKey + `"}`},
		"the key in a 403":        {nil, 403, sharedKey},
		"the key in a 404, later": {nil, 404, long + sharedKey},
		"xai":                     {as("xai"), 400, `{"error":"Incorrect API key provided: sk***ef. You can obtain an API key"}`},
		"Gemini, reason":          {as("gemini"), 400, `{"error":{"code":400,"status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}`},
		"Gemini, message":         {as("gemini"), 400, `{"error":{"message":"API key not valid. Please pass a valid API key."}}`},
		"Gemini, expired":         {as("gemini"), 400, `{"error":{"message":"API key expired. Please renew the API key."}}`},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, setup{provider: tc.provider})
			r.upstream.answer = func(*http.Request) (*http.Response, error) {
				resp := reply(tc.status, "application/json", tc.body)
				resp.Header.Set("Www-Authenticate", "Bearer "+sharedKey)
				resp.Header.Set("X-Request-Id", "req_1")
				return resp, nil
			}
			a := r.do(r.request("POST", chatPath, `{"model":"m"}`))
			if a.Code != http.StatusBadGateway || a.rec.Code != apierr.CredentialsExhausted || a.rec.Status != 502 {
				t.Errorf("%d %s", a.Code, a.Body)
			}
			if a.rec.Outcome != gateway.OutcomeUpstreamError || a.rec.UpstreamRequestID != "req_1" || a.rec.Attempts != 1 {
				t.Errorf("record %+v", a.rec)
			}
			all := a.Body.String() + r.log.String()
			for name, values := range a.Header() {
				all += name + strings.Join(values, "")
			}
			for _, told := range []string{sharedKey, "Incorrect API key", "API key not valid", "Www-Authenticate"} {
				if strings.Contains(all, told) {
					t.Errorf("%q was told", told)
				}
			}
			if a.Header().Get("X-Should-Retry") != "false" || !strings.Contains(r.log.String(), "refused the project's key") {
				t.Error("the client is not told to stop, or nobody is told why")
			}
		})
	}
}

func TestOtherErrorsPassByteForByte(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		body   string
	}{
		"another kind's text":    {400, `{"error":"API_KEY_INVALID"}`},
		"part of the key":        {400, sharedKey[:len(sharedKey)-1]},
		"longer than looked at":  {400, strings.Repeat("0123456789abcdef", 20_000)},
		"key's text in an OK":    {200, sharedKey},
		"empty":                  {404, ""},
		"bytes":                  {422, "\x00\xff\r\n"},
		"rate limit with a hint": {429, `{"error":{"message":"Limit 3, used 3. sk-***"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, setup{})
			r.upstream.answer = always(tc.status, "text/x", tc.body)
			a := r.do(r.chat(`{"model":"m"}`))
			if a.Code != tc.status || a.Body.String() != tc.body || a.rec.Code != "" {
				t.Errorf("%d, %d bytes, record %+v", a.Code, a.Body.Len(), a.rec)
			}
		})
	}
}

// An error answer that breaks off is passed as far as it came, and broken off.
func TestBrokenErrorAnswer(t *testing.T) {
	r := newRig(t, setup{})
	r.upstream.answer = func(*http.Request) (*http.Response, error) {
		resp := reply(400, "application/json", "")
		resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"error":`), iotest.ErrReader(errors.New("reset"))))
		resp.ContentLength = 100
		return resp, nil
	}
	a := r.do(r.chat(`{"model":"m"}`))
	if !a.aborted || a.Code != 400 || a.Body.String() != `{"error":` || a.rec.Outcome != gateway.OutcomeUpstreamError {
		t.Errorf("aborted %t, %d %q, %+v", a.aborted, a.Code, a.Body, a.rec)
	}
}

// Without a credential of ours there is nothing to withhold but a 401.
func TestKeylessAnswers(t *testing.T) {
	local := func(c *provider.Config) { c.Name, c.Type = "openai", "ollama"; c.APIKey = secret.Value{} }
	r := newRig(t, setup{provider: local})
	r.upstream.answer = always(400, "application/json", `{"error":"bad"}`)
	if a := r.do(r.chat(`{"model":"m"}`)); a.Code != 400 || a.Body.String() != `{"error":"bad"}` {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	r = newRig(t, setup{provider: local})
	r.upstream.answer = always(401, "application/json", `{}`)
	r.wantError(r.do(r.chat(`{"model":"m"}`)), http.StatusBadGateway, apierr.CredentialsExhausted)
}
