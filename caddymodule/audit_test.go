package caddymodule

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// manage makes a call to the management API and returns its status.
func manage(t *testing.T, token, method, path, body string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, baseURL(t)+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// TestAuditFile follows the file through reloads, one of which fails, to the end
// of the process, when refusals that still wait are written too.
func TestAuditFile(t *testing.T) {
	const token = "management-token-of-the-test"
	dir := t.TempDir()
	app := func(file string) object {
		a := sqliteApp(dir)
		if file != "" {
			a["audit"] = object{"file": filepath.Join(dir, "logs", file)}
		}
		return a
	}
	admin := object{"handler": "llm_proxy_admin"}
	lines := func(file string) int {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, "logs", file))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), token) || strings.Contains(string(text), "CANARY") {
			t.Errorf("%s holds a secret: %s", file, text)
		}
		return bytes.Count(text, []byte("\n"))
	}
	create := func(name string) {
		t.Helper()
		if status := manage(t, token, "POST", "/manage/projects", `{"name":"`+name+`","api_key":"CANARY-key"}`); status != http.StatusCreated {
			t.Fatalf("creating %s: %d", name, status)
		}
	}
	load(t, site(app("a.jsonl"), admin))
	create("one")
	if n := lines("a.jsonl"); n != 1 {
		t.Errorf("%d lines after one change", n)
	}
	same := site(app("a.jsonl"), admin, object{"handler": "static_response"})
	if err := reload(same); err != nil {
		t.Fatal(err)
	}
	create("two")
	broken := app("a.jsonl/below-a-file")
	if err := reload(site(broken, admin)); err == nil || !strings.Contains(err.Error(), "llm_proxy > audit > file") {
		t.Errorf("a file below a file: %v", err)
	}
	create("three")
	if n := lines("a.jsonl"); n != 3 {
		t.Errorf("%d lines after three changes", n)
	}
	if err := reload(site(app("b.jsonl"), admin)); err != nil {
		t.Fatal(err)
	}
	create("four")
	if status := manage(t, "CANARY-wrong", "POST", "/manage/CANARY", ""); status != http.StatusUnauthorized {
		t.Errorf("a stranger: %d", status)
	}
	if status := manage(t, token, "POST", "/manage/projects", `{"name":"one"}`); status != http.StatusConflict {
		t.Errorf("a name twice: %d", status)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	if a, b := lines("a.jsonl"), lines("b.jsonl"); a != 3 || b != 3 {
		t.Errorf("%d and %d lines at the end, want 3 and 3", a, b)
	}
}

func TestAuditOptions(t *testing.T) {
	for _, bad := range []object{
		{"retention": -1},
		{"file": "{env.LLM_PROXY_TEST_UNSET}"},
	} {
		a := sqliteApp(t.TempDir())
		a["audit"] = bad
		if err := reload(site(a, object{"handler": "llm_proxy_admin"})); err == nil || !strings.Contains(err.Error(), "llm_proxy > audit > ") {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// TestChores runs what housekeeping would, with the ages of the configuration.
func TestChores(t *testing.T) {
	a := sqliteApp(t.TempDir())
	a["audit"] = object{"retention": int64(time.Hour)}
	load(t, site(a, object{"handler": "llm_proxy_admin"}))
	db := activeApp(t).runtime.db
	store := db.store.Load()
	c := enrol(t, store, "openai", project.Policy{})
	err := store.Update(t.Context(), func(tx *storage.Tx) error {
		tok, err := tx.Token(t.Context(), c.token)
		if err != nil {
			return err
		}
		past := tx.Now().Add(-deadTokenGrace - time.Minute)
		tok.ExpiresAt = &past
		return tx.UpdateToken(t.Context(), tok)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, job := range db.chores() {
		n, err := job.Delete(t.Context(), job.Age, 10)
		if err != nil || n != map[string]int64{"expired and revoked tokens": 1, "audit": 0}[job.Name] || job.Name == "audit" && job.Age != time.Hour {
			t.Errorf("%s older than %s: %d deleted, error %v", job.Name, job.Age, n, err)
		}
	}
}

// TestDeniedRequestsAreAudited: what policy refuses is counted, and written at the
// latest when the database is let go.
func TestDeniedRequestsAreAudited(t *testing.T) {
	dir := t.TempDir()
	a := sqliteApp(dir)
	file := filepath.Join(dir, "audit.jsonl")
	a["audit"] = object{"file": file}
	load(t, site(a, object{"handler": "llm_proxy"}))
	c := enrol(t, activeApp(t).runtime.db.store.Load(), "openai", project.Policy{AllowedModels: []string{"other"}})
	for range 3 {
		if status := manage(t, c.text, http.MethodPost, "/v1/chat/completions", `{"model":"m"}`); status != http.StatusForbidden {
			t.Errorf("status %d", status)
		}
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var denied int64
	for line := range strings.Lines(string(text)) {
		var e audit.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Action == audit.ProxyDenied && e.Reason == "model_not_allowed" && *e.TokenID == c.token && *e.ProjectID == c.project && e.ClientIP == "127.0.0.1" {
			denied += e.Occurrences // two rows if a minute ended in between
		}
	}
	if denied != 3 {
		t.Errorf("%d refusals in %s", denied, text)
	}
}
