package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// shellBlocks are the commands of README.md, block by block.
func shellBlocks(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, m := range shellBlock.FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// exampleSite starts the example configuration as make run does, in a
// directory of its own, with the simulator in place of the providers.
func exampleSite(t *testing.T, sim *provider) *proxy {
	t.Helper()
	text, err := os.ReadFile("../Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	config := strings.Replace(string(text), "admin localhost:2019", "admin off", 1)
	config = strings.Replace(config, "\t\tprovider openai\n", "\t\tprovider openai {\n\t\t\tbase_url "+sim.url+"/v1\n\t\t}\n", 1)
	config = strings.Replace(config, "\t\tprovider anthropic\n", "\t\tprovider anthropic {\n\t\t\tbase_url "+sim.url+"/v1\n\t\t}\n", 1)
	if strings.Count(config, sim.url) != 2 || !strings.Contains(config, "admin off") {
		t.Fatal("Caddyfile.example is not what this test expects")
	}
	p := prepare(t)
	if err := os.WriteFile(p.caddyfile(), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p.storage = filepath.Join(p.dir, "data", "caddy")
	p.run(fmt.Sprintf("LLM_PROXY_SITE=localhost:%d", p.port), "MANAGEMENT_TOKEN=")
	p.await()
	for link, target := range map[string]string{"bin/caddy": binary} {
		path := filepath.Join(p.dir, link)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// TestReadme runs what README.md tells a new user to type.
func TestReadme(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := exampleSite(t, sim)
	if err := os.WriteFile(filepath.Join(p.dir, "data", "url"), []byte(p.url+"\n"), 0o600); err != nil { // as make run does
		t.Fatal(err)
	}
	eventually(t, "the first start shows a management token", func() bool { return p.output.contains("Management token (kept in ") })
	token, id := "", ""
	shell := func(script string) string {
		t.Helper()
		script = strings.NewReplacer("localhost:8443", fmt.Sprintf("localhost:%d", p.port), "sk-wt-…", token, "TOKEN_ID", id).Replace(script)
		cmd := exec.CommandContext(bounded(t), "bash", "-euo", "pipefail", "-c", "caddy=bin/caddy\n"+script)
		cmd.Dir = p.dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "NO_PROXY=*", "OPENAI_API_KEY=sk-provider-openai-0001", "ANTHROPIC_API_KEY=sk-provider-anthropic-01"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, script, out)
		}
		return string(out)
	}
	var ran int
	for _, block := range shellBlocks(t) {
		switch {
		case strings.Contains(block, "project create"):
			out := shell(block)
			token = regexp.MustCompile(`sk-wt-[A-Za-z0-9_-]{71}`).FindString(out)
			if token == "" {
				t.Fatalf("no token in\n%s", out)
			}
		case strings.Contains(block, "curl"):
			if out := shell(block); !strings.Contains(out, "data: [DONE]") {
				t.Errorf("no complete stream in\n%s", out)
			}
		case strings.Contains(block, "llm-proxy usage"):
			var out string
			eventually(t, "the request is in the log", func() bool {
				out = shell(block)
				return strings.Contains(out, "gpt-4o-mini") && strings.Contains(out, "ok")
			})
			if !strings.Contains(out, "my-team") || !strings.Contains(out, "COST $") {
				t.Errorf("usage and requests show\n%s", out)
			}
		case strings.Contains(block, "--budget-usd"):
			id = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`).FindString(shell("bin/caddy llm-proxy token list --json"))
			shell(block)
			if got := p.do(t, chat(token, "gpt-4o-mini", false)); got.header.Get("X-Ratelimit-Limit-Requests") != "60" {
				t.Errorf("after %s: %d %v", block, got.status, got.header)
			}
		case strings.Contains(block, "token revoke"):
			id = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`).FindString(shell("bin/caddy llm-proxy token list --json"))
			shell(block)
			if got := p.do(t, chat(token, "gpt-4o-mini", false)); got.status != 401 || !strings.Contains(got.body, "token_inactive") {
				t.Errorf("the revoked token: %d %s", got.status, got.body)
			}
		case strings.Contains(block, "xcaddy"), strings.HasPrefix(block, "make "):
			continue // TestMakeTargets, and caddymodule's test of xcaddy.json
		default:
			t.Errorf("no test runs this block of README.md:\n%s", block)
		}
		ran++
	}
	if ran < 3 {
		t.Errorf("only %d blocks ran", ran)
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	inline := regexp.MustCompile("after `(printf [^`]*)`").FindStringSubmatch(string(readme))
	if inline == nil {
		t.Fatal("README.md does not say how to add a second provider's key")
	}
	shell(inline[1])
	if n := strings.Count(shell("bin/caddy llm-proxy key list --project my-team"), "\n"); n < 2 {
		t.Errorf("key list shows %d lines", n)
	}
}

// TestMakeTargets: every make command in the documents exists, and make run
// runs what TestReadme runs.
func TestMakeTargets(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(makefile), "bin/caddy run --config Caddyfile.example") {
		t.Error("make run does not run Caddyfile.example")
	}
	documents, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	mention := regexp.MustCompile("(?m)(?:^|`)make ([a-z-]+)")
	var targets []string
	for _, document := range append(documents, "../README.md", "../AGENTS.md", "../CONTRIBUTING.md") {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mention.FindAllStringSubmatch(string(text), -1) {
			if !slices.Contains(targets, m[1]) {
				targets = append(targets, m[1])
			}
			if !regexp.MustCompile("(?m)^" + m[1] + ":").Match(makefile) {
				t.Errorf("%s mentions make %s, which does not exist", document, m[1])
			}
		}
	}
	if len(targets) < 5 {
		t.Errorf("found only the targets %v", targets)
	}
}

// TestDemo runs make demo's script.
func TestDemo(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(bounded(t), "bash", "../deploy/demo.sh")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "CADDY=" + binary, "NO_PROXY=*"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"data: {", "fwd=uri-miss; stored", "hit; ttl=", `"budget_usd":{"limit":"0.5"`, "token_inactive", "That was the main job"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the demo does not show %q:\n%s", want, out)
		}
	}
}
