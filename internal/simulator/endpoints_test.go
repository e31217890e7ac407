package simulator_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"image/png"
	"io"
	"math"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

func TestEmbeddings(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	tests := []struct {
		body   string
		n      int
		tokens float64
	}{
		{`{"model":"text-embedding-3-small","input":"hello","dimensions":8}`, 1, 2},
		{`{"model":"text-embedding-3-small","input":["hello","you"],"dimensions":8}`, 2, 2},
		{`{"model":"text-embedding-3-small","input":[1,2,3],"dimensions":8}`, 1, 3},
		{`{"model":"text-embedding-3-small","input":[[1,2],[3]],"dimensions":8}`, 2, 3},
	}
	for _, tt := range tests {
		_, body := p.post(t, "/v1/embeddings", tt.body)
		if got := value(t, body, "usage.prompt_tokens"); got != tt.tokens {
			t.Errorf("%s: %v tokens, want %v", tt.body, got, tt.tokens)
		}
		if got := len(value(t, body, "data").([]any)); got != tt.n {
			t.Errorf("%s: %d vectors, want %d", tt.body, got, tt.n)
		}
		norm := 0.0
		vector := value(t, body, "data.0.embedding").([]any)
		for _, v := range vector {
			norm += v.(float64) * v.(float64)
		}
		if len(vector) != 8 || math.Abs(norm-1) > 1e-5 {
			t.Errorf("%s: %d dimensions, norm %v", tt.body, len(vector), norm)
		}
	}
}

func TestEmbeddingsBase64(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	_, body := p.post(t, "/v1/embeddings", `{"model":"text-embedding-3-large","input":"hello","encoding_format":"base64"}`)
	raw, err := base64.StdEncoding.DecodeString(value(t, body, "data.0.embedding").(string))
	if err != nil || len(raw) != 4*3072 {
		t.Fatalf("%v, %d bytes", err, len(raw))
	}
	if f := math.Float32frombits(binary.LittleEndian.Uint32(raw)); f < -1 || f > 1 {
		t.Errorf("first component %v", f)
	}
}

func TestTooManyInputs(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	many := strings.Repeat(`"a",`, 2048) + `"a"`
	for path, body := range map[string]string{
		"/v1/embeddings":                      `{"model":"m","input":[` + many + `]}`,
		"/v1/moderations":                     `{"input":[` + many + `]}`,
		"/v1beta/models/m:batchEmbedContents": `{"requests":[` + strings.ReplaceAll(many, `"a"`, `{}`) + `]}`,
		"/v1beta/models/m:embedContent":       `{"outputDimensionality":100000}`,
		"/v1/images/generations":              `{"prompt":"x","n":11}`,
		"/v1/chat/completions":                `{"model":"m","n":129,"messages":[{"role":"user","content":"x"}]}`,
	} {
		if resp, answer := p.post(t, path, body); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d %.100s", path, resp.StatusCode, answer)
		}
	}
}

func TestModerations(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	got, err := p.openAI().Moderations.New(t.Context(), openai.ModerationNewParams{
		Input: openai.ModerationNewParamsInputUnion{OfStringArray: []string{"peace", "Violence!"}},
	})
	if err != nil || len(got.Results) != 2 || got.Results[0].Flagged || !got.Results[1].Categories.Violence {
		t.Errorf("%v, %s", err, got.RawJSON())
	}
}

