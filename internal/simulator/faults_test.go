package simulator_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// contentFrames counts the frames of a stream that carry a word.
func contentFrames(body []byte) int {
	n := 0
	for _, mark := range []string{`"delta":{"content":" `, `"text":" `, `"delta":" `} {
		n += bytes.Count(body, []byte(mark))
	}
	return n + 1 // the first word has no space before it
}

func TestPlainAnswer(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	forms(t, func(t *testing.T, g generation, stream bool) {
		resp, body, err := g.ask(t, p, "some-model", stream)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("got %d, %v: %s", resp.StatusCode, err, body)
		}
		_, again, _ := g.ask(t, p, "some-model", stream)
		if !stream {
			if got := value(t, body, g.text); !strings.HasPrefix(got.(string), `You said: "Hello there, simulator". Happy to help!`) {
				t.Errorf("text %q", got)
			}
			if got := value(t, body, g.output); got != 24.0 {
				t.Errorf("output tokens %v, want 24", got)
			}
			if value(t, again, g.text) != value(t, body, g.text) {
				t.Error("the same request got another answer")
			}
			return
		}
		if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/event-stream") {
			t.Errorf("content type %q", got)
		}
		all := events(t, body)
		if last := all[len(all)-1].data; !strings.Contains(string(last), g.end) {
			t.Errorf("last event %s, want %s", last, g.end)
		}
		if !strings.Contains(string(body), "24") {
			t.Error("no usage in the stream")
		}
	})
}

func TestErrorStatus(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	kinds := map[string]map[int]string{
		"openai": {400: "invalid_request_error", 401: "invalid_request_error", 403: "invalid_request_error",
			429: "requests", 500: "server_error", 503: "server_error", 529: "server_error"},
		"messages": {400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
			404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 500: "api_error",
			504: "timeout_error", 529: "overloaded_error"},
		"gemini": {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
			429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"},
	}
	forms(t, func(t *testing.T, g generation, stream bool) {
		byStatus, ok := kinds[g.name]
		if !ok {
			byStatus = kinds["openai"]
		}
		for status, kind := range byStatus {
			resp, body, err := g.ask(t, p, "sim-error-"+strconv.Itoa(status), stream)
			if err != nil || resp.StatusCode != status || value(t, body, g.errorKind) != kind {
				t.Errorf("%d: got %d, %v: %s", status, resp.StatusCode, err, body)
			}
			if retry := resp.Header.Get("Retry-After"); (retry == "1") != (status == 429) {
				t.Errorf("%d: retry-after %q", status, retry)
			}
			if strings.Contains(string(body), testKey) {
				t.Errorf("%d: gives the key away: %s", status, body)
			}
		}
	})
}

func TestErrorShowsPartOfTheKey(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	_, body := p.post(t, "/v1/chat/completions", generations[0].body("sim-error-401", false))
	if !strings.Contains(string(body), "Incorrect API key provided: sk-ab***wxyz.") {
		t.Errorf("got %s", body)
	}
}

func TestUnknownOrder(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	for _, model := range []string{"sim-", "sim-what", "sim-error-200", "sim-error-x", "sim-slow-long", "sim-chunks-0", "sim-pace--1s", "sim-big-999999999999", "sim-abort+what"} {
		for _, g := range generations {
			resp, body, _ := g.ask(t, p, model, true)
			if resp.StatusCode != http.StatusNotFound {
				t.Errorf("%s %s: got %d: %s", g.name, model, resp.StatusCode, body)
			}
			if g.name == "chat" && value(t, body, "error.code") != "model_not_found" {
				t.Errorf("%s: got %s", model, body)
			}
		}
	}
}

func TestAbort(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	forms(t, func(t *testing.T, g generation, stream bool) {
		resp, body, err := g.ask(t, p, "sim-abort", stream)
		if resp.StatusCode != http.StatusOK || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %d, error %v", resp.StatusCode, err)
		}
		if stream && contentFrames(body) != 12 {
			t.Errorf("got %d of 24 chunks before the abort", contentFrames(body))
		}
		if len(body) == 0 || stream && strings.Contains(string(body), g.end) {
			t.Errorf("got %s", body)
		}
	})
}

func TestAbortBeforeHeaders(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	forms(t, func(t *testing.T, g generation, stream bool) {
		model := "sim-abort-headers"
		resp, err := p.Client().Do(p.request(t, http.MethodPost, g.path(model, stream), g.body(model, stream)))
		if err == nil {
			resp.Body.Close()
			t.Fatalf("got %s", resp.Status)
		}
	})
}

func TestErrorMidstream(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	forms(t, func(t *testing.T, g generation, stream bool) {
		resp, body, err := g.ask(t, p, "sim-error-midstream", stream)
		if err != nil {
			t.Fatal(err)
		}
		if !stream {
			if resp.StatusCode != http.StatusInternalServerError {
				t.Errorf("got %d", resp.StatusCode)
			}
			return
		}
		all := events(t, body)
		if last := string(all[len(all)-1].data); !strings.Contains(last, g.failure) {
			t.Errorf("last event %s", last)
		}
		if contentFrames(body) != 12 || strings.Contains(string(body), g.end) {
			t.Errorf("got %s", body)
		}
	})
}

func TestTruncate(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	for _, g := range generations {
		_, body, err := g.ask(t, p, "sim-truncate", true)
		if err != nil {
			t.Errorf("%s: the end is not clean: %v", g.name, err)
		}
		if contentFrames(body) != 12 || strings.Contains(string(body), g.end) ||
			strings.Contains(string(body), `"usage":{`) || strings.Contains(string(body), "usageMetadata") {
			t.Errorf("%s: got %s", g.name, body)
		}
	}
}

