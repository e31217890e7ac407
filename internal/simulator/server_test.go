package simulator_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

func TestCredentials(t *testing.T) {
	t.Parallel()
	const other = "sk-zyxwvutsrqponmlkjihgfedcba"
	open, closed := start(t, simulator.Options{}), start(t, simulator.Options{Keys: []string{"other", testKey}})
	tests := []struct {
		name         string
		set          func(r *http.Request)
		open, closed bool
	}{
		{"none", func(*http.Request) {}, false, false},
		{"empty bearer", func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") }, false, false},
		{"basic", func(r *http.Request) { r.SetBasicAuth("user", testKey) }, false, false},
		{"bearer", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+testKey) }, true, true},
		{"x-api-key", func(r *http.Request) { r.Header.Set("x-api-key", testKey) }, true, true},
		{"api-key", func(r *http.Request) { r.Header.Set("api-key", testKey) }, true, true},
		{"x-goog-api-key", func(r *http.Request) { r.Header.Set("x-goog-api-key", testKey) }, true, true},
		{"query", func(r *http.Request) { r.URL.RawQuery = "key=" + testKey }, true, true},
		{"wrong", func(r *http.Request) { r.Header.Set("x-api-key", other) }, true, false},
		{"right and wrong", func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+testKey)
			r.Header.Set("x-api-key", other)
		}, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, g := range generations {
				for p, want := range map[*provider]bool{&open: tt.open, &closed: tt.closed} {
					r := p.request(t, http.MethodPost, g.path("m", false), g.body("m", false))
					r.Header.Del("Authorization")
					tt.set(r)
					resp, body, _ := p.do(t, r)
					if (resp.StatusCode == http.StatusOK) != want {
						t.Errorf("%s: got %d %s", g.name, resp.StatusCode, body)
					}
					if strings.Contains(string(body), testKey) || strings.Contains(string(body), other) {
						t.Errorf("%s: gives the key away: %s", g.name, body)
					}
				}
			}
		})
	}
}

func TestRefusalsInTheDialect(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{Keys: []string{"right-key"}})
	tests := []struct {
		path, key, at, want string
		status              int
	}{
		{"/v1/chat/completions", "", "error.type", "invalid_request_error", 401},
		{"/v1/chat/completions", testKey, "error.code", "invalid_api_key", 401},
		{"/v1/messages", "", "error.type", "authentication_error", 401},
		{"/v1/messages", testKey, "error.message", "invalid x-api-key", 401},
		{"/v1beta/models/m:generateContent", "", "error.status", "UNAUTHENTICATED", 401},
		{"/v1beta/models/m:generateContent", testKey, "error.details.0.reason", "API_KEY_INVALID", 400},
	}
	for _, tt := range tests {
		r := p.request(t, http.MethodPost, tt.path, "{}")
		r.Header.Set("Authorization", "Bearer "+tt.key)
		resp, body, _ := p.do(t, r)
		if resp.StatusCode != tt.status || value(t, body, tt.at) != tt.want {
			t.Errorf("%s %q: got %d %s", tt.path, tt.key, resp.StatusCode, body)
		}
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	var prompt, completion int64
	for _, model := range []string{"m", "reason", "sim-cached", "sim-chunks-3"} {
		for _, stream := range []bool{false, true} {
			_, body, _ := generations[0].ask(t, p, model, stream)
			if stream {
				all := events(t, body)
				body = all[len(all)-2].data
			}
			prompt += int64(value(t, body, "usage.prompt_tokens").(float64))
			completion += int64(value(t, body, "usage.completion_tokens").(float64))
		}
	}
	p.post(t, "/nowhere", "")
	r := p.request(t, http.MethodGet, "/sim/stats", "")
	r.Header.Del("Authorization")
	_, body, _ := p.do(t, r)
	var served simulator.Stats
	if err := json.Unmarshal(body, &served); err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]simulator.Stats{"method": p.sim.Stats(), "endpoint": served} {
		if got.Requests != 9 || got.Streams != 4 || got.OpenStreams != 0 || got.Endpoints["POST /v1/chat/completions"] != 8 || got.Endpoints["other"] != 1 {
			t.Errorf("%s: %+v", name, got)
		}
		if got.PromptTokens != prompt || got.CompletionTokens != completion {
			t.Errorf("%s: %d and %d tokens, the answers said %d and %d", name, got.PromptTokens, got.CompletionTokens, prompt, completion)
		}
	}
}

func TestRedirectedIsCounted(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	p.Client().CheckRedirect = nil
	p.post(t, "/v1/chat/completions", generations[0].body("sim-redirect", false))
	if got := p.sim.Stats().Redirected; got != 1 {
		t.Errorf("got %d", got)
	}
}

func TestRequestsAreRecorded(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{Record: 2})
	var seen atomic.Int64
	p.sim.OnRequest(func(r *http.Request) {
		if r.Header.Get("X-Marker") != "" {
			seen.Add(1)
		}
	})
	for _, model := range []string{"one", "two", "three"} {
		r := p.request(t, http.MethodPost, "/v1/chat/completions?a=b", generations[0].body(model, false))
		r.Header.Set("X-Marker", model)
		if _, _, err := p.do(t, r); err != nil {
			t.Fatal(err)
		}
	}
	got := p.sim.Requests()
	if len(got) != 2 || got[0].Header.Get("X-Marker") != "two" || got[1].Header.Get("X-Marker") != "three" {
		t.Fatalf("got %+v", got)
	}
	last := got[1]
	if last.Method != http.MethodPost || last.Path != "/v1/chat/completions" || last.RawQuery != "a=b" || last.Time.IsZero() ||
		string(last.Body) != generations[0].body("three", false) || last.BodyBytes != int64(len(last.Body)) {
		t.Errorf("got %+v", last)
	}
	if seen.Load() != 3 {
		t.Errorf("the hook saw %d", seen.Load())
	}
	p.sim.OnRequest(nil)
	big := encode(map[string]any{"model": "m", "input": strings.Repeat("x", 100<<10)})
	p.post(t, "/v1/responses", big)
	got = p.sim.Requests()
	if last := got[1]; len(last.Body) != 64<<10 || last.BodyBytes != int64(len(big)) {
		t.Errorf("kept %d of %d bytes", len(last.Body), last.BodyBytes)
	}
	if seen.Load() != 3 {
		t.Error("the hook was called after its removal")
	}
}

func TestNothingIsRecordedByDefault(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	p.post(t, "/v1/chat/completions", "{}")
	if got := p.sim.Requests(); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestModelsByDialect(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	shape := func(version string) []string {
		r := p.request(t, http.MethodGet, "/v1/models", "")
		r.Header.Set("anthropic-version", version)
		_, body, _ := p.do(t, r)
		var members map[string]any
		if err := json.Unmarshal(body, &members); err != nil {
			t.Fatal(err)
		}
		return slices.Sorted(func(yield func(string) bool) {
			for name := range members {
				if !yield(name) {
					return
				}
			}
		})
	}
	if got := shape(""); !slices.Equal(got, []string{"data", "object"}) {
		t.Errorf("OpenAI: %v", got)
	}
	if got := shape("2023-06-01"); !slices.Equal(got, []string{"data", "first_id", "has_more", "last_id"}) {
		t.Errorf("Anthropic: %v", got)
	}
}
