package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// socket opens a realtime session and reads its first event.
func (p *proxy) socket(t *testing.T, ctx context.Context, path string, opt websocket.DialOptions) *websocket.Conn {
	t.Helper()
	opt.HTTPClient = p.client(h1)
	c, resp, err := websocket.Dial(ctx, p.url+path, &opt)
	if err != nil {
		t.Fatalf("%v, %v", err, resp)
	}
	t.Cleanup(func() { c.CloseNow() })
	c.SetReadLimit(1 << 20)
	if event := nextEvent(t, ctx, c); event != "session.created" {
		t.Fatalf("first event %s", event)
	}
	return c
}

func nextEvent(t *testing.T, ctx context.Context, c *websocket.Conn) string {
	t.Helper()
	_, data, err := c.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var event struct{ Type string }
	if err := json.Unmarshal(data, &event); err != nil {
		t.Fatalf("%v: %q", err, data)
	}
	return event.Type
}

func echoes(t *testing.T, ctx context.Context, c *websocket.Conn, kind websocket.MessageType, data []byte) {
	t.Helper()
	if err := c.Write(ctx, kind, data); err != nil {
		t.Fatal(err)
	}
	gotKind, got, err := c.Read(ctx)
	if err != nil || gotKind != kind || !bytes.Equal(got, data) {
		t.Fatalf("%v: sent %d bytes, %d came back", err, len(data), len(got))
	}
}

const realtimePath = "/v1/realtime?model=gpt-realtime"

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

func TestRealtime(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, against(sim))
	for name, options := range map[string]func(token string) (string, websocket.DialOptions){
		"header": func(token string) (string, websocket.DialOptions) {
			return realtimePath, websocket.DialOptions{HTTPHeader: bearer(token)}
		},
		"subprotocol": func(token string) (string, websocket.DialOptions) {
			return realtimePath, websocket.DialOptions{Subprotocols: []string{"realtime", "openai-insecure-api-key." + token, "openai-project.x"}}
		},
		"query": func(token string) (string, websocket.DialOptions) {
			return realtimePath + "&key=" + token, websocket.DialOptions{Subprotocols: []string{"realtime"}}
		},
		"named provider": func(token string) (string, websocket.DialOptions) {
			return "/openai" + realtimePath, websocket.DialOptions{HTTPHeader: bearer(token)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := p.account(t)
			ctx := bounded(t)
			path, opt := options(a.token)
			c := p.socket(t, ctx, path, opt)
			seen := sim.last(t, a.key)
			if seen.header.Get("Authorization") != "Bearer "+a.key || seen.uri != realtimePath {
				t.Errorf("the provider saw %s, %v", seen.uri, seen.header)
			}
			for header, values := range seen.header {
				for _, v := range values {
					if strings.Contains(v, a.token) || strings.Contains(v, "openai-") || strings.HasPrefix(header, "X-Forwarded") || header == "Via" {
						t.Errorf("the provider saw %s: %s", header, v)
					}
				}
			}
			if len(opt.Subprotocols) > 0 && (c.Subprotocol() != "realtime" || seen.header.Get("Sec-Websocket-Protocol") != "realtime") {
				t.Errorf("subprotocol %q, the provider was offered %q", c.Subprotocol(), seen.header.Get("Sec-Websocket-Protocol"))
			}
			echoes(t, ctx, c, websocket.MessageText, []byte("not an event"))
			echoes(t, ctx, c, websocket.MessageBinary, bytes.Repeat([]byte{0, 1, 0xff}, 100_000))
			if err := c.Write(ctx, websocket.MessageText, []byte(`{"type":"response.create"}`)); err != nil {
				t.Fatal(err)
			}
			deltas := 0
			for event := nextEvent(t, ctx, c); event != "response.done"; event = nextEvent(t, ctx, c) {
				if event == "response.output_text.delta" {
					deltas++
				}
			}
			if deltas < 5 {
				t.Errorf("%d deltas", deltas)
			}
			if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
				t.Errorf("closing: %v", err)
			}
		})
	}
}

