package simulator_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// FuzzRequest sends any body to every JSON endpoint. Whatever it is, the
// answer is 200 or a JSON error, or a cut connection where that was ordered.
func FuzzRequest(f *testing.F) {
	for _, g := range generations {
		f.Add(g.body("m", false))
		f.Add(g.body("sim-abort+chunks-3", true))
	}
	f.Add(`{"model":"m","input":[[1],{"text":"x"},null],"n":-1,"dimensions":-1}`)
	f.Add(`{"model":"sim-hang","messages":[{"content":null}],"prompt":[""],"input":""}`)
	f.Add(`{"contents":[{"parts":[{"functionResponse":null}]}],"tools":[{"functionDeclarations":[{"parameters":[]}]}]}`)
	f.Add(`{"model":"m","messages":[{"role":"user"}],"tools":[{"function":{"parameters":{"type":"array","items":{"type":[]}}}}]}`)
	paths := []string{
		"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings", "/v1/moderations",
		"/v1/images/generations", "/v1/audio/speech", "/v1/batches", "/v1/messages/count_tokens",
		"/v1beta/models/m:generateContent", "/v1beta/models/m:streamGenerateContent", "/v1beta/models/m:embedContent",
		"/v1beta/models/m:batchEmbedContents", "/v1beta/models/m:countTokens",
	}
	sim := simulator.New(simulator.Options{Pace: -1})
	f.Fuzz(func(t *testing.T, body string) {
		// Ends sim-hang and the like at once.
		ctx, cancel := context.WithCancel(t.Context())
		if strings.Contains(body, "sim-") {
			cancel()
		}
		defer cancel()
		for _, path := range paths {
			ask(ctx, t, sim, path, body)
		}
	})
}

func ask(ctx context.Context, t *testing.T, sim *simulator.Server, path, body string) {
	defer func() {
		if e := recover(); e != nil && e != http.ErrAbortHandler {
			panic(e)
		}
	}()
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("x-api-key", testKey)
	r.Header.Set("anthropic-version", "2023-06-01")
	w := httptest.NewRecorder()
	sim.ServeHTTP(w, r)
	if w.Code != http.StatusOK && !json.Valid(w.Body.Bytes()) {
		t.Errorf("%s: %d %s", path, w.Code, w.Body)
	}
	if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") && !json.Valid(w.Body.Bytes()) {
		t.Errorf("%s: not JSON: %s", path, w.Body)
	}
}
