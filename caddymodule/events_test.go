package caddymodule

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
)

const testWebhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// TestEventsRefused: what only Provision can know is refused with the option's path
// and without its value.
func TestEventsRefused(t *testing.T) {
	t.Setenv("LLM_PROXY_TEST_BAD", "CANARY")
	t.Setenv("LLM_PROXY_TEST_PATTERN", "CANARY[")
	one := func(sink object) object { return object{"sinks": object{"one": object{"sink": sink}}} }
	for name, c := range map[string]struct {
		events object
		want   string
	}{
		"durability":     {object{"durability": "maybe"}, "events > durability: "},
		"log":            {object{"log": "kafka"}, "events > log: "},
		"log redis":      {object{"log": "redis"}, "events > log: redis needs the app's Redis"},
		"capture":        {object{"capture": "all"}, "events > capture: "},
		"retention":      {object{"retention": -1}, "events > retention: "},
		"redact":         {object{"redact": []string{"a", "["}}, "events > redact 2: "},
		"redact unset":   {object{"redact": []string{"{env.LLM_PROXY_TEST_UNSET}"}}, "events > redact 1: "},
		"redact pattern": {object{"redact": []string{"{env.LLM_PROXY_TEST_PATTERN}"}}, "events > redact 1: "},
		"name":           {object{"sinks": object{"A b": object{"sink": object{"type": "file", "path": "/x"}}}}, "is not a name for a sink"},
		"no module":      {object{"sinks": object{"one": object{}}}, "events > sink one > sink: expected a module"},
		"null":           {object{"sinks": object{"one": nil}}, "events > sink one > sink: expected a module"},
		"unknown module": {one(object{"type": "pigeon"}), "unknown module: llm_proxy.sinks.pigeon"},
		"unknown option": {one(object{"type": "file", "path": "/x", "rotate": true}), "rotate"},
		"from":           {object{"sinks": object{"one": object{"from": "here", "sink": object{"type": "file", "path": "/x"}}}}, "events > sink one > from: "},
		"negative":       {object{"sinks": object{"one": object{"batch": -1, "sink": object{"type": "file", "path": "/x"}}}}, "must not be negative"},
		"file":           {one(object{"type": "file"}), "path: expected the path of a file"},
		"file unset":     {one(object{"type": "file", "path": "{env.LLM_PROXY_TEST_UNSET}"}), "path: "},
		"file size":      {one(object{"type": "file", "path": "/x", "roll_size": 5}), "roll_size"},
		"webhook":        {one(object{"type": "webhook"}), "url: expected a URL"},
		"webhook url":    {one(object{"type": "webhook", "url": "{env.LLM_PROXY_TEST_BAD}"}), "url: "},
		"webhook secret": {one(object{"type": "webhook", "url": "https://example.com", "secrets": []string{"{env.LLM_PROXY_TEST_BAD}"}}), "secret 1: "},
		"webhook header": {one(object{"type": "webhook", "url": "https://example.com", "headers": object{"a b": "x"}}), "header: "},
		"header value":   {one(object{"type": "webhook", "url": "https://example.com", "headers": object{"A": "CANARY\n"}}), "header A: "},
		"otlp":           {one(object{"type": "otlp"}), "endpoint: expected the address"},
		"otlp endpoint":  {one(object{"type": "otlp", "endpoint": "{env.LLM_PROXY_TEST_BAD}"}), "endpoint: "},
		"redis none":     {one(object{"type": "redis_stream"}), "url: expected where Redis is"},
		"redis":          {one(object{"type": "redis_stream", "url": "{env.LLM_PROXY_TEST_BAD}"}), "sink one > "},
		"redis length":   {one(object{"type": "redis_stream", "url": "redis://127.0.0.1:1", "max_len": -1}), "max_len"},
	} {
		t.Run(name, func(t *testing.T) {
			a := sqliteApp(t.TempDir())
			a["events"] = c.events
			err := reload(site(a, object{"handler": "llm_proxy"}))
			if err == nil {
				t.Cleanup(func() { _ = caddy.Stop() })
				t.Fatal("it is taken")
			}
			if !strings.Contains(err.Error(), "llm_proxy > events > ") || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "CANARY") {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// TestEventsResolved: every option arrives, and checking a configuration touches
// nothing.
func TestEventsResolved(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("LLM_PROXY_TEST_SECRET", testWebhookSecret)
	t.Setenv("LLM_PROXY_TEST_PATTERN", "[0-9]{16}")
	a := sqliteApp(dir)
	a["redis"] = object{"urls": []string{"redis://127.0.0.1:1"}}
	a["events"] = object{
		"durability": "before_response", "log": "redis", "capture": "both", "retention": int64(time.Hour),
		"redact": []string{`sk-\w{8,}`, "{env.LLM_PROXY_TEST_PATTERN}"},
		"sinks": object{
			"file": object{
				"from": "beginning", "batch": 7, "linger": int64(time.Second), "timeout": int64(2 * time.Second), "max_attempts": 3, "retry_for": int64(time.Minute),
				"sink": object{"type": "file", "path": filepath.Join(dir, "logs", "events.jsonl")},
			},
			"hook":   object{"sink": object{"type": "webhook", "url": "https://user:{env.LLM_PROXY_TEST_SECRET}@example.com", "secrets": []string{"{env.LLM_PROXY_TEST_SECRET}"}}},
			"otlp":   object{"sink": object{"type": "otlp", "endpoint": "http://127.0.0.1:1", "headers": object{"Authorization": "{env.LLM_PROXY_TEST_SECRET}"}}},
			"stream": object{"sink": object{"type": "redis_stream"}},
		},
	}
	data, err := json.Marshal(site(a, object{"handler": "llm_proxy"}))
	if err != nil {
		t.Fatal(err)
	}
	var cfg caddy.Config
	if err := json.Unmarshal(data, &cfg); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&cfg); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("files %v, error %v", left, err)
	}
	load(t, site(a, object{"handler": "llm_proxy"}))
	app := activeApp(t)
	got := app.events
	if !got.beforeResponse || !got.throughRedis || !got.captureRequest || !got.captureResponse || got.retention != time.Hour || len(got.redact) != 2 || got.redact[1].String() != "[0-9]{16}" {
		t.Errorf("resolved to %+v", got)
	}
	want := delivery.Spec{
		Name: "file", FromBeginning: true, Batch: 7, Linger: time.Second, Timeout: 2 * time.Second,
		Backoff: delivery.Backoff{Attempts: 3, For: time.Minute},
	}
	if len(got.sinks) != 4 || got.sinks[0].Sink == nil {
		t.Fatalf("sinks %+v", got.sinks)
	}
	if want.Sink = got.sinks[0].Sink; got.sinks[0] != want {
		t.Errorf("sink %+v, want %+v", got.sinks[0], want)
	}
	config, err := json.Marshal(app)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(config), testWebhookSecret) {
		t.Errorf("the configuration shows a secret: %s", config)
	}
}
