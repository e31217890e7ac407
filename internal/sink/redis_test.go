package sink_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sofatutor/caddy-llm-proxy/internal/redisconn"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/sink"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

func stream(t *testing.T, url string, maxLen int64) *sink.RedisStream {
	t.Helper()
	s, err := sink.NewRedisStream(sink.RedisStreamConfig{Redis: redisconn.Settings{URLs: []secret.Value{secret.NewValue(url)}}, MaxLen: maxLen})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func client(t *testing.T, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestRedisStream reads the stream as the predecessor's consumers do.
func TestRedisStream(t *testing.T) {
	url := testdb.Redis(t)
	events := samples(3)
	events[1].Request, events[1].Response = "not JSON\x01", "\xff\xfe"
	events[2].Request, events[2].EndUser, events[2].InputTokens.Known, events[2].OutputTokens.Known = "", "", false, false
	if err := stream(t, url, 0).Deliver(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	entries, err := client(t, url).XRange(t.Context(), "llm-proxy-events", "-", "+").Result()
	if err != nil || len(entries) != 3 {
		t.Fatalf("%d entries, error %v", len(entries), err)
	}
	var got [3]map[string]any
	for i, e := range entries {
		if err := json.Unmarshal([]byte(e.Values["data"].(string)), &got[i]); err != nil || len(e.Values) != 1 {
			t.Fatalf("%v: %v", e.Values, err)
		}
		if p := got[i]; p["type"] != "llm" || p["event"] != "start" || p["runId"] != events[i].ID.String() || p["timestamp"] != "2026-03-04T05:06:07.089Z" || p["log_id"] != 0.0 {
			t.Errorf("payload %v", p)
		}
	}
	want := map[string]any{"method": "POST", "path": "/v1/chat/completions", "status": 200.0, "duration_ms": 1500.0, "request_id": events[0].ID.String()}
	if fmt.Sprint(got[0]["metadata"]) != fmt.Sprint(want) {
		t.Errorf("metadata %v, want %v", got[0]["metadata"], want)
	}
	if got[0]["userId"] != "alice" || fmt.Sprint(got[0]["tokensUsage"]) != "map[completion:30 prompt:120]" || got[0]["input"].(map[string]any)["model"] != "gpt-4o" || got[0]["output"] != "hello" {
		t.Errorf("payload %v", got[0])
	}
	if extra := got[0]["extra"].(map[string]any); extra["cost_usd"] != "0.001234567" || extra["project_id"] != events[0].ProjectID.String() {
		t.Errorf("extra %v", extra)
	}
	if got[1]["input"] != "not JSON\x01" || got[1]["output"] != nil || got[1]["output_base64"] != "//4=" {
		t.Errorf("payload %v", got[1])
	}
	if _, ok := got[2]["tokensUsage"]; ok || got[2]["input"] != nil {
		t.Errorf("payload %v", got[2])
	}
}

func TestRedisStreamLength(t *testing.T) {
	url := testdb.Redis(t)
	s := stream(t, url, 100)
	for range 10 {
		if err := s.Deliver(t.Context(), samples(100)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := client(t, url).XLen(t.Context(), "llm-proxy-events").Result(); err != nil || n < 100 || n >= 1000 {
		t.Errorf("%d entries, error %v", n, err)
	}
}

// TestRedisAway: what Redis cannot take now is for another time, and a batch is there
// as a whole or not at all.
func TestRedisAway(t *testing.T) {
	server := testdb.StartRedis(t)
	s := stream(t, server.URL(), 0)
	deliver := func(limit time.Duration) string {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		return verdict(s.Deliver(ctx, samples(5)))
	}
	c := client(t, server.URL())
	if err := c.Set(t.Context(), "llm-proxy-events", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if got := deliver(3 * time.Second); got != "again" {
		t.Errorf("not a stream: %s", got)
	}
	if err := c.Del(t.Context(), "llm-proxy-events").Err(); err != nil {
		t.Fatal(err)
	}
	if got := deliver(time.Minute); got != "taken" {
		t.Error(got)
	}
	server.Pause()
	if got := deliver(3 * time.Second); got != "again" {
		t.Errorf("frozen: %s", got)
	}
	server.Resume()
	server.Stop()
	if got := deliver(3 * time.Second); got != "again" {
		t.Errorf("stopped: %s", got)
	}
	server.Start()
	for deadline := time.Now().Add(2 * time.Minute); deliver(3*time.Second) != "taken"; {
		if time.Now().After(deadline) {
			t.Fatal("it does not come back")
		}
	}
	if n, err := c.XLen(t.Context(), "llm-proxy-events").Result(); err != nil || n%5 != 0 || n < 5 {
		t.Errorf("%d entries, error %v", n, err)
	}
	if _, err := sink.NewRedisStream(sink.RedisStreamConfig{MaxLen: -1}); err == nil {
		t.Error("a negative length is taken")
	}
}
