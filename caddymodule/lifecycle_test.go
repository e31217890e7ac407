package caddymodule

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/goleak"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "caddy-llm-proxy-test-")
	if err != nil {
		panic(err)
	}
	caddyStorage = dir
	goleak.VerifyTestMain(testdb.Main(m),
		goleak.Cleanup(func(code int) {
			_ = os.RemoveAll(dir)
			os.Exit(code)
		}),
		// Caddy's own, one each for the life of the process.
		goleak.IgnoreAnyFunction("github.com/caddyserver/caddy/v2.trapSignalsCrossPlatform.func1"),
		goleak.IgnoreAnyFunction("github.com/golang/glog.(*fileSink).flushDaemon"),
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.(*Cache).maintainAssets"),
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"), // ends some seconds after its lock is gone
	)
}

// gateProvider answers when it is told to.
type gateProvider struct {
	*httptest.Server
	arrived chan struct{}
	release chan struct{}
	once    sync.Once
}

func newGateProvider(t *testing.T) *gateProvider {
	p := &gateProvider{arrived: make(chan struct{}, 16), release: make(chan struct{})}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: first\n\n")
		_ = http.NewResponseController(w).Flush()
		p.arrived <- struct{}{}
		select {
		case <-p.release:
		case <-r.Context().Done():
			return
		}
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	}))
	t.Cleanup(func() {
		p.open()
		p.Close()
	})
	return p
}

func (p *gateProvider) open() { p.once.Do(func() { close(p.release) }) }

func withProvider(app object, url string) object {
	app["providers"] = object{"openai": object{"base_url": url + "/v1"}}
	return app
}

// stream begins a streamed completion and returns it after its first frame.
func stream(t *testing.T, url, token string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/chat/completions", strings.NewReader(`{"model":"m","stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("status %d: %s", resp.StatusCode, body)
	}
	return resp
}

func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
		<-tick.C
	}
}

// TestReload: a stream that is under way ends intact, whatever the reload
// changes; what it used is kept exactly as long as it runs.
func TestReload(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	for _, tc := range []struct {
		name     string
		next     func(url string) object
		fails    string // substring of the reload's error
		sameBase bool   // the database is kept
	}{
		{"same", func(url string) object { return site(withProvider(sqliteApp(dir), url), proxyConfig()) }, "", true},
		{"changed handler", func(url string) object {
			return site(withProvider(sqliteApp(dir), url), object{"handler": "llm_proxy", "max_body": 1000})
		}, "", true},
		{"changed database", func(url string) object { return site(withProvider(sqliteApp(other), url), proxyConfig()) }, "", false},
		{"handler removed", func(string) object { return site(sqliteApp(other), noopConfig()) }, "", false},
		{"failing provision", func(string) object {
			app := sqliteApp(dir)
			app["providers"] = object{"openai": object{"base_url": "nonsense"}}
			return site(app, proxyConfig())
		}, "llm_proxy > provider openai > base_url", true},
		{"failing start", func(url string) object {
			app := withProvider(sqliteApp(dir), url)
			app["database"] = object{"driver": "sqlite", "dsn": filepath.Join(notADatabase(t), "llm-proxy.db")}
			return site(app, proxyConfig())
		}, "llm_proxy > database", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			upstream := newGateProvider(t)
			load(t, site(withProvider(sqliteApp(dir), upstream.URL), proxyConfig()))
			db := activeApp(t).runtime.db
			c := enrol(t, db.store.Load(), "openai", project.Policy{})
			resp := stream(t, baseURL(t), c.text)
			defer resp.Body.Close()
			<-upstream.arrived

			err := reload(tc.next(upstream.URL))
			switch {
			case tc.fails == "" && err != nil:
				t.Fatal(err)
			case tc.fails != "" && (err == nil || !strings.Contains(err.Error(), tc.fails)):
				t.Fatalf("reload error %v, want one with %q", err, tc.fails)
			}
			if err := db.store.Load().Ping(t.Context()); err != nil {
				t.Fatalf("the database of a running request was closed: %v", err)
			}
			if tc.sameBase && activeApp(t).runtime.db != db {
				t.Error("the database was opened anew")
			}
			upstream.open()
			body, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.HasSuffix(body, []byte("data: [DONE]\n\n")) {
				t.Fatalf("the stream ended with %q, error %v", body, err)
			}
			if !tc.sameBase {
				waitFor(t, "closing the database that nobody uses", func() bool { return db.store.Load().Ping(t.Context()) != nil })
			}
		})
	}
	waitFor(t, "giving every shared resource back", func() bool {
		var held int
		shared.Range(func(any, any) bool { held++; return true })
		return held == 0
	})
}

