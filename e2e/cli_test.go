package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

var cliID = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// TestCLILife goes from an empty directory to a revoked token.
func TestCLILife(t *testing.T) {
	t.Parallel()
	b := newCLIBox(t)
	key := b.ok("keygen")
	if _, err := secret.ParseKey(strings.TrimSpace(key)); err != nil {
		t.Fatal(err)
	}
	b.write("key", b.hide(strings.TrimSpace(key)))
	b.write("Caddyfile", b.caddyfile("encryption_key {file."+b.path("key")+"}"))
	b.fails(1, "does not exist", "migrate", "status")
	if _, err := os.Stat(b.path("data")); err == nil {
		t.Error("migrate status made the data directory")
	}
	b.serve()
	b.hide(b.read("data/management-token"))
	b.write("data/url", b.url+"\n")
	if out := b.ok("migrate", "status"); !strings.Contains(out, "applied") || strings.Contains(out, "pending") {
		t.Errorf("migrate status: %s", out)
	}

	project := cliID.FindString(b.ok("project", "create", "Search", "--allowed-models", "gpt-4o*", "--metadata", "team=search"))
	res := b.run(cliProviderKey+"\n", "key", "add", "Search", "--provider", "openai", "--api-key", "-")
	if res.code != 0 || !strings.Contains(res.out, "…9876") {
		t.Fatalf("key add exits %d: %s%s", res.code, res.out, res.err)
	}
	made := b.run("", "token", "create", "--project", "Search", "--name", "laptop", "--duration", "12h")
	token := b.hide(strings.TrimSpace(made.out))
	if made.code != 0 || strings.Contains(made.out[:len(made.out)-1], "\n") || !strings.Contains(made.err, "only time") || strings.Contains(made.err, token) {
		t.Fatalf("token create exits %d, notice %q", made.code, made.err)
	}
	id := cliID.FindString(b.ok("token", "get", cliID.FindString(made.err)))

	b.env = append(b.env, "LLM_PROXY_TOKEN="+token)
	for _, args := range [][]string{{"chat", "Hello there"}, {"chat", "--no-stream", "--system", "be brief", "--temperature", "0.5", "--max-tokens", "200", "Hello there"}} {
		if out := b.ok(args...); !strings.Contains(out, "Hello there") || !strings.HasSuffix(out, "\n") {
			t.Errorf("%q answers %q", args, out)
		}
	}
	if res := b.run("Hello from a pipe\n", "chat"); res.code != 0 || !strings.Contains(res.out, "Hello from a pipe") {
		t.Errorf("chat from a pipe exits %d: %s%s", res.code, res.out, res.err)
	}
	if !json.Valid([]byte(b.ok("chat", "--json", "Hello"))) {
		t.Error("chat --json prints no JSON")
	}
	b.fails(1, "403 model_not_allowed", "chat", "--model", "o3", "Hello")
	b.fails(2, "nothing to ask", "chat")
	b.mu.Lock()
	if len(b.served) != 4 || slices.ContainsFunc(b.served, func(s string) bool { return s != "Bearer "+cliProviderKey }) {
		t.Errorf("the provider saw %d requests", len(b.served))
	}
	b.mu.Unlock()

	b.ok("token", "create", "--project", project, "--never")
	b.ok("token", "generate", "--project-id", project, "--duration", "1440")
	var list []struct {
		ID        string
		ProjectID string  `json:"project_id"`
		ExpiresAt *string `json:"expires_at"`
	}
	if err := json.Unmarshal([]byte(b.ok("token", "list", "--json", "--project", "Search", "--active")), &list); err != nil || len(list) != 3 || list[0].ProjectID != project || list[1].ExpiresAt != nil {
		t.Errorf("token list: %+v, %v", list, err)
	}
	res = b.run(token, "token", "inspect")
	if res.code != 0 || !strings.Contains(res.out, id) || !strings.Contains(res.out, "valid") {
		t.Errorf("inspect exits %d: %s%s", res.code, res.out, res.err)
	}

	rotated := b.run("", "token", "rotate", id, "--overlap", "10m", "--json")
	var second struct{ ID, Token string }
	if err := json.Unmarshal([]byte(rotated.out), &second); err != nil || rotated.code != 0 || second.ID == id {
		t.Fatalf("rotate exits %d: %s", rotated.code, rotated.err)
	}
	b.hide(second.Token)
	b.ok("chat", "--token", second.Token, "Hello")
	b.ok("chat", "Hello again, within the overlap")

	b.ok("token", "revoke", id, "--reason", "laptop lost")
	b.refuses(b.run("", "chat", "Hello"), 1, "401 token_inactive")
	if res := b.run("", "chat", "Hello"); !strings.Contains(res.err, "(request id ") {
		t.Errorf("no request id in %q", res.err)
	}
	b.ok("project", "deactivate", "Search", "--revoke-tokens")
	b.fails(1, "401 token_inactive", "chat", "--token", second.Token, "Hello")
	b.ok("project", "activate", "Search")
	b.ok("project", "update", "Search", "--name", "Find", "--allowed-models", "", "--use-shared-keys=false")
	if out := b.ok("project", "get", "Find"); strings.Contains(out, "gpt-4o*") || !strings.Contains(out, project) {
		t.Errorf("project get: %s", out)
	}
	b.ok("key", "update", "--project", "Find", "openai", "--weight", "3")
	b.ok("key", "remove", "Find", "openai")
	if out := b.ok("key", "list", "Find", "--json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("key list: %s", out)
	}
	b.fails(1, "token_inactive", "token", "rotate", id)
	b.ok("token", "update", id, "--is-active=true", "--name", "found")
	if out := b.ok("token", "list", "--query", "found", "--limit", "1"); !strings.Contains(out, id) || !strings.Contains(out, "active") {
		t.Errorf("token list: %s", out)
	}
}

