package gateway_test

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
)

func TestNewRefusesWhatCannotServe(t *testing.T) {
	var good gateway.Config
	newRig(t, setup{gateway: func(c *gateway.Config) { good = *c }})
	for name, spoil := range map[string]func(*gateway.Config){
		"no providers":        func(c *gateway.Config) { c.Providers = nil },
		"no authority":        func(c *gateway.Config) { c.Authority = nil },
		"no registry":         func(c *gateway.Config) { c.Inflight = nil },
		"no transports":       func(c *gateway.Config) { c.Transports = nil },
		"another's transport": func(c *gateway.Config) { c.Transports = map[string]http.RoundTripper{"gemini": new(fake)} },
	} {
		c := good
		spoil(&c)
		if g, err := gateway.New(c); err == nil || g != nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := gateway.New(good); err != nil {
		t.Error(err)
	}
}

func TestMatch(t *testing.T) {
	r := newRig(t, setup{others: []provider.Config{{Name: "ollama"}}})
	for target, ours := range map[string]bool{
		"/v1/chat/completions": true, "/v1/x": true, "/v1/": true, "/%76%31/models": true, "/ollama/v1/models": true, "/ollama": true,
		"/v1/..%2fadmin": true, "/v1/a;b": true, "/ollama/%00": true, "/v1%2fmodels": true,
		"/v1": false, "/": false, "/admin": false, "/manage/tokens": false, "/v1beta/models": false, "/OLLAMA/x": false, "/x/v1/models": false,
	} {
		if _, got := r.gateway.Match(httptest.NewRequest("GET", target, http.NoBody)); got != ours {
			t.Errorf("%s: ours %t, want %t", target, got, ours)
		}
	}
}

// A path with two readings is refused before anything is known of the client.
func TestPathsWithoutACanonicalForm(t *testing.T) {
	for _, target := range []string{
		"/v1/models/%2e%2e/fine_tuning/jobs", "/v1/..%2fadmin", "/v1/files/..%5cadmin", "/v1/files/a%00", "/v1/files/%252e", "/v1/chat;x/completions", "/v1/files/%c3%a9",
		"/v1/modelsXYZ", "/v1/models/", "/v1/Models",
	} {
		r := newRig(t, setup{})
		r.wantRefused(r.do(r.request("GET", target, "")), http.StatusNotFound, apierr.EndpointNotFound)
	}
}

// Every refusal is told in the dialect of the path.
func TestDialects(t *testing.T) {
	for target, want := range map[string]string{
		chatPath: `{"error":{"message":`, "/v1/responses": `{"error":{"message":`, "/v1/messages": `{"type":"error","error":{"type":"authentication_error"`,
		"/anthropic/v1/messages": `{"type":"error","error":{"type":"authentication_error"`, "/gemini/v1beta/models/m:generateContent": `{"error":{"code":401,`,
		"/gemini/v1beta/openai/chat/completions": `{"error":{"message":`,
	} {
		r := newRig(t, setup{others: anthropicAndGemini()})
		a := r.do(r.request("POST", target, `{}`, "X-Api-Key:"))
		if a.Code != 401 || !strings.HasPrefix(a.Body.String(), want) || a.Header().Get("Request-Id") != a.rec.RequestID {
			t.Errorf("%s: %d %s", target, a.Code, a.Body)
		}
	}
}

// The record of a request that went well, member by member.
func TestRecord(t *testing.T) {
	working := own("openai")
	r := newRig(t, setup{project: owning(working)})
	r.upstream.answer = func(*http.Request) (*http.Response, error) {
		resp := reply(200, eventStream, "data: {}\n\n")
		resp.Header.Set("Request-Id", "req_7")
		return resp, nil
	}
	before := time.Now()
	a := r.do(r.chat(`{"model":"gpt-4o","stream":true}`))
	rec := a.rec
	if rec.Started.Before(before) || rec.Latency <= 0 || rec.Upstream > rec.Latency || rec.FirstByte <= 0 || rec.FirstByte > rec.Latency {
		t.Errorf("times %+v", rec)
	}
	rec.Started, rec.Latency, rec.Upstream, rec.FirstByte = time.Time{}, 0, 0, 0
	if rec.ID.String() != rec.RequestID || rec.Time.IsZero() || rec.Time.Location() != time.UTC || rec.Overhead <= 0 {
		t.Errorf("%+v", rec)
	}
	want := gateway.Record{RequestID: rec.RequestID, ProviderType: "openai", Operation: "chat", Event: event.Event{
		ID: rec.ID, Time: rec.Time, Overhead: rec.Overhead,
		UpstreamRequestID: "req_7", ProjectID: r.projectID, TokenID: r.tokenID, KeyID: working.KeyID,
		Provider: "openai", Method: "POST", Endpoint: chatPath, Model: "gpt-4o", Status: 200, Outcome: gateway.OutcomeOK, Stream: true, Attempts: 1,
		BytesIn: 32, BytesOut: 10,
		InputTokens: event.Known(8), OutputTokens: event.Known(0), Estimated: true, UsageSource: event.UsageEstimated, // 32 bytes, and nobody says
	}}
	if !reflect.DeepEqual(rec, want) {
		t.Errorf("got  %+v\nwant %+v", rec, want)
	}
}

// A request that is not authenticated is nobody's.
func TestRecordOfAStranger(t *testing.T) {
	r := newRig(t, setup{})
	a := r.do(r.chat(`{"model":"gpt-4o"}`, "X-Api-Key:", "X-Api-Key: "+strings.ToUpper(r.token)))
	r.wantRefused(a, http.StatusUnauthorized, apierr.InvalidToken)
	if !a.rec.TokenID.IsNil() || !a.rec.ProjectID.IsNil() || a.rec.Model != "" || a.rec.BytesIn != 0 {
		t.Errorf("record %+v", a.rec)
	}
}

// A record may be used again.
func TestRecordIsFilledAnew(t *testing.T) {
	r := newRig(t, setup{})
	var rec gateway.Record
	r.serve(httptest.NewRecorder(), r.chat(`{"model":"gpt-4o","stream":true}`, "X-Api-Key: twice"), &rec)
	if rec.Outcome != gateway.OutcomeRefused {
		t.Errorf("record %+v", rec)
	}
	first := rec.RequestID
	r.serve(httptest.NewRecorder(), r.request("GET", gateway.SelfPath, ""), &rec)
	if rec.RequestID == first || rec.Outcome != gateway.OutcomeOK || rec.Code != "" || rec.Provider != "" || rec.Endpoint != gateway.SelfPath {
		t.Errorf("record %+v", rec)
	}
}