// notADatabase is a directory with a file that is no SQLite database.
func notADatabase(t *testing.T) string {
	dir := t.TempDir()
	for name, text := range map[string]string{"llm-proxy.db": strings.Repeat("not a database ", 1000), encryptionKeyName: "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestValidateHasNoEffect: caddy validate provisions, and must leave nothing behind.
func TestValidateHasNoEffect(t *testing.T) {
	dir := t.TempDir()
	data, err := json.Marshal(site(sqliteApp(dir), object{"handler": "llm_proxy_admin"}, proxyConfig()))
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
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Fatalf("left behind: %v, error %v", entries, err)
	}
}

// TestDatabaseAway: at the first start the process comes up without its
// database, says so, and serves as soon as it is there.
func TestDatabaseAway(t *testing.T) {
	served.Store(false)
	t.Cleanup(func() { served.Store(false) })
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file where the directory should be
		t.Fatal(err)
	}
	app := sqliteApp(dir)
	app["encryption_keys"] = []string{"q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s="}
	load(t, site(app, object{"handler": "llm_proxy_admin"}, proxyConfig()))

	status := func(path string) (int, http.Header, string) {
		resp, err := http.Get(baseURL(t) + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header, string(body)
	}
	for path, want := range map[string]string{"/v1/models": `"code":"starting"`, "/ready": "unavailable", "/manage/projects": "error"} {
		code, header, body := status(path)
		if path == "/manage/projects" { // not authorised: that is checked first
			if code != http.StatusUnauthorized {
				t.Errorf("%s: %d %s", path, code, body)
			}
			continue
		}
		if code != http.StatusServiceUnavailable || !strings.Contains(body, want) || header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %v %s", path, code, header, body)
		}
	}
	if code, _, body := status("/live"); code != http.StatusOK {
		t.Errorf("/live: %d %s", code, body)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "serving once the database is there", func() bool { code, _, _ := status("/ready"); return code == http.StatusOK })
	http.DefaultClient.CloseIdleConnections()
}

// TestMissingEncryptionKey: a database whose key file is gone is not given a new key.
func TestMissingEncryptionKey(t *testing.T) {
	dir := t.TempDir()
	cfg := site(sqliteApp(dir), proxyConfig())
	load(t, cfg)
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, encryptionKeyName)); err != nil {
		t.Fatal(err)
	}
	err := reload(cfg)
	if err == nil || !strings.Contains(err.Error(), "put the file back") {
		t.Fatalf("error %v, want one that says what to do", err)
	}
	if _, err := os.Stat(filepath.Join(dir, encryptionKeyName)); err == nil {
		t.Fatal("a new key was made for an old database")
	}
}

// TestSecretFiles: what is made beside the database is for its owner alone, and
// two starters agree on one value.
func TestSecretFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	values := make([]string, 8)
	var wg sync.WaitGroup
	for i := range values {
		wg.Go(func() {
			v, err := managementTokenFile(dir)
			if err != nil {
				t.Error(err)
			}
			values[i] = v.Reveal()
		})
	}
	wg.Wait()
	for _, v := range values {
		if v != values[0] || len(v) < 20 {
			t.Fatalf("starters disagree: %d and %d characters", len(v), len(values[0]))
		}
	}
	info, err := os.Stat(filepath.Join(dir, managementTokenName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, error %v", info.Mode(), err)
	}
}