// TestCLILimits gives a token limits, uses them, and takes one away.
func TestCLILimits(t *testing.T) {
	t.Parallel()
	b := newCLIBox(t)
	b.write("Caddyfile", b.caddyfile(""))
	b.serve()
	b.hide(b.read("data/management-token"))
	b.write("data/url", b.url+"\n")
	b.ok("project", "create", "Search", "--max-requests", "3", "--provider", "openai", "--api-key", cliProviderKey)
	made := b.run("", "token", "create", "--project", "Search", "--rpm", "2", "--budget-usd", "1.5", "--budget-period", "day")
	if made.code != 0 {
		t.Fatalf("token create exits %d: %s", made.code, made.err)
	}
	id := cliID.FindString(made.err)
	b.env = append(b.env, "LLM_PROXY_TOKEN="+b.hide(strings.TrimSpace(made.out)))
	get := func(what, id string, words ...string) {
		t.Helper()
		out := ""
		cliWait(t, fmt.Sprintf("%s get shows %q", what, words), func() bool {
			out = strings.Join(strings.Fields(b.ok(what, "get", id)), " ")
			return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(out, w) })
		})
	}
	get("token", id, "requests a minute 2", "budget $ 1.5 a day: 0 used, 0 held, 1.5 available, anew at ")
	chat := []string{"chat", "--model", "gpt-4o-mini", "--max-tokens", "50", "Hello"}
	b.ok(chat...)
	b.ok(chat...)
	b.fails(1, "429 rate_limit_exceeded", chat...)
	get("project", "Search", "max requests 3: 2 used, 0 held, 1 available")
	b.ok("token", "update", id, "--rpm", "none")
	b.ok(chat...)
	b.fails(1, "429 quota_exceeded", chat...)
	if out := b.ok("token", "get", id); strings.Contains(out, "requests a minute") || strings.Contains(out, ": 0 used") {
		t.Errorf("token get: %s", out)
	}
	b.ok("project", "update", "Search", "--max-requests", "none")
	b.ok("token", "update", id, "--budget-usd", "0.000000001", "--budget-period", "total")
	b.fails(1, "402 budget_hold_too_large", chat...)
	b.fails(2, "--budget-usd: ", "token", "update", id, "--budget-usd", "-1")
	b.fails(2, "--rpm: expected a whole number", "token", "update", id, "--rpm", "")
	b.fails(2, "--budget-period: expected total", "token", "update", id, "--budget-period", "year")
}

