package caddymodule

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// adminSocket is a client of Caddy's admin endpoint.
type adminSocket struct {
	t    *testing.T
	path string
}

func (s *adminSocket) call(method, path, body string, header ...string) (int, object) {
	s.t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", s.path)
	}}
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	var answer object
	if err := json.Unmarshal(text, &answer); err != nil {
		s.t.Fatalf("%s %s: %d %s: %v", method, path, resp.StatusCode, text, err)
	}
	return resp.StatusCode, answer
}

// TestLocalAPI is what Caddy's admin endpoint offers.
func TestLocalAPI(t *testing.T) {
	dir := t.TempDir()
	socket := &adminSocket{t, filepath.Join(dir, "admin.sock")}
	listening := func(cfg object) object {
		cfg["admin"] = object{"listen": "unix/" + socket.path, "config": object{"persist": false}}
		return cfg
	}
	load(t, listening(site(sqliteApp(dir), object{"handler": "llm_proxy", "cache": object{}})))
	defer func() { // its server outlives the configuration otherwise
		if err := reload(site(sqliteApp(dir), proxyConfig())); err != nil {
			t.Error(err)
		}
	}()

	if status, answer := socket.call("GET", "/llm_proxy/health", ""); status != 200 || answer["status"] != "ready" {
		t.Errorf("health: %d %v", status, answer)
	}
	if status, _ := socket.call("POST", "/llm_proxy/health", ""); status != 405 {
		t.Errorf("POST health: %d", status)
	}
	app := activeApp(t)
	keep(t, app.runtime.cache, "/v1/a")
	keep(t, app.runtime.cache, "/v1/b")
	if status, answer := socket.call("POST", "/llm_proxy/cache/purge", `{"prefix":"/v1/a"}`); status != 200 || answer["deleted"] != 1.0 {
		t.Errorf("purge: %d %v", status, answer)
	}
	if kept(t, app.runtime.cache, "/v1/a") || !kept(t, app.runtime.cache, "/v1/b") {
		t.Error("the wrong answer is gone")
	}
	for _, refused := range []struct {
		status             int
		method, path, body string
		header             []string
	}{
		{405, "GET", "/llm_proxy/cache/purge", "", nil},
		{400, "POST", "/llm_proxy/cache/purge", "{}", nil},
		{400, "POST", "/llm_proxy/cache/purge", `{"all":true}`, []string{"Content-Type", "text/plain"}},
		{403, "POST", "/llm_proxy/cache/purge", `{"all":true}`, []string{"Origin", "https://evil.example"}}, // Caddy's own
	} {
		if status, answer := socket.call(refused.method, refused.path, refused.body, refused.header...); status != refused.status || answer["error"] == nil {
			t.Errorf("%+v: %d %v", refused, status, answer)
		}
	}
	if !kept(t, app.runtime.cache, "/v1/b") {
		t.Error("a refused purge purges")
	}
	entries, err := app.runtime.db.store.Load().AuditEntries(t.Context(), storage.AuditFilter{Action: "cache.purge"})
	if err != nil || len(entries) == 0 {
		t.Fatalf("%d records, %v", len(entries), err)
	}
	if e := entries[len(entries)-1]; e.Actor != "admin_endpoint" || e.Outcome != "success" || e.Path != "/llm_proxy/cache/purge" || e.Method != "POST" {
		t.Errorf("%+v", e)
	}

	// Without a database to record it, a purge is done all the same.
	if err := app.runtime.db.store.Load().Close(); err != nil {
		t.Fatal(err)
	}
	if status, answer := socket.call("GET", "/llm_proxy/health", ""); status != 503 || answer["status"] != "unavailable" {
		t.Errorf("health without a database: %d %v", status, answer)
	}
	if status, _ := socket.call("POST", "/llm_proxy/cache/purge", `{"all":true}`); status < 500 || kept(t, app.runtime.cache, "/v1/b") {
		t.Errorf("purge without a database: %d", status)
	}

	// A configuration without the app, and none at all.
	if err := reload(listening(object{"logging": object{"logs": object{"default": object{"writer": object{"output": "discard"}}}}})); err != nil {
		t.Fatal(err)
	}
	if status, answer := socket.call("GET", "/llm_proxy/health", ""); status != 404 {
		t.Errorf("health of another configuration: %d %v", status, answer)
	}
	if status, answer := socket.call("POST", "/llm_proxy/cache/purge", `{"all":true}`); status != 404 {
		t.Errorf("purge of another configuration: %d %v", status, answer)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	if status, _ := socket.call("GET", "/llm_proxy/health", ""); status != 404 {
		t.Errorf("health of nothing: %d", status)
	}
}
