package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
	"github.com/sofatutor/caddy-llm-proxy/internal/testnet"
)

// TestSites puts the two directives where people put them.
func TestSites(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, against(sim))
	a := p.account(t)
	if err := os.WriteFile(filepath.Join(p.dir, "hello.txt"), []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	const ok, none, next = http.StatusOK, http.StatusNotFound, http.StatusTeapot
	for _, c := range []struct {
		name, routes string
		want         map[string]int // status by path, asked for with the token
	}{
		{"data path last", "llm_proxy_admin\nllm_proxy", map[string]int{"/v1/models": ok, "/ready": ok, "/manage/projects": 401, "/elsewhere": ok}},
		{"data path first", "llm_proxy\nllm_proxy_admin", map[string]int{"/v1/models": ok, "/ready": ok, "/manage/projects": 401, "/elsewhere": ok}},
		{"matcher", "llm_proxy_admin\nllm_proxy /v1/* {\nprovider openai\n}", map[string]int{"/v1/models": ok, "/ready": ok, "/openai/models": ok}},
		{"named matcher", "@inside remote_ip 127.0.0.1\nllm_proxy_admin @inside\nllm_proxy @inside", map[string]int{"/v1/models": ok, "/ready": ok}},
		{"handle", "handle {\nllm_proxy_admin\nllm_proxy\n}", map[string]int{"/v1/models": ok, "/ready": ok}},
		{"two handles", "handle /v1/* {\nllm_proxy\n}\nhandle {\nllm_proxy_admin\n}", map[string]int{"/v1/models": ok, "/ready": ok, "/manage/projects": 401}},
		{"route", "route {\nllm_proxy_admin\nllm_proxy\nrespond 418\n}", map[string]int{"/v1/models": ok, "/ready": ok, "/elsewhere": next, "/v1/nothing": none}},
		{"fallback in handle", "handle /v1/* {\nllm_proxy\n}\nllm_proxy_admin\nhandle {\nllm_proxy_admin\nrespond 418\n}", map[string]int{"/v1/models": ok, "/elsewhere": next}},
		{"respond with a path", "llm_proxy_admin\nllm_proxy\nrespond /elsewhere 418", map[string]int{"/v1/models": ok, "/ready": ok, "/elsewhere": next}},
		{"respond as a ban", "llm_proxy_admin\nllm_proxy\n@banned path /v1/models\nrespond @banned 418", map[string]int{"/v1/models": next, "/v1/files": ok, "/ready": ok}},
		{"files", "llm_proxy_admin\nllm_proxy\nroot {dir}\nfile_server", map[string]int{"/v1/models": ok, "/ready": ok, "/hello.txt": ok, "/nothing.txt": none}},
		{"reverse_proxy", "llm_proxy_admin\nllm_proxy\nreverse_proxy " + strings.TrimPrefix(sim.url, "http://"), map[string]int{"/v1/models": ok, "/sim/stats": ok}},
		{"handle_path", "handle_path /llm/* {\nllm_proxy\n}\nllm_proxy_admin", map[string]int{"/llm/v1/models": ok, "/ready": ok, "/llm/openai/models": ok}},
		{"encode", "encode\nllm_proxy_admin\nllm_proxy", map[string]int{"/v1/models": ok, "/ready": ok}},
		{"basic_auth on the management side", "basic_auth /manage/* {\nu $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG\n}\nllm_proxy_admin\nllm_proxy",
			map[string]int{"/v1/models": ok, "/manage/projects": 401}},
		{"only the data path", "llm_proxy", map[string]int{"/v1/models": ok, "/manage/projects": ok}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := against(sim)
			s.routes = c.routes
			p.reload(s)
			for path, status := range c.want {
				got := p.do(t, request{path: path, token: a.token, proto: h2})
				if got.status != status || got.err != nil {
					t.Errorf("%s: %d, want %d: %s", path, got.status, status, got.body)
				}
				if path == "/v1/models" && status == ok && !strings.Contains(got.body, `"object":"list"`) {
					t.Errorf("%s: %q", path, got.body)
				}
				if c.name == "only the data path" && path == "/manage/projects" && got.body != "" {
					t.Errorf("%s: %q", path, got.body)
				}
			}
		})
	}
}

