package capture_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/capture"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// call returns a simulator's answer.
func call(t *testing.T, path, body string) string {
	t.Helper()
	server := httptest.NewServer(simulator.New(simulator.Options{Pace: -1, Chunks: 7}))
	t.Cleanup(server.Close)
	req, err := http.NewRequest(http.MethodPost, server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer sk-test")
	req.Header.Set("X-Api-Key", "sk-test")
	req.Header.Set("Anthropic-Version", "2023-06-01")
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d, %v", path, resp.StatusCode, err)
	}
	return string(answer)
}

// ids of the simulator come of the request, and streaming is a part of that.
var ids = regexp.MustCompile(`[0-9a-f]{24}`)

func decode(t *testing.T, text string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(ids.ReplaceAllString(text, "…")), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	// What differs between any two answers.
	maps.DeleteFunc(v, func(name string, _ any) bool { return name == "created" || name == "created_at" })
	return v
}

// TestSimulator: a stream becomes the answer that the same provider gives to the same
// request without streaming.
func TestSimulator(t *testing.T) {
	const ask = `,"max_tokens":500,"messages":[{"role":"user","content":"All happy families are alike."}]`
	const tools = `,"tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}]`
	const stream = `,"stream":true,"stream_options":{"include_usage":true}`
	const contents = `"contents":[{"role":"user","parts":[{"text":"All happy families are alike."}]}]`
	for name, tc := range map[string]struct{ path, body, stream, streamPath string }{
		"chat":            {"/v1/chat/completions", `{"model":"sim-cached+reason"` + ask, stream, ""},
		"chat, 3 choices": {"/v1/chat/completions", `{"model":"m","n":3` + ask, stream, ""},
		"chat, CRLF":      {"/v1/chat/completions", `{"model":"sim-crlf"` + ask, stream, ""},
		"chat, tool":      {"/v1/chat/completions", `{"model":"m","n":2` + ask + tools, stream, ""},
		"completion":      {"/v1/completions", `{"model":"m","n":2,"prompt":"Once upon a time"`, stream, ""},
		"response":        {"/v1/responses", `{"model":"sim-cached+reason","input":"Hello there"`, stream, ""},
		"response, tool": {"/v1/responses", `{"model":"m","input":"Hello there","tools":[{"type":"function","name":"weather",` +
			`"parameters":{"type":"object","properties":{"city":{"type":"string"}}}}]`, stream, ""},
		"message":       {"/v1/messages", `{"model":"sim-cached"` + ask, `,"stream":true`, ""},
		"message, CRLF": {"/v1/messages", `{"model":"sim-crlf"` + ask, `,"stream":true`, ""},
		"message, tool": {"/v1/messages", `{"model":"m"` + ask +
			`,"tools":[{"name":"weather","input_schema":{"type":"object","properties":{"city":{"type":"string"}}}}]`, `,"stream":true`, ""},
		"gemini":        {"/v1beta/models/sim-cached+reason:generateContent", `{` + contents, "", "/v1beta/models/sim-cached+reason:streamGenerateContent?alt=sse"},
		"gemini, array": {"/v1beta/models/sim-cached:generateContent", `{` + contents, "", "/v1beta/models/sim-cached:streamGenerateContent"},
		"gemini, tool": {"/v1beta/models/m:generateContent", `{` + contents +
			`,"tools":[{"functionDeclarations":[{"name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}]}]`,
			"", "/v1beta/models/m:streamGenerateContent?alt=sse"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tc.streamPath == "" {
				tc.streamPath = tc.path
			}
			want := call(t, tc.path, tc.body+"}")
			streamed := call(t, tc.streamPath, tc.body+tc.stream+"}")
			if strings.Contains(name, "tool") != strings.Contains(streamed, "weather") {
				t.Fatalf("the simulator answers\n%s", streamed)
			}
			endpoint, _, _ := strings.Cut(tc.streamPath, "?")
			got := answered(endpoint, streamed)
			a, b := decode(t, got), decode(t, want)
			if strings.HasPrefix(name, "chat") { // an empty list that chunks do not have
				for _, choice := range b["choices"].([]any) {
					delete(choice.(map[string]any)["message"].(map[string]any), "annotations")
				}
			}
			if !reflect.DeepEqual(a, b) {
				t.Errorf("merged\n%s\nnot streamed\n%s", got, want)
			}
			if again := answered(endpoint, got); again != got {
				t.Errorf("processed once more it is\n%s", again)
			}
			if plain := decode(t, answered(endpoint, want)); !reflect.DeepEqual(plain, decode(t, want)) {
				t.Errorf("an answer that is not streamed became %v", plain)
			}
		})
	}
}

// TestBrokenStreams: what is cut anywhere is merged as far as it goes.
func TestBrokenStreams(t *testing.T) {
	const chat = `{"model":"sim-chunks-40","stream":true,"max_tokens":50,"messages":[{"role":"user","content":"All happy families are alike."}]}`
	for path, tc := range map[string]struct{ request, text string }{
		"/v1/chat/completions": {chat, `"content":"`},
		"/v1/messages":         {chat, `"text":"`},
		"/v1/responses":        {`{"model":"sim-chunks-40","stream":true,"input":"Hello"}`, `"text":"`},
	} {
		stream := call(t, path, tc.request)
		longest := 0
		for n := 1; n < len(stream); n += 131 {
			ev := &event.Event{Endpoint: path, Response: stream[:n], ResponseTruncated: true, BytesOut: int64(len(stream))}
			capture.New(capture.Config{}).Process(ev)
			if !ev.ResponseTruncated || !json.Valid([]byte(ev.Response)) {
				t.Fatalf("%s cut at %d: %t, %s", path, n, ev.ResponseTruncated, ev.Response)
			}
			if ev.Response[0] != '{' {
				continue
			}
			if _, said, ok := strings.Cut(strings.ReplaceAll(ev.Response, `\"`, "'"), tc.text); ok {
				said, _, _ = strings.Cut(said, `"`)
				if len(said) < longest {
					t.Fatalf("%s cut at %d: less than before: %s", path, n, ev.Response)
				}
				longest = len(said)
			}
		}
		if longest < 20 {
			t.Errorf("%s: no more than %d bytes of the text", path, longest)
		}
	}
}
