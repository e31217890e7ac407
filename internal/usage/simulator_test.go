package usage_test

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
	"github.com/sofatutor/caddy-llm-proxy/internal/usage"
)

// call asks a simulator of its own and returns what a reader tells of the
// answer, and what the simulator's own ledger says.
func call(t *testing.T, path, contentType, body string) (*usage.Reader, simulator.Stats) {
	t.Helper()
	sim := simulator.New(simulator.Options{Pace: -1, Chunks: 7})
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	req, err := http.NewRequest(http.MethodPost, server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Authorization", "Bearer sk-test")
	req.Header.Set("X-Api-Key", "sk-test")
	req.Header.Set("Anthropic-Version", "2023-06-01")
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d", path, resp.StatusCode)
	}
	endpoint, _, _ := strings.Cut(path, "?")
	r := new(usage.Reader)
	r.Reset(usage.KindOf(http.MethodPost, endpoint), resp.Header.Get("Content-Type"))
	_, _ = io.Copy(struct{ io.Writer }{r}, resp.Body) // a stream that is broken off is one of the cases
	return r, sim.Stats()
}

// TestSimulator holds what is read against the ledger of a provider that
// counts by itself.
func TestSimulator(t *testing.T) {
	chat := func(model, more string) string {
		return `{"model":"` + model + `","max_tokens":500,"messages":[{"role":"user","content":"All happy families are alike."}]` + more + `}`
	}
	const asked = `,"stream":true,"stream_options":{"include_usage":true}`
	const contents = `{"contents":[{"role":"user","parts":[{"text":"All happy families are alike."}]}]}`
	const input = `,"input":"All happy families are alike."`
	for name, tc := range map[string]struct{ path, body string }{
		"chat":                   {"/v1/chat/completions", chat("gpt", "")},
		"chat, cached, thought":  {"/v1/chat/completions", chat("sim-cached+reason", "")},
		"chat stream":            {"/v1/chat/completions", chat("sim-cached+reason", asked)},
		"chat stream, CRLF":      {"/v1/chat/completions", chat("sim-crlf", asked)},
		"completion":             {"/v1/completions", `{"model":"m","prompt":"Once upon a time"}`},
		"completion stream":      {"/v1/completions", `{"model":"m","prompt":"Once upon a time"` + asked + `}`},
		"embeddings":             {"/v1/embeddings", `{"model":"m"` + input + `}`},
		"response":               {"/v1/responses", `{"model":"sim-cached+reason"` + input + `}`},
		"response stream":        {"/v1/responses", `{"model":"sim-cached+reason"` + input + `,"stream":true}`},
		"message":                {"/v1/messages", chat("sim-cached", "")},
		"message stream":         {"/v1/messages", chat("sim-cached", `,"stream":true`)},
		"message stream, CRLF":   {"/v1/messages", chat("sim-crlf", `,"stream":true`)},
		"generate":               {"/v1beta/models/sim-cached+reason:generateContent", contents},
		"generate stream":        {"/v1beta/models/sim-cached+reason:streamGenerateContent?alt=sse", contents},
		"generate stream, array": {"/v1beta/models/sim-cached+reason:streamGenerateContent", contents},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, ledger := call(t, tc.path, "application/json", tc.body)
			c := r.Counts()
			input, _ := c.InputTokens()
			output, _ := c.OutputTokens()
			if input != ledger.PromptTokens || output != ledger.CompletionTokens || input == 0 {
				t.Errorf("%d in, %d out; the provider's ledger says %d, %d", input, output, ledger.PromptTokens, ledger.CompletionTokens)
			}
			if !c.Final || !r.Ended() || c.Source != usage.SourceProvider {
				t.Errorf("ended: %t, %+v", r.Ended(), c)
			}
			if cached, _ := c.CachedTokens(); strings.Contains(name+tc.body+tc.path, "cached") && cached == 0 {
				t.Error("nothing was cached")
			}
			if thought, _ := c.ReasoningTokens(); strings.Contains(tc.body+tc.path, "reason") && thought == 0 {
				t.Error("nothing was thought")
			}
		})
	}
}

func TestSimulatorTranscription(t *testing.T) {
	for _, stream := range []string{"false", "true"} {
		var form bytes.Buffer
		w := multipart.NewWriter(&form)
		_ = w.WriteField("model", "gpt-4o-transcribe")
		_ = w.WriteField("stream", stream)
		part, _ := w.CreateFormFile("file", "a.wav")
		_, _ = part.Write(make([]byte, 64_000))
		_ = w.Close()
		r, ledger := call(t, "/v1/audio/transcriptions", w.FormDataContentType(), form.String())
		c := r.Counts()
		if n, _ := c.Get(usage.AudioInput); n != ledger.PromptTokens || n == 0 || !c.Final || !r.Ended() {
			t.Errorf("stream %s: %+v, the provider's ledger says %d", stream, c, ledger.PromptTokens)
		}
	}
}