// TestTwoSites serves two sites from one process, with rules of their own and
// tokens in common.
func TestTwoSites(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	second := testnet.Port(t)
	s := against(sim)
	s.routes = fmt.Sprintf("llm_proxy_admin\nllm_proxy\n}\nhttps://localhost:%d {\nbind 127.0.0.1\nllm_proxy {\nprovider anthropic\nmax_body 1KiB\n}", second)
	p := start(t, s)
	a := p.account(t)
	other := &proxy{t: t, url: fmt.Sprintf("https://localhost:%d", second), port: second, roots: p.roots}
	if got := p.do(t, chat(a.token, "m", false)); got.status != http.StatusOK {
		t.Errorf("first site: %d %s", got.status, got.body)
	}
	message := request{path: "/v1/messages", token: a.token, body: messagesBody("m", false), header: http.Header{"Anthropic-Version": {"2023-06-01"}}}
	if got := other.do(t, message); got.status != http.StatusOK {
		t.Errorf("second site: %d %s", got.status, got.body)
	}
	anthropicDialect.refused(t, p.do(t, message), http.StatusNotFound, "endpoint_not_found")
	anthropicDialect.refused(t, other.do(t, request{path: "/v1/messages", token: a.token, body: strings.Repeat(" ", 2000)}), 413, "request_too_large")
	a.revoke(t)
	anthropicDialect.refused(t, other.do(t, message), http.StatusUnauthorized, "token_inactive")
}

// bare is a site without a global block, as in the shortest of tutorials.
const bare = "{\n\tadmin 127.0.0.1:{admin}\n\tskip_install_trust\n\tauto_https disable_redirects\n}\n" +
	"https://localhost:{https} {\n\tbind 127.0.0.1\n\tllm_proxy_admin\n\tllm_proxy\n}\n"

// TestDefaults starts with nothing configured, twice over the same data.
func TestDefaults(t *testing.T) {
	t.Parallel()
	p := start(t, site{caddyfile: bare}, "MANAGEMENT_TOKEN=")
	data := filepath.Join(p.dir, "share", "caddy", "llm_proxy")
	secret, err := os.ReadFile(filepath.Join(data, "management-token"))
	if err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(string(secret))
	for _, name := range []string{"management-token", "encryption-key", "llm-proxy.db"} {
		info, err := os.Stat(filepath.Join(data, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	eventually(t, "the first start shows the management token", func() bool { return p.output.contains(token) })
	if n := strings.Count(p.output.String(), token); n != 1 || len(token) < 20 {
		t.Errorf("the first start shows the management token %d times", n)
	}
	for line := range strings.Lines(p.output.String()) {
		if strings.HasPrefix(line, "{") && strings.Contains(line, token) {
			t.Errorf("the log has the management token: %s", line)
		}
	}
	got := p.do(t, request{path: "/manage/projects", token: token, body: `{"name":"first"}`})
	if got.status != http.StatusCreated {
		t.Fatalf("%d %s", got.status, got.body)
	}
	for path, status := range map[string]int{"/v1/models": 401, "/anthropic/v1/models": 200, "/elsewhere": 200} {
		if got := p.do(t, request{path: path}); got.status != status {
			t.Errorf("%s: %d, want %d: %s", path, got.status, status, got.body)
		}
	}
	p.stop()

	again := &proxy{t: t, dir: p.dir, url: p.url, port: p.port, adminPort: p.adminPort, output: new(transcript), exited: make(chan struct{}), roots: p.roots}
	again.cmd = again.command("run", "--config", p.caddyfile())
	again.cmd.Env = append(again.cmd.Env, "MANAGEMENT_TOKEN=")
	again.cmd.Stdout, again.cmd.Stderr = again.output, again.output
	if err := again.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { again.exitErr = again.cmd.Wait(); close(again.exited) }()
	t.Cleanup(again.stop)
	again.await()
	if got := again.do(t, request{path: "/manage/projects", token: token}); got.status != http.StatusOK || !strings.Contains(got.body, "first") {
		t.Errorf("the second start: %d %s", got.status, got.body)
	}
	if again.output.contains(token) {
		t.Error("the second start shows the management token")
	}
}