func TestCLIExitCodes(t *testing.T) {
	t.Parallel()
	b := newCLIBox(t)
	const canary = "sk-CANARY-typed-in-the-wrong-place"
	b.hide(canary)
	usage := map[string]string{
		"":                                  "needs a command",
		"usage extra":                       "wrong number of arguments",
		"usage --from never":                "--from: expected a day",
		"usage --csv --json":                "--csv and --json",
		"requests get x":                    "id of a request",
		"requests frob":                     "wrong number of arguments",
		"requests --status":                 "--status needs a value",
		"events":                            "needs a command",
		"events frob":                       "unknown command frob",
		"events replay":                     "--sink is required",
		"events tail x":                     "wrong number of arguments",
		"events dead frob":                  "wrong number of arguments",
		"events dead requeue --sink s":      "--all",
		"events replay --sink s --from now": "--from: expected a day",
		"load --duration 5s":                "unknown command load",
		"cache":                             "needs a command",
		"cache frob":                        "unknown command frob",
		"cache purge":                       "give exactly one of",
		"cache purge --all --model m":       "give exactly one of",
		"cache purge --all --method GET":    "--method goes with --path",
		"cache purge " + canary:             "wrong number of arguments",
		"cache purge --prefix":              "--prefix needs a value",
		"cache purge --all=" + canary:       "--all",
		"cache stats x":                     "wrong number of arguments",
		"backup":                            "wrong number of arguments",
		"restore":                           "wrong number of arguments",
		"copy":                              "--from is required",
		"copy --from a.db":                  "--to is required",
		"copy --from a.db --to " + "mysql://" + canary: "--to: expected",
		"copy --from sqlite://" + canary + " --to b":   "absolute path",
		"token":                                  "needs a command",
		"token frob":                             "unknown command frob",
		canary:                                   "unknown command (not shown)",
		"token list --frob":                      "unknown flag --frob",
		"token list -z" + canary:                 "unknown flag",
		"token list --limit " + canary:           "--limit: the value is not of the right kind",
		"token list --limit":                     "--limit needs a value",
		"token list extra":                       "wrong number of arguments",
		"token get":                              "wrong number of arguments",
		"token get " + canary:                    "token's id",
		"token create":                           "--project is required",
		"token create --project p --duration x":  "--duration",
		"token create --project p --expires-at":  "--expires-at needs a value",
		"token create --project p --project-id":  "--project-id needs a value",
		"project create":                         "wrong number of arguments",
		"project update p":                       "nothing to change",
		"project create p --metadata " + canary:  "--metadata",
		"project create p --provider openai":     "--api-key",
		"key add p --provider openai":            "--api-key is required",
		"key add p --api-key " + canary:          "--provider is required",
		"key add":                                "wrong number of arguments",
		"key remove p":                           "wrong number of arguments",
		"key add p --api-key - --api-key-env X":  "one of",
		"key add p --api-key-env NOBODY_SET_IT":  "not set",
		"token list --url ftp://x":               "--url",
		"chat hello":                             "no client token",
		"chat --token x --model= hello":          "--model",
		"simulate --pace " + canary:              "--pace",
		"simulate --listen 9191":                 "--listen",
		"--json=" + canary + " keygen":           "--json",
		"token list --management-token @missing": "",
	}
	b.env = append(b.env, "MANAGEMENT_TOKEN="+b.hide("mt-CANARY"))
	for line, words := range usage {
		code := 2
		if words == "" {
			code, words = 1, "no such file"
		}
		b.fails(code, words, strings.Fields(line)...)
	}
	b.fails(1, "cannot reach "+b.url, "--url", b.url, "project", "list")
	b.fails(1, "cannot reach "+b.url, "--url", b.url, "cache", "purge", "--all")
	b.fails(1, "does not exist", "migrate", "status", "--config", "nowhere")
	b.fails(1, "not JSON", "migrate", "status", "--config", "/dev/null")
	b.fails(1, "not a UUIDv7", "token", "inspect", "sk-wt-"+strings.Repeat("A", 71))
	for _, args := range [][]string{{"--help"}, {"token", "--help"}, {"token", "create", "--help"}, {"token", "help"}} {
		if out := b.ok(args...); !strings.Contains(out, "Usage:") {
			t.Errorf("%q prints %q", args, out)
		}
	}
}