func TestImages(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	got, err := p.openAI().Images.Generate(t.Context(), openai.ImageGenerateParams{
		Model: "gpt-image-1", Prompt: "a cat", N: openai.Int(2),
	})
	if err != nil || len(got.Data) != 2 || got.Usage.OutputTokens != 544 || got.Usage.TotalTokens != 546 {
		t.Fatalf("%v, %s", err, got.RawJSON())
	}
	raw, err := base64.StdEncoding.DecodeString(got.Data[0].B64JSON)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := png.Decode(bytes.NewReader(raw)); err != nil {
		t.Error(err)
	}
	got, err = p.openAI().Images.Generate(t.Context(), openai.ImageGenerateParams{Model: "dall-e-3", Prompt: "a cat"})
	if err != nil || !strings.HasPrefix(got.Data[0].URL, p.URL) {
		t.Fatalf("%v, %s", err, got.RawJSON())
	}
	resp, err := p.Client().Get(got.Data[0].URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := png.Decode(resp.Body); err != nil {
		t.Error(err)
	}
}

func TestSpeech(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	for format, want := range map[string]struct{ contentType, begins string }{
		"":    {"audio/mpeg", "\xff\xfb"},
		"mp3": {"audio/mpeg", "\xff\xfb"},
		"wav": {"audio/wav", "RIFF"},
		"pcm": {"audio/pcm", "\x00"},
	} {
		resp, body := p.post(t, "/v1/audio/speech", `{"model":"tts-1","input":"hi","voice":"alloy","response_format":"`+format+`"}`)
		if resp.Header.Get("Content-Type") != want.contentType || !bytes.HasPrefix(body, []byte(want.begins)) {
			t.Errorf("%q: %s, %d bytes", format, resp.Header.Get("Content-Type"), len(body))
		}
		if format == "wav" && int(binary.LittleEndian.Uint32(body[4:]))+8 != len(body) {
			t.Error("the RIFF size is not the file's")
		}
	}
	if resp, _ := p.post(t, "/v1/audio/speech", `{"model":"tts-1","input":"hi","response_format":"opus"}`); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("opus: %d", resp.StatusCode)
	}
}

// form posts a multipart form whose file has that many bytes.
func form(t *testing.T, p provider, path string, size int64, fields map[string]string) (*http.Response, []byte) {
	t.Helper()
	body, w := io.Pipe()
	mw := multipart.NewWriter(w)
	go func() {
		part, err := mw.CreateFormFile("file", "speech.wav")
		if err == nil {
			_, err = io.Copy(part, io.LimitReader(zeros{}, size))
		}
		for name, value := range fields {
			_ = mw.WriteField(name, value)
		}
		_ = mw.Close()
		_ = w.CloseWithError(err)
	}()
	r := p.request(t, http.MethodPost, path, "")
	r.Body, r.ContentLength = body, -1
	r.Header.Set("Content-Type", mw.FormDataContentType())
	resp, answer, err := p.do(t, r)
	if err != nil {
		t.Fatal(err)
	}
	return resp, answer
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestTranscriptions(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	const size = 65 << 20 // more than any buffered body may have
	_, body := form(t, p, "/v1/audio/transcriptions", size, map[string]string{"model": "whisper-1"})
	if value(t, body, "usage.type") != "duration" || value(t, body, "usage.seconds") != math.Ceil(size/32000.0) {
		t.Errorf("got %s", body)
	}
	if got := p.sim.Stats().UploadBytes; got != size {
		t.Errorf("%d bytes counted", got)
	}
	_, body = form(t, p, "/v1/audio/transcriptions", 10, map[string]string{"model": "gpt-4o-transcribe"})
	if !strings.Contains(value(t, body, "text").(string), "10 bytes of audio") || value(t, body, "usage.type") != "tokens" {
		t.Errorf("got %s", body)
	}
	_, body = form(t, p, "/v1/audio/transcriptions", 10, map[string]string{"model": "gpt-4o-transcribe", "stream": "true"})
	all := events(t, body)
	if last := all[len(all)-1]; last.name != "transcript.text.done" || value(t, last.data, "usage.output_tokens") != 24.0 {
		t.Errorf("last event %s", last.data)
	}
	resp, body := form(t, p, "/v1/audio/transcriptions", 10, map[string]string{"model": "whisper-1", "response_format": "text"})
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") || !strings.HasPrefix(string(body), "You said") {
		t.Errorf("got %s", body)
	}
	resp, _ = form(t, p, "/v1/audio/transcriptions", 10, map[string]string{"model": "sim-error-503"})
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("sim-error-503: %d", resp.StatusCode)
	}
	if resp, _ = p.post(t, "/v1/audio/transcriptions", "{}"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("not a form: %d", resp.StatusCode)
	}
}

