package e2e

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// cliTree lists all files below a directory, with mode and size. SQLite's own
// side files come and go with every reader.
func cliTree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || strings.HasSuffix(path, "-wal") || strings.HasSuffix(path, "-shm") {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		size := info.Size()
		if e.IsDir() {
			size = 0
		}
		fmt.Fprintf(&b, "%s %s %d\n", path, info.Mode(), size)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// expect runs the doctor and looks for one line of its report.
func (b *cliBox) expect(code int, status, name, words string, args ...string) {
	b.t.Helper()
	before := cliTree(b.t, b.dir)
	res := b.run("", append([]string{"doctor"}, args...)...)
	if after := cliTree(b.t, b.dir); after != before {
		b.t.Errorf("the doctor changed files from\n%sto\n%s", before, after)
	}
	if res.code != code {
		b.t.Errorf("doctor exits %d, want %d:\n%s%s", res.code, code, res.out, res.err)
	}
	for line := range strings.Lines(res.out) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == status && f[1] == name && strings.Contains(line, words) {
			return
		}
	}
	b.t.Errorf("no line with %s %s %q in\n%s%s", status, name, words, res.out, res.err)
}

func TestCLIDoctor(t *testing.T) {
	t.Parallel()
	b := newCLIBox(t)
	good := b.caddyfile("")
	b.write("Caddyfile", good)
	b.expect(1, "fail", "database", "does not exist")
	b.expect(1, "warn", "encryption-key", "the first start makes it")
	b.serve()
	b.hide(b.read("data/management-token"))
	b.hide(b.read("data/encryption-key"))
	cliWait(t, "Caddy has tidied its storage, which changes files", func() bool {
		_, err := os.Stat(b.path("data/caddy/last_clean.json"))
		locks, _ := filepath.Glob(b.path("data/caddy/locks/*"))
		return err == nil && len(locks) == 0
	})

	b.expect(0, "ok", "config", "Caddyfile is valid")
	b.expect(0, "ok", "clock", "skipped")
	var report struct {
		OK     bool
		Checks []struct{ Status, Name, Detail string }
	}
	if err := json.Unmarshal([]byte(b.ok("doctor", "--json")), &report); err != nil || !report.OK || len(report.Checks) != 8 {
		t.Errorf("--json: %+v, %v", report, err)
	}
	for _, c := range report.Checks {
		if c.Status != "ok" {
			t.Errorf("%+v", c)
		}
	}

	const canary = "sk-CANARY-in-the-configuration"
	b.hide(canary)
	try := func(config string, code int, status, name, words string) {
		t.Helper()
		b.write("other.caddyfile", config)
		b.expect(code, status, name, words, "--config", "other.caddyfile")
	}
	replace := func(from, to string) string {
		t.Helper()
		if !strings.Contains(good, from) {
			t.Fatalf("no %q in the configuration", from)
		}
		return strings.Replace(good, from, to, 1)
	}
	try(replace("llm_proxy {", "llm_proxy {\n\t\tunknown_option"), 1, "fail", "config", "unknown_option")
	try(replace("llm_proxy {", "llm_proxy {\n\t\tencryption_key {env.NOBODY_SET_IT}"), 1, "fail", "config", "NOBODY_SET_IT")
	try(replace("llm_proxy {", "llm_proxy {\n\t\tencryption_key {env.NOBODY_SET_IT}"), 1, "fail", "encryption-key", "NOBODY_SET_IT")
	try(replace("llm_proxy {", "llm_proxy {\n\t\tmanagement_token {env.NOBODY_SET_IT}"), 1, "fail", "management-token", "NOBODY_SET_IT")
	try(replace("base_url", "api_key "+canary+"\n\t\t\tbase_url"), 0, "warn", "literal-secrets", "llm_proxy > provider openai > api_key")
	try(replace("llm_proxy {", "llm_proxy {\n\t\tmanagement_token "+canary), 0, "warn", "literal-secrets", "llm_proxy > management_token")
	try(replace("./data/llm-proxy.db", "./nowhere/llm-proxy.db"), 1, "fail", "database", "nowhere/llm-proxy.db does not exist")
	try(replace(b.sim.URL, "http://127.0.0.1:1"), 0, "warn", "provider:openai", "does not answer")
	try(replace(b.sim.URL, "http://provider.invalid"), 1, "fail", "provider:openai", "cannot be reached")
	try(replace("\t\t\trequest>headers>X-Goog-Api-Key delete\n", ""), 0, "warn", "access-log:srv0", "(X-Goog-Api-Key)")
	try(replace("delete key", "delete other"), 0, "warn", "access-log:srv0", "(?key=)")
	try(replace("\timport llm_proxy_log\n\tllm_proxy {", "\tllm_proxy {"), 0, "warn", "access-log:srv0", "import llm_proxy_log")

	// A provider with a wrong clock, behind TLS of a CA of its own.
	provider := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
	}))
	provider.Config.ErrorLog = log.New(io.Discard, "", 0) // one handshake shall fail
	provider.StartTLS()
	defer provider.Close()
	b.write("provider.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: provider.Certificate().Raw})))
	b.write("other.caddyfile", replace(b.sim.URL, provider.URL))
	b.expect(0, "warn", "clock", "ahead of 127.0.0.1", "--config", "other.caddyfile", "--cacert", "provider.crt")
	b.expect(0, "warn", "provider:openai", "certificate", "--config", "other.caddyfile")

	for _, name := range []string{"encryption-key", "management-token"} {
		file := b.path("data/" + name)
		if err := os.Chmod(file, 0o644); err != nil {
			t.Fatal(err)
		}
		b.expect(1, "fail", name, "run chmod 600")
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file, file+".away"); err != nil {
			t.Fatal(err)
		}
		b.expect(1, "fail", name, "does not exist")
		if err := os.Rename(file+".away", file); err != nil {
			t.Fatal(err)
		}
	}
	b.write("empty.db", "")
	try(replace("./data/llm-proxy.db", "./empty.db"), 1, "fail", "database", "pending")
	b.expect(1, "fail", "config", "does not exist", "--config", "nowhere")
}
