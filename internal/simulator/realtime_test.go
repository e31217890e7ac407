package simulator_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// talk is the client's side of a realtime session.
type talk struct {
	t    *testing.T
	conn *websocket.Conn
}

func dial(t *testing.T, p provider, model string) talk {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, p.URL+"/v1/realtime?model="+model, &websocket.DialOptions{
		HTTPClient: p.Client(), HTTPHeader: http.Header{"Authorization": {"Bearer " + testKey}},
	})
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(1 << 20)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return talk{t, conn}
}

func (c talk) say(message string) {
	c.t.Helper()
	if err := c.conn.Write(c.t.Context(), websocket.MessageText, []byte(message)); err != nil {
		c.t.Fatal(err)
	}
}

func (c talk) hear() []byte {
	c.t.Helper()
	_, data, err := c.conn.Read(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return data
}

func (c talk) expect(kind string) []byte {
	c.t.Helper()
	data := c.hear()
	if got := value(c.t, data, "type"); got != kind {
		c.t.Fatalf("got %s, want %s", data, kind)
	}
	return data
}

const item = `{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text","text":"Hello you"}]}}`

func TestRealtime(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{Chunks: 5})
	c := dial(t, p, "gpt-realtime")
	if created := c.expect("session.created"); value(t, created, "session.model") != "gpt-realtime" {
		t.Errorf("got %s", created)
	}
	c.say(`{"type":"session.update","session":{}}`)
	c.expect("session.updated")
	c.say(item)
	c.expect("conversation.item.created")
	c.say(`{"type":"response.create"}`)
	c.expect("response.created")
	text := ""
	for range 5 {
		text += value(t, c.expect("response.output_text.delta"), "delta").(string)
	}
	if done := c.expect("response.output_text.done"); value(t, done, "text") != text || !strings.HasPrefix(text, `You said: "Hello you".`) {
		t.Errorf("streamed %q, done %s", text, done)
	}
	done := c.expect("response.done")
	for path, want := range map[string]float64{"input_tokens": 3, "output_tokens": 5, "total_tokens": 8, "input_token_details.cached_tokens": 0} {
		if got := value(t, done, "response.usage."+path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	c.say(`{"type":"dance","event_id":"e1"}`)
	if failed := c.expect("error"); value(t, failed, "error.event_id") != "e1" {
		t.Errorf("got %s", failed)
	}
	if got := p.sim.Stats(); got.WebSocketSessions != 1 || got.PromptTokens != 3 || got.CompletionTokens != 5 {
		t.Errorf("%+v", got)
	}
}

func TestRealtimeEchoesWhatIsNotAnEvent(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	c := dial(t, p, "gpt-realtime")
	c.expect("session.created")
	for _, m := range []struct {
		kind websocket.MessageType
		data []byte
	}{
		{websocket.MessageText, []byte("just text")},
		{websocket.MessageBinary, []byte{0, 1, 2, 255}},
		{websocket.MessageBinary, []byte(`{"type":"response.create"}`)},
		{websocket.MessageText, bytes.Repeat([]byte("long "), 100_000)},
	} {
		if err := c.conn.Write(t.Context(), m.kind, m.data); err != nil {
			t.Fatal(err)
		}
		kind, data, err := c.conn.Read(t.Context())
		if err != nil || kind != m.kind || !bytes.Equal(data, m.data) {
			t.Fatalf("%v: sent %v %.20q, got %v %.20q", err, m.kind, m.data, kind, data)
		}
	}
}

func TestRealtimeFaults(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{Chunks: 4})
	for _, tt := range []struct{ model, last string }{
		{"sim-abort", ""}, {"sim-truncate", ""}, {"sim-error-midstream", "error"}, {"sim-nousage", "response.done"},
	} {
		c := dial(t, p, tt.model)
		c.expect("session.created")
		c.say(`{"type":"response.create"}`)
		c.expect("response.created")
		c.expect("response.output_text.delta")
		c.expect("response.output_text.delta")
		switch tt.last {
		case "":
			if _, data, err := c.conn.Read(t.Context()); err == nil {
				t.Errorf("%s: got %s", tt.model, data)
			}
		case "error":
			c.expect("error")
		default:
			c.expect("response.output_text.delta")
			c.expect("response.output_text.delta")
			c.expect("response.output_text.done")
			if done := c.expect("response.done"); bytes.Contains(done, []byte(`"usage"`)) {
				t.Errorf("%s: got %s", tt.model, done)
			}
		}
	}
}

func TestRealtimeRefusals(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{})
	for query, want := range map[string]int{"": 400, "?model=sim-error-503": 503, "?model=sim-what": 404, "?model=no-upgrade": 426} {
		resp, body, _ := p.do(t, p.request(t, http.MethodGet, "/v1/realtime"+query, ""))
		if resp.StatusCode != want {
			t.Errorf("%q: got %d %s", query, resp.StatusCode, body)
		}
	}
}

func TestRealtimeKeyInSubprotocol(t *testing.T) {
	t.Parallel()
	p := start(t, simulator.Options{Keys: []string{testKey}})
	conn, _, err := websocket.Dial(t.Context(), p.URL+"/v1/realtime?model=m", &websocket.DialOptions{
		HTTPClient: p.Client(), Subprotocols: []string{"realtime", "openai-insecure-api-key." + testKey},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := conn.Subprotocol(); got != "realtime" {
		t.Errorf("subprotocol %q", got)
	}
	_ = conn.CloseNow()
}
