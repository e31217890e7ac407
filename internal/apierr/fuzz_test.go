package apierr_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
)

// FuzzBody holds that whatever a client makes us repeat in a message, the body
// stays one JSON object that says exactly that, and an event one frame.
func FuzzBody(f *testing.F) {
	for _, message := range []string{
		"plain", `"},"error":{"code":"x`, "line\r\n\r\ndata: {}\n\n", "\x00\x1f\x7f", "\xff\xfe", "\u2028\u2029", `\`, `\u0000`, "</script>", "é漢😀", strings.Repeat("a", 5000),
	} {
		f.Add(message, "model", "id")
		f.Add("m", message, message)
	}
	f.Fuzz(func(t *testing.T, message, param, id string) {
		e := apierr.New(400, apierr.ParamNotAllowed, message).WithParam(param)
		e.Metadata = map[string]string{param: id}
		for _, d := range []apierr.Dialect{apierr.OpenAI, apierr.OpenAIResponses, apierr.Anthropic, apierr.Gemini} {
			checkMessage(t, d.Body(e, id), message)
			event := d.Event(e, id)
			data, ok := bytes.CutSuffix(event[bytes.Index(event, []byte("data: "))+len("data: "):], []byte("\n\n"))
			if !ok || bytes.ContainsAny(data, "\r\n") {
				t.Fatalf("the event is not one frame: %q", event)
			}
			checkMessage(t, data, message)
		}
	})
}

func checkMessage(t *testing.T, body []byte, message string) {
	t.Helper()
	var parsed struct {
		Message string `json:"message"`
		Error   struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(body, &parsed); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	want := string([]rune(message)) // each invalid byte becomes U+FFFD
	if got := parsed.Message + parsed.Error.Message; got != want {
		t.Fatalf("%q says %q, want %q", body, got, want)
	}
}