func TestFilesAndBatches(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	client := p.openAI()
	file, err := client.Files.New(t.Context(), openai.FileNewParams{
		File: strings.NewReader(`{"custom_id":"1"}`), Purpose: openai.FilePurposeBatch,
	})
	if err != nil || file.Bytes != 17 || file.Purpose != "batch" {
		t.Fatalf("%v, %+v", err, file)
	}
	page, err := client.Files.List(t.Context(), openai.FileListParams{})
	if err != nil || len(page.Data) != 1 || page.Data[0].ID != file.ID {
		t.Errorf("%v, %+v", err, page)
	}
	if one, err := client.Files.Get(t.Context(), file.ID); err != nil || one.Filename != file.Filename {
		t.Errorf("%v, %+v", err, one)
	}
	if _, err := client.Files.Get(t.Context(), "file-none"); err == nil {
		t.Error("a file that was never uploaded is found")
	}
	batch, err := client.Batches.New(t.Context(), openai.BatchNewParams{
		InputFileID: file.ID, Endpoint: openai.BatchNewParamsEndpointV1ChatCompletions, CompletionWindow: "24h",
	})
	if err != nil || batch.Status != openai.BatchStatusValidating || batch.InputFileID != file.ID {
		t.Errorf("%v, %+v", err, batch)
	}
}

func TestRequiredMembers(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	for path, param := range map[string]string{
		"/v1/chat/completions": "model", "/v1/completions": "model", "/v1/responses": "model", "/v1/embeddings": "model",
		"/v1/moderations": "input", "/v1/images/generations": "prompt", "/v1/audio/speech": "model", "/v1/batches": "input_file_id",
	} {
		resp, body := p.post(t, path, "{}")
		if resp.StatusCode != http.StatusBadRequest || value(t, body, "error.param") != param {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
}

func TestUnknownURL(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	for _, target := range []string{"POST /v1/chat", "GET /v1/chat/completions", "DELETE /v1/models", "GET /"} {
		method, path, _ := strings.Cut(target, " ")
		resp, body, _ := p.do(t, p.request(t, method, path, ""))
		if resp.StatusCode != http.StatusNotFound || value(t, body, "error.code") != "unknown_url" {
			t.Errorf("%s: %d %s", target, resp.StatusCode, body)
		}
	}
}

func TestBodyIsBounded(t *testing.T) {
	t.Parallel()
	sim := simulator.New(simulator.Options{})
	ask := func(g generation, length int64) {
		r := httptest.NewRequest(http.MethodPost, g.path("m", false), io.LimitReader(zeros{}, 64<<20+1))
		r.ContentLength = length
		r.Header.Set("x-api-key", testKey)
		r.Header.Set("anthropic-version", "2023-06-01")
		w := httptest.NewRecorder()
		sim.ServeHTTP(w, r)
		if w.Code != http.StatusRequestEntityTooLarge || value(t, w.Body.Bytes(), g.errorKind) == absent {
			t.Errorf("%s: %d %s", g.name, w.Code, w.Body)
		}
	}
	for _, g := range generations {
		ask(g, 64<<20+1)
	}
	ask(generations[0], -1) // the length shows only while reading
}

func TestArgumentsFitTheSchema(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	for schema, want := range map[string]string{
		`{}`:                `{}`,
		`null`:              `{}`,
		`{"type":"object"}`: `{}`,
		`{"type":"object","properties":{"a":{"type":["null","boolean"]},"b":{"const":7},"c":{"anyOf":[{"type":"number","minimum":2.5}]}}}`: `{"a":true,"b":7,"c":2.5}`,
		`{"properties":{"when":{"type":"string","format":"date-time"},"who":{"type":"array","items":{"type":"string"}}}}`:                  `{"when":"2026-01-31T12:00:00Z","who":["example"]}`,
		`{"type":"object","properties":{"o":{"type":"object","properties":{"ü":{"default":"größer"}}}}}`:                                   `{"o":{"ü":"größer"}}`,
	} {
		body := fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":"do"}],"tools":[{"type":"function","function":{"name":"f","parameters":%s}}]}`, schema)
		_, answer := p.post(t, "/v1/chat/completions", body)
		if got := value(t, answer, "choices.0.message.tool_calls.0.function.arguments"); got != want {
			t.Errorf("%s: %v, want %s", schema, got, want)
		}
	}
}
