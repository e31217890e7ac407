package e2e

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/coder/websocket"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// say adds to a session's conversation.
func say(t *testing.T, ctx context.Context, c *websocket.Conn, text string) {
	t.Helper()
	event, err := json.Marshal(object{"type": "conversation.item.create", "item": object{
		"type": "message", "role": "user", "content": []object{{"type": "input_text", "text": text}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Write(ctx, websocket.MessageText, event); err != nil {
		t.Fatal(err)
	}
	if got := nextEvent(t, ctx, c); got != "conversation.item.created" {
		t.Fatalf("%s", got)
	}
}

// respond asks for an answer and returns what it used, by its last event.
func respond(t *testing.T, ctx context.Context, c *websocket.Conn) (in, out int64) {
	t.Helper()
	if err := c.Write(ctx, websocket.MessageText, []byte(`{"type":"response.create"}`)); err != nil {
		t.Fatal(err)
	}
	for {
		_, data, err := c.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var event struct {
			Type     string
			Response struct {
				Usage struct {
					Input  int64 `json:"input_tokens"`
					Output int64 `json:"output_tokens"`
				}
			}
		}
		if err := json.Unmarshal(data, &event); err != nil {
			t.Fatal(err)
		}
		if event.Type == "response.done" {
			return event.Response.Usage.Input, event.Response.Usage.Output
		}
	}
}

// TestRealtimeIsMetered compares what a session's event says with what the client
// was told and with the provider's own books, however the session ends.
func TestRealtimeIsMetered(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, priced(t, against(sim)))
	for name, tc := range map[string]struct {
		end     func(t *testing.T, a *account, c *websocket.Conn)
		outcome string
	}{
		"closed": {func(t *testing.T, _ *account, c *websocket.Conn) {
			if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
				t.Errorf("closing: %v", err)
			}
		}, "ok"},
		"broken off": {func(_ *testing.T, _ *account, c *websocket.Conn) { c.CloseNow() }, "ok"},
		"cut":        {func(t *testing.T, a *account, _ *websocket.Conn) { a.revoke(t) }, "cut"},
	} {
		t.Run(name, func(t *testing.T) {
			before := sim.Stats()
			a := p.account(t)
			ctx := bounded(t)
			c := p.socket(t, ctx, realtimePath, websocket.DialOptions{HTTPHeader: bearer(a.token)})
			var in, out int64
			for _, text := range []string{"hello", "and once more, with more words", ""} {
				if text != "" {
					say(t, ctx, c, text)
				}
				i, o := respond(t, ctx, c)
				if i == 0 || o == 0 {
					t.Fatalf("a response of %d tokens in, %d out", i, o)
				}
				in, out = in+i, out+o
			}
			if early := p.requests(t, "token_id="+a.tokenID); len(early) != 0 {
				t.Errorf("before the session ends: %+v", early)
			}
			tc.end(t, a, c)
			ev := a.awaitRequests(t, 1)[0]
			gotIn, gotOut := ev.tokens()
			if gotIn != in || gotOut != out || ev.UsageSource != "provider" || ev.Estimated {
				t.Errorf("%d in, %d out by the responses; %+v", in, out, ev)
			}
			if ev.Outcome != tc.outcome || ev.Status != 101 || ev.Model != "gpt-realtime" || ev.Endpoint != "/v1/realtime" {
				t.Errorf("%+v", ev)
			}
			if ev.CostNanoUSD == nil || *ev.CostNanoUSD != costOf(in, out) {
				t.Errorf("cost %v, want %d", ev.CostNanoUSD, costOf(in, out))
			}
			books := sim.Stats()
			if i, o := books.PromptTokens-before.PromptTokens, books.CompletionTokens-before.CompletionTokens; i != in || o != out {
				t.Errorf("the provider counted %d, %d; its responses %d, %d", i, o, in, out)
			}
			if n, sumIn, sumOut, _ := a.usageTotal(t); n != 1 || sumIn != in || sumOut != out {
				t.Errorf("sums: %d requests, %d in, %d out", n, sumIn, sumOut)
			}
		})
	}
}
