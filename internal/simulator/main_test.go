package simulator_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
	"go.uber.org/goleak"
)

const testKey = "sk-abcdefghijklmnopqrstuvwxyz"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// provider is a simulator behind a test server.
type provider struct {
	*httptest.Server
	sim *simulator.Server
}

// start serves a simulator without pauses, unless the options say otherwise.
func start(t *testing.T, opt simulator.Options) provider {
	t.Helper()
	if opt.Pace == 0 {
		opt.Pace = -1
	}
	sim := simulator.New(opt)
	ts := httptest.NewServer(sim)
	t.Cleanup(ts.Close)
	ts.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return provider{ts, sim}
}

// request makes a request with a credential and the version header Anthropic wants.
func (p provider) request(t *testing.T, method, path, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, p.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+testKey)
	r.Header.Set("Content-Type", "application/json")
	if strings.HasPrefix(path, "/v1/messages") {
		r.Header.Set("anthropic-version", "2023-06-01")
	}
	return r
}

// do sends a request and returns the answer with its whole body; the error is
// that of reading the body.
func (p provider) do(t *testing.T, r *http.Request) (*http.Response, []byte, error) {
	t.Helper()
	resp, err := p.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

// post sends a request that must be answered in full.
func (p provider) post(t *testing.T, path, body string) (*http.Response, []byte) {
	t.Helper()
	resp, answer, err := p.do(t, p.request(t, http.MethodPost, path, body))
	if err != nil {
		t.Fatalf("reading the answer of %s: %v", path, err)
	}
	return resp, answer
}

// value decodes a JSON body and follows a dotted path; list indexes are numbers.
func value(t *testing.T, body []byte, path string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, body)
	}
	for step := range strings.SplitSeq(path, ".") {
		switch node := v.(type) {
		case map[string]any:
			member, ok := node[step]
			if !ok {
				return absent
			}
			v = member
		case []any:
			var i int
			if err := json.Unmarshal([]byte(step), &i); err != nil || i >= len(node) {
				return absent
			}
			v = node[i]
		default:
			return absent
		}
	}
	return v
}

// absent is a value that is not there, which null is not.
const absent = "<absent>"

// event is a server-sent event.
type event struct {
	name string
	data []byte
}

// events parses a stream strictly enough to notice a broken frame.
func events(t *testing.T, body []byte) []event {
	t.Helper()
	var all []event
	var e event
	for lines := bufio.NewScanner(bytes.NewReader(body)); lines.Scan(); {
		line := lines.Text()
		switch {
		case line == "":
			if e.data != nil {
				all = append(all, e)
			}
			e = event{}
		case strings.HasPrefix(line, ":"):
		case strings.HasPrefix(line, "event: "):
			e.name = line[len("event: "):]
		case strings.HasPrefix(line, "data: "):
			e.data = []byte(line[len("data: "):])
		default:
			t.Fatalf("not a line of an event stream: %q", line)
		}
	}
	return all
}

// generation is an endpoint that gives answers, by dialect.
type generation struct {
	name string
	path func(model string, stream bool) string
	body func(model string, stream bool) string
	// text and usage are the paths of the answer's text and its output tokens.
	text, output string
	errorKind    string // path of what names the error
	end          string // last thing a whole stream says
	failure      string // what an error in a stream contains
}

func fixed(path string) func(string, bool) string {
	return func(string, bool) string { return path }
}

var generations = []generation{
	{
		name: "chat", path: fixed("/v1/chat/completions"),
		body: func(model string, stream bool) string {
			return encode(map[string]any{
				"model": model, "stream": stream, "stream_options": map[string]any{"include_usage": true},
				"messages": []any{map[string]any{"role": "user", "content": "Hello there, simulator"}},
			})
		},
		text: "choices.0.message.content", output: "usage.completion_tokens", errorKind: "error.type",
		end: "[DONE]", failure: `{"error":{`,
	},
	{
		name: "completions", path: fixed("/v1/completions"),
		body: func(model string, stream bool) string {
			return encode(map[string]any{
				"model": model, "stream": stream, "stream_options": map[string]any{"include_usage": true},
				"prompt": "Hello there, simulator",
			})
		},
		text: "choices.0.text", output: "usage.completion_tokens", errorKind: "error.type",
		end: "[DONE]", failure: `{"error":{`,
	},
	{
		name: "responses", path: fixed("/v1/responses"),
		body: func(model string, stream bool) string {
			return encode(map[string]any{"model": model, "stream": stream, "input": "Hello there, simulator"})
		},
		text: "output.0.content.0.text", output: "usage.output_tokens", errorKind: "error.type",
		end: `"type":"response.completed"`, failure: `{"type":"error"`,
	},
	{
		name: "messages", path: fixed("/v1/messages"),
		body: func(model string, stream bool) string {
			return encode(map[string]any{
				"model": model, "stream": stream, "max_tokens": 4096,
				"messages": []any{map[string]any{"role": "user", "content": "Hello there, simulator"}},
			})
		},
		text: "content.0.text", output: "usage.output_tokens", errorKind: "error.type",
		end: `"type":"message_stop"`, failure: `{"type":"error","error":{"type":"api_error"`,
	},
	{
		name: "gemini",
		path: func(model string, stream bool) string {
			if stream {
				return "/v1beta/models/" + model + ":streamGenerateContent?alt=sse"
			}
			return "/v1beta/models/" + model + ":generateContent"
		},
		body: fixed(`{"contents":[{"role":"user","parts":[{"text":"Hello there, simulator"}]}]}`),
		text: "candidates.0.content.parts.0.text", output: "usageMetadata.candidatesTokenCount",
		errorKind: "error.status", end: `"finishReason":"STOP"`, failure: `"status":"INTERNAL"`,
	},
}

func (g generation) ask(t *testing.T, p provider, model string, stream bool) (*http.Response, []byte, error) {
	t.Helper()
	return p.do(t, p.request(t, http.MethodPost, g.path(model, stream), g.body(model, stream)))
}

// forms runs a test for every generation, streamed and not.
func forms(t *testing.T, f func(t *testing.T, g generation, stream bool)) {
	for _, g := range generations {
		t.Run(g.name, func(t *testing.T) { f(t, g, false) })
		t.Run(g.name+"/stream", func(t *testing.T) { f(t, g, true) })
	}
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}