// TestRealtimeRefusals is what never becomes a session.
func TestRealtimeRefusals(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, against(sim))
	restricted := p.account(t, object{"allowed_models": []string{"gpt-4o*"}})
	handshake := "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n"
	for name, c := range map[string]struct {
		path, token string
		status      int
		code        string
	}{
		"model":        {"/v1/realtime?model=gpt-realtime", restricted.token, 403, "model_not_allowed"},
		"no model":     {"/v1/realtime", restricted.token, 403, "model_not_allowed"},
		"two models":   {"/v1/realtime?model=gpt-4o&model=o3", restricted.token, 400, "param_not_allowed"},
		"no token":     {"/v1/realtime?model=gpt-realtime", "", 401, "invalid_token"},
		"key refused":  {"/v1/realtime?model=sim-error-401", "free", 502, "upstream_credentials_exhausted"},
		"broken off":   {"/v1/realtime?model=sim-abort-headers", "free", 502, "upstream_error"},
		"wrong method": {"/v1/realtime?model=gpt-realtime", "free", 405, "method_not_allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			token, method, before := c.token, "GET ", sim.count()
			if token == "free" {
				token = p.account(t).token
			}
			if c.status == 405 {
				method = "PUT "
			}
			got := p.raw(t, method+c.path+" HTTP/1.1\nHost: localhost\n"+handshake+"Authorization: Bearer "+token+"\n", "")
			openAIDialect.refused(t, got, c.status, c.code)
			if c.status != http.StatusBadGateway {
				sim.untouched(t, before)
			}
		})
	}
	t.Run("provider's refusal", func(t *testing.T) {
		a := p.account(t)
		got := p.raw(t, "GET /v1/realtime?model=sim-error-429 HTTP/1.1\nHost: localhost\n"+handshake+"Authorization: Bearer "+a.token+"\n", "")
		if got.status != http.StatusTooManyRequests || !strings.Contains(got.body, "rate_limit_exceeded") {
			t.Errorf("%d %s", got.status, got.body)
		}
	})
	for _, upgrade := range []string{"websocket", "h2c", "foo/2"} {
		t.Run("elsewhere "+upgrade, func(t *testing.T) {
			a := p.account(t)
			lines := strings.Replace(handshake, "Upgrade: websocket", "Upgrade: "+upgrade, 1) + "HTTP2-Settings: AAMAAABkAAQAAP__\n"
			got := p.raw(t, "GET /v1/models HTTP/1.1\nHost: localhost\n"+lines+"Authorization: Bearer "+a.token+"\n", "")
			seen := sim.last(t, a.key)
			if got.status != http.StatusOK || seen.header.Get("Upgrade") != "" || seen.header.Get("Http2-Settings") != "" || seen.header.Get("Sec-Websocket-Key") != "" {
				t.Errorf("%d; the provider saw %v", got.status, seen.header)
			}
		})
	}
}

// TestRealtimeIsCut takes tokens away during sessions.
func TestRealtimeIsCut(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, against(sim))
	for name, cut := range cuts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := cutAccount(t, p, name)
			ctx := bounded(t)
			c := p.socket(t, ctx, realtimePath, websocket.DialOptions{HTTPHeader: bearer(a.token)})
			cut.apply(t, a)
			began := time.Now()
			if _, data, err := c.Read(ctx); err == nil {
				t.Errorf("after the cut came %q", data)
			}
			if took := time.Since(began); took > cutWithin {
				t.Errorf("cut after %s", took)
			}
			if ctx.Err() != nil {
				t.Error("the session was not cut")
			}
		})
	}
}

// TestRealtimeSurvivesReload keeps a session over changes of the configuration.
func TestRealtimeSurvivesReload(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	s := against(sim)
	p := start(t, s)
	a := p.account(t)
	ctx := bounded(t)
	c := p.socket(t, ctx, realtimePath, websocket.DialOptions{HTTPHeader: bearer(a.token)})
	for _, handler := range []string{"", "max_body 1MiB", "expose_headers off"} {
		s.handler = handler
		p.reload(s)
		echoes(t, ctx, c, websocket.MessageText, []byte("still there "+handler))
	}
	p.socket(t, ctx, realtimePath, websocket.DialOptions{HTTPHeader: bearer(a.token)})
	a.revoke(t) // under the newest configuration, a session of the oldest
	if _, data, err := c.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("not cut: %q, %v", data, err)
	}
}