func TestNoUsage(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	forms(t, func(t *testing.T, g generation, stream bool) {
		_, body, err := g.ask(t, p, "sim-nousage", stream)
		if err != nil || strings.Contains(strings.ToLower(string(bytes.ReplaceAll(body, []byte("sim-nousage"), nil))), "usage") {
			t.Errorf("error %v, got %s", err, body)
		}
	})
}

func TestSizes(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	forms(t, func(t *testing.T, g generation, stream bool) {
		_, body, err := g.ask(t, p, "sim-chunks-7", stream)
		if err != nil {
			t.Fatal(err)
		}
		if stream && contentFrames(body) != 7 {
			t.Errorf("sim-chunks-7: got %d chunks", contentFrames(body))
		}
		if !stream && len(strings.Fields(value(t, body, g.text).(string))) != 7 {
			t.Errorf("sim-chunks-7: got %s", body)
		}
		_, body, err = g.ask(t, p, "sim-big-100000", stream)
		if err != nil || len(body) < 100_000 {
			t.Errorf("sim-big-100000: got %d bytes, %v", len(body), err)
		}
		if !stream && len(value(t, body, g.text).(string)) != 100_000 {
			t.Errorf("sim-big-100000: got %d bytes of text", len(value(t, body, g.text).(string)))
		}
		_, body, _ = g.ask(t, p, "sim-big-100000+chunks-10", stream)
		if got := contentFrames(body); stream && (got < 8 || got > 10) {
			t.Errorf("sim-big+chunks: got %d chunks", got)
		}
	})
}

func TestHeadersByOrder(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	forms(t, func(t *testing.T, g generation, stream bool) {
		resp, _, _ := g.ask(t, p, "sim-redirect", stream)
		if resp.StatusCode != http.StatusFound || resp.Header.Get("Location") != "/sim/elsewhere" {
			t.Errorf("sim-redirect: got %d to %q", resp.StatusCode, resp.Header.Get("Location"))
		}
		resp, _, _ = g.ask(t, p, "sim-cookie", stream)
		if len(resp.Cookies()) != 1 {
			t.Errorf("sim-cookie: got %v", resp.Cookies())
		}
		resp, body, _ := g.ask(t, p, "sim-trailer", stream)
		if got := resp.Trailer.Get("X-Sim-Trailer"); got != "done" || len(body) == 0 {
			t.Errorf("sim-trailer: got %q", got)
		}
	})
}

func TestCRLF(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	for _, g := range generations {
		_, body, _ := g.ask(t, p, "sim-crlf", true)
		if n := bytes.Count(body, []byte("\n")); n == 0 || n != bytes.Count(body, []byte("\r\n")) {
			t.Errorf("%s: %d line ends, not all CRLF", g.name, n)
		}
		if !bytes.Contains(body, []byte("\r\n: simulated")) {
			t.Errorf("%s: no comment lines", g.name)
		}
		if all := events(t, body); !strings.Contains(string(all[len(all)-1].data), g.end) {
			t.Errorf("%s: last event %s", g.name, all[len(all)-1].data)
		}
	}
}

func TestEcho(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	for _, g := range generations {
		r := p.request(t, http.MethodPost, g.path("sim-echo", false), g.body("sim-echo", false))
		r.URL.RawQuery = "key=AIzaSecretSecretSecret&beta=true"
		r.Header.Set("X-Custom", "custom-value")
		_, body, _ := p.do(t, r)
		text := value(t, body, g.text).(string)
		_, described, _ := strings.Cut(text, "as received: ")
		for path, want := range map[string]any{
			"query.beta": "true", "query.key": "AIza",
			"credentials.0.kind": "bearer", "credentials.0.starts_with": "sk-a", "credentials.1.kind": "key",
		} {
			if got := value(t, []byte(described), path); got != want {
				t.Errorf("%s: %s is %v, want %v", g.name, path, got, want)
			}
		}
		if !strings.Contains(text, `"X-Custom"`) {
			t.Errorf("%s: header name missing: %s", g.name, text)
		}
		if strings.Contains(text, "AIzaS") || strings.Contains(text, "sk-ab") || strings.Contains(text, "custom-value") {
			t.Errorf("%s: values given away: %s", g.name, text)
		}
	}
}

func TestHangEndsWithTheClient(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	arrived := make(chan struct{})
	p.sim.OnRequest(func(*http.Request) { close(arrived) })
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	resp, err := p.Client().Do(p.request(t, http.MethodPost, "/v1/chat/completions", generations[0].body("sim-hang", true)).WithContext(ctx))
	if err == nil {
		resp.Body.Close()
		t.Fatalf("got %s", resp.Status)
	}
	p.Close()
	if got := p.sim.Stats().CancelledRequests; got != 1 {
		t.Errorf("%d cancelled requests", got)
	}
}

func TestMalformedJSON(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	for _, g := range generations {
		for _, body := range []string{`{"model":`, `[]`, ``, `{"messages":"x","contents":"x","input":7,"prompt":7,"model":"m"}`} {
			resp, answer := p.post(t, g.path("m", false), body)
			if resp.StatusCode != http.StatusBadRequest || value(t, answer, g.errorKind) == absent {
				t.Errorf("%s %q: got %d: %s", g.name, body, resp.StatusCode, answer)
			}
		}
	}
}
