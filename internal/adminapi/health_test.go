package adminapi_test

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

func TestHealth(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 6000, time.FixedZone("", 3600))
	h := newHarness(t, func(cfg *adminapi.Config) { cfg.Now = func() time.Time { return now } })
	if res := h.call("GET", "/health?probe=1", ""); string(res.body) != `{"status":"ok","timestamp":"2030-01-02T02:04:05.000006Z","version":"1.2.3"}` {
		t.Errorf("%s", res.body)
	}
	if res := h.call("GET", "/live", ""); string(res.body) != `{"status":"alive"}` {
		t.Errorf("%s", res.body)
	}
	if res := h.call("GET", "/ready", ""); string(res.body) != `{"status":"ready","checks":{"database":"ok"}}` {
		t.Errorf("%s", res.body)
	}
	if res := h.call("HEAD", "/ready", ""); res.status != 200 || len(res.body) != 0 || res.header.Get("Content-Length") == "0" {
		t.Errorf("HEAD: %d %s %v", res.status, res.body, res.header)
	}
}

func TestNotReady(t *testing.T) {
	var down atomic.Bool
	h := newHarness(t, func(cfg *adminapi.Config) {
		cfg.Ready = func() error {
			if down.Load() {
				return errors.New("dsn of the database: not migrated")
			}
			return nil
		}
	})
	down.Store(true)
	for range 3 {
		res := h.call("GET", "/ready", "")
		if res.status != http.StatusServiceUnavailable || res.header.Get("Retry-After") == "" ||
			string(res.body) != `{"status":"unavailable","checks":{"database":"unavailable"}}` {
			t.Errorf("%d %s", res.status, res.body)
		}
	}
	if res := h.refused("store_unavailable", "try again", "GET", "/manage/projects", ""); res.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", res.header.Get("Retry-After"))
	}
	h.refused("unauthorized", "", "GET", "/manage/projects", "", header("Authorization"))
	must[[]object](h, 200, "GET", "/manage/providers", "") // needs no database
	must[object](h, 200, "GET", "/live", "")
	down.Store(false)
	must[object](h, 200, "GET", "/ready", "")
	must[object](h, 200, "GET", "/ready", "")
	for words, want := range map[string]int{`msg="not ready"`: 1, `msg="ready again"`: 1} {
		if got := strings.Count(h.log.String(), words); got != want {
			t.Errorf("%s is logged %d times", words, got)
		}
	}
}

// TestRedisDegraded: without Redis requests are served, so it is no reason to
// take a node out.
func TestRedisDegraded(t *testing.T) {
	var answers atomic.Bool
	h := newHarness(t, func(cfg *adminapi.Config) { cfg.Redis = answers.Load })
	for _, want := range []string{"ok", "degraded"} {
		answers.Store(want == "ok")
		res := h.call("GET", "/ready", "")
		if res.status != http.StatusOK || string(res.body) != `{"status":"ready","checks":{"database":"ok","redis":"`+want+`"}}` {
			t.Errorf("%d %s", res.status, res.body)
		}
	}
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	res := h.call("GET", "/ready", "")
	if res.status != http.StatusServiceUnavailable || string(res.body) != `{"status":"unavailable","checks":{"database":"unavailable","redis":"degraded"}}` {
		t.Errorf("%d %s", res.status, res.body)
	}
}

func TestDatabaseGone(t *testing.T) {
	h := newHarness(t)
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	if res := h.call("GET", "/ready", ""); res.status != http.StatusServiceUnavailable {
		t.Errorf("/ready: %d", res.status)
	}
	for _, call := range [][3]string{{"GET", "/manage/projects", ""}, {"POST", "/manage/projects", `{"name":"A"}`}} {
		if res := h.call(call[0], call[1], call[2]); res.status < 500 || strings.Contains(string(res.body), "closed") {
			t.Errorf("%v: %d %s", call, res.status, res.body)
		}
	}
}

// TestUnreachable leaves the database unopened and the configuration bare.
func TestUnreachable(t *testing.T) {
	ring, err := secret.NewKeyring(make([]byte, secret.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	db, err := storage.New(storage.Config{Driver: "sqlite", DSN: filepath.Join(t.TempDir(), "never.db"), Keyring: ring})
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{t: t, db: db, doc: loadDocument(t), seen: map[string]bool{}}
	h.api = adminapi.New(adminapi.Config{Store: db, ManagementToken: secret.NewValue(managementToken)})
	for _, call := range [][3]string{{"GET", "/manage/projects", ""}, {"POST", "/manage/projects", `{"name":"A"}`}} {
		h.refused("store_unavailable", "try again", call[0], call[1], call[2])
	}
	if res := h.call("GET", "/ready", ""); res.status != http.StatusServiceUnavailable {
		t.Errorf("/ready: %d", res.status)
	}
	if res := h.call("GET", "/manage/providers", ""); string(res.body) != "[]" {
		t.Errorf("no providers are %s", res.body)
	}
}

func TestClientLeft(t *testing.T) {
	h := newHarness(t)
	left, leave := context.WithCancel(t.Context())
	leave()
	gone := func(r *http.Request) { *r = *r.WithContext(left) }
	h.refused("store_unavailable", "", "POST", "/manage/projects", `{"name":"A"}`, gone)
	h.call("GET", "/ready", "", gone)
	if strings.Contains(h.log.String(), "level=ERROR") {
		t.Errorf("a client that left is logged as our fault:\n%s", h.log)
	}
	if got := must[[]object](h, 200, "GET", "/manage/projects", ""); len(got) != 0 {
		t.Errorf("half a call made %v", got)
	}
}

func TestDefaultClientIP(t *testing.T) {
	h := newHarness(t, func(cfg *adminapi.Config) { cfg.ClientIP = nil })
	for remote, want := range map[string]string{"192.0.2.1:1234": "192.0.2.1", "[2001:db8::1]:1": "2001:db8::1", "@": "@"} {
		must[object](h, 201, "POST", "/manage/projects", `{"name":"`+remote+`"}`, func(r *http.Request) { r.RemoteAddr = remote })
		if got := h.audits()[0].ClientIP; got != want {
			t.Errorf("%s is recorded as %s", remote, got)
		}
	}
}