// TestCLIFindsItsToken tries every place that the management token and the
// address can come from.
func TestCLIFindsItsToken(t *testing.T) {
	t.Parallel()
	b := newCLIBox(t)
	b.write("Caddyfile", b.caddyfile(""))
	b.fails(1, "no management token", "project", "list")
	b.serve()
	token := b.hide(b.read("data/management-token"))
	b.write("elsewhere/config.caddyfile", strings.Replace(b.caddyfile(""), "./data/llm-proxy.db", b.path("data/llm-proxy.db"), 1))
	b.write("token", token)
	list := []string{"project", "list", "--json"}
	for name, change := range map[string]func(*cliBox) []string{
		"working directory": func(*cliBox) []string { return []string{"--url", b.url} },
		"config": func(c *cliBox) []string {
			c.dir = b.path("elsewhere")
			return []string{"--config", "config.caddyfile", "--url", b.url}
		},
		"file": func(c *cliBox) []string {
			c.dir = b.path("elsewhere")
			return []string{"--management-token", "@../token", "--url", b.url}
		},
		"environment": func(c *cliBox) []string {
			c.dir, c.env = b.path("elsewhere"), append(slices.Clone(b.env), "MANAGEMENT_TOKEN="+token, "LLM_PROXY_URL="+b.url)
			return nil
		},
	} {
		c := &cliBox{t: t, dir: b.dir, env: b.env, secret: b.secret}
		if got := strings.TrimSpace(c.ok(append(list, change(c)...)...)); got != "[]" {
			t.Errorf("%s: %s", name, got)
		}
	}
	b.fails(1, "was refused", append(list, "--url", b.url, "--management-token", "mt-other")...)
	c := &cliBox{t: t, dir: b.path("elsewhere"), env: b.env, secret: b.secret}
	c.fails(1, "no management token", append(list, "--url", b.url)...)
}

// TestCLITrustsTheLocalCA talks to a site with a certificate of Caddy's own CA.
func TestCLITrustsTheLocalCA(t *testing.T) {
	t.Parallel()
	b := newCLIBox(t)
	address := fmt.Sprintf("https://localhost:%d", b.port)
	b.write("Caddyfile", strings.NewReplacer(b.url, address, "auto_https off", "auto_https disable_redirects\n\tskip_install_trust").Replace(b.caddyfile("")))
	b.serve()
	b.hide(b.read("data/management-token"))
	b.write("data/url", address)
	b.write("elsewhere/token", b.read("data/management-token"))
	cliWait(t, "the certificate is there", func() bool { return b.run("", "project", "list").code == 0 })
	c := &cliBox{t: t, dir: b.path("elsewhere"), env: b.env, secret: b.secret}
	c.fails(1, "is not trusted", "project", "list", "--url", address, "--management-token", "@token")
	c.ok("project", "list", "--url", address, "--management-token", "@token", "--cacert", b.path("data/caddy/pki/authorities/local/root.crt"))
}

func TestCLISimulate(t *testing.T) {
	t.Parallel()
	for name, sig := range map[string]os.Signal{"interrupt": os.Interrupt, "terminate": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newCLIBox(t)
			b.write("key", cliProviderKey)
			ctx, cancel := context.WithTimeout(t.Context(), cliPatience)
			defer cancel()
			cmd := b.command(ctx, "llm-proxy", "simulate", "--listen", fmt.Sprintf("127.0.0.1:%d", b.port), "--pace", "0", "--first-byte", "1ms", "--key", "@key")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(out)
			first, err := lines.ReadString('\n')
			if err != nil || first != "Provider simulator at "+b.url+"\n" {
				t.Errorf("first line %q, %v", first, err)
			}
			for key, want := range map[string]int{cliProviderKey: 200, "sk-other": 401} {
				r, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+"/v1/models", nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Authorization", "Bearer "+key)
				res, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
				if res.StatusCode != want {
					t.Errorf("%d, want %d", res.StatusCode, want)
				}
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(lines)
			if err != nil || !strings.Contains(string(rest), "curl -N "+b.url) || strings.Contains(string(rest), cliProviderKey) {
				t.Errorf("printed %q, %v", rest, err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("ended with %v", err)
			}
		})
	}
}