func TestSimulatorImages(t *testing.T) {
	r, _ := call(t, "/v1/images/generations", "application/json", `{"model":"gpt-image-1","prompt":"a cat","n":2}`)
	c := r.Counts()
	if n, _ := c.Get(usage.Images); n != 2 || !c.Final {
		t.Errorf("got %+v", c)
	}
	if n, _ := c.OutputTokens(); n == 0 {
		t.Error("an image took no tokens")
	}
}

// TestSimulatorFaults: what breaks off has no end, and is estimated.
func TestSimulatorFaults(t *testing.T) {
	const body = `,"max_tokens":500,"messages":[{"role":"user","content":"All happy families are alike."}],"stream":true,"stream_options":{"include_usage":true}}`
	for _, path := range []string{"/v1/chat/completions", "/v1/messages"} {
		for _, fault := range []string{"sim-truncate", "sim-abort", "sim-error-midstream"} {
			r, ledger := call(t, path, "application/json", `{"model":"`+fault+`"`+body)
			c := r.Counts()
			_, _, failed := r.Failed()
			if r.Ended() || c.Final || failed != (fault == "sim-error-midstream") || r.ContentBytes() == 0 {
				t.Errorf("%s %s: ended: %t, failed: %t, %+v", path, fault, r.Ended(), failed, c)
			}
			guess := c.OrEstimate(400, r.ContentBytes())
			output, _ := guess.OutputTokens()
			if output < ledger.CompletionTokens || guess.Source != usage.SourceEstimated {
				t.Errorf("%s %s: %d tokens estimated, the provider's ledger says %d: %+v", path, fault, output, ledger.CompletionTokens, guess)
			}
			if input, _ := guess.InputTokens(); path == "/v1/messages" && fault != "sim-truncate" && input != ledger.PromptTokens { // that one reports none
				t.Errorf("%s: the reported input %d became %d", fault, ledger.PromptTokens, input)
			}
		}
	}
}

// TestSimulatorFilter: asking on a client's behalf, and hiding it again, gives the
// client the stream it would have had, but for "usage":null.
func TestSimulatorFilter(t *testing.T) {
	const body = `{"model":"sim-crlf","messages":[{"role":"user","content":"Hi"}],"stream":true}`
	asking, inclusion := usage.IncludeUsage([]byte(body))
	if inclusion != usage.Included {
		t.Fatalf("inclusion %d", inclusion)
	}
	var answers [2][]byte
	for i, b := range []string{body, string(asking)} {
		var out bytes.Buffer
		var f usage.Filter
		f.Reset(&out)
		server := httptest.NewServer(simulator.New(simulator.Options{Pace: -1}))
		req, _ := http.NewRequest(http.MethodPost, server.URL+"/v1/chat/completions", strings.NewReader(b))
		req.Header.Set("Authorization", "Bearer sk-test")
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(struct{ io.Writer }{&f}, resp.Body); err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		server.Close()
		if err := f.Close(); err != nil || f.Removed() != i {
			t.Fatalf("%d removed, %v", f.Removed(), err)
		}
		answers[i] = bytes.ReplaceAll(out.Bytes(), []byte(`,"usage":null`), nil)
	}
	texts := [2]string{}
	for i := range answers {
		for line := range strings.SplitSeq(string(answers[i]), "\r\n") {
			if _, text, ok := strings.Cut(line, `"choices":`); ok {
				texts[i] += text + "\n"
			}
		}
	}
	if texts[0] != texts[1] || texts[0] == "" {
		t.Errorf("the client gets\n%s\nand would have got\n%s", texts[1], texts[0])
	}
}

func TestSimulatorRealtime(t *testing.T) {
	sim := simulator.New(simulator.Options{Pace: -1})
	server := httptest.NewServer(sim)
	defer server.Close()
	conn, resp, err := websocket.Dial(t.Context(), server.URL+"/v1/realtime?model=gpt-realtime", &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer sk-test"}}, Subprotocols: []string{"realtime"},
	})
	if err != nil {
		t.Fatalf("%v, %v", resp, err)
	}
	defer func() { _ = conn.CloseNow() }()
	var r usage.Reader
	var session usage.Counts
	for range 2 {
		for _, message := range []string{
			`{"type":"conversation.item.create","item":{"role":"user","content":[{"type":"input_text","text":"Hello there"}]}}`, `{"type":"response.create"}`,
		} {
			if err := conn.Write(t.Context(), websocket.MessageText, []byte(message)); err != nil {
				t.Fatal(err)
			}
		}
		for billed := false; !billed; {
			_, message, err := conn.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var c usage.Counts
			if c, billed = r.Message(message); billed {
				session.Add(&c)
			}
		}
	}
	ledger := sim.Stats()
	input, _ := session.InputTokens()
	output, _ := session.OutputTokens()
	if input != ledger.PromptTokens || output != ledger.CompletionTokens || output == 0 {
		t.Errorf("%d in, %d out; the provider's ledger says %d, %d", input, output, ledger.PromptTokens, ledger.CompletionTokens)
	}
}
