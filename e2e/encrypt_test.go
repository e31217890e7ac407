package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

var anyBlock = regexp.MustCompile("(?s)```(sh|caddyfile)\n(.*?)```")

// section is the code of one section of a document, block by block.
func section(t *testing.T, document, title string) (blocks [][2]string) {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n## "+title+"\n")
	if !found {
		t.Fatalf("%s has no section %q", document, title)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	for _, m := range anyBlock.FindAllStringSubmatch(rest, -1) {
		blocks = append(blocks, [2]string{m[1], m[2]})
	}
	return blocks
}

// load asks without pause until the test ends, on connections that stay and on
// new ones, with tokens that are known and, all the time, with new ones.
type load struct {
	served    atomic.Int64
	reloading atomic.Bool // a listener that is closed resets whom it has not accepted yet
	stop      func()
}

func (p *proxy) serveOn(t *testing.T, a *account) *load {
	t.Helper()
	l := new(load)
	ctx, cancel := context.WithCancel(bounded(t))
	var work sync.WaitGroup
	for _, proto := range []protocol{h1, h2} {
		work.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				got, err := p.fresh(t, proto, chat(a.token, "m", n%2 == 0))
				switch {
				case err != nil && l.reloading.Load():
				case err != nil || got.status != http.StatusOK:
					t.Errorf("a request: %d %s %v", got.status, got.body, err)
				default:
					l.served.Add(1)
				}
			}
		})
	}
	l.stop = sync.OnceFunc(func() { cancel(); work.Wait() })
	t.Cleanup(l.stop)
	return l
}

// goesOn waits for further requests to be served.
func (l *load) goesOn(t *testing.T) {
	t.Helper()
	before := l.served.Load()
	eventually(t, "requests are served", func() bool { return l.served.Load() >= before+5 })
}

// TestRotateEncryptionKey does what docs/operating.md says, under load.
func TestRotateEncryptionKey(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	s := against(sim)
	s.database = ownSQLite // whose first key is a file beside it
	p := start(t, s)
	a := p.account(t)
	var others []*account
	for range 30 {
		others = append(others, p.account(t))
	}
	if err := os.MkdirAll(filepath.Join(p.dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary, filepath.Join(p.dir, "bin", "caddy")); err != nil {
		t.Fatal(err)
	}
	shell := func(script string) (string, error) {
		cmd := exec.CommandContext(bounded(t), "bash", "-euo", "pipefail", "-c", script)
		cmd.Dir = p.dir
		cmd.Env = append(p.command().Env, "PATH="+filepath.Join(p.dir, "bin")+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if strings.Contains(string(out), "sk-provider-") {
			t.Errorf("a secret is shown:\n%s", out)
		}
		return string(out), err
	}
	must := func(script string) string {
		t.Helper()
		out, err := shell(script)
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, script, out)
		}
		return out
	}
	keys := func() map[string]int {
		t.Helper()
		var status struct {
			Keys []struct {
				State string
				Rows  int
			}
		}
		out := must("caddy llm-proxy encrypt status --json")
		if err := json.Unmarshal([]byte(out), &status); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		rows := make(map[string]int)
		for _, k := range status.Keys {
			rows[k.State] += k.Rows
		}
		return rows
	}
	rows := keys()["current"] // under the key that was made with the database
	if rows < 1+3*len(others) {
		t.Errorf("%d sealed rows", rows)
	}

	l := p.serveOn(t, a)
	l.goesOn(t)
	configs, scripts := 0, 0
	for _, block := range section(t, "../docs/operating.md", "Rotating the encryption key") {
		kind, text := block[0], block[1]
		if kind == "caddyfile" {
			configs++
			s.app = text
			p.write(s)
			continue
		}
		scripts++
		for line := range strings.Lines(strings.TrimSpace(text)) {
			l.reloading.Store(strings.Contains(line, "caddy reload"))
			out := must(line)
			switch {
			case strings.Contains(line, "caddy reload"):
				p.handover()
			case strings.Contains(line, "encrypt rotate") && !strings.Contains(out, fmt.Sprintf("re-sealed %d of %d rows under key ", rows, rows)):
				t.Errorf("%s says %s", line, out)
			case strings.Contains(line, "encrypt status") && !regexp.MustCompile(`(?m)^[0-9a-f]{8} +older +0 +-$`).MatchString(out):
				t.Errorf("%s says %s", line, out)
			}
			l.goesOn(t)
		}
	}
	if configs != 2 || scripts < 3 {
		t.Errorf("the section has %d configurations and %d scripts", configs, scripts)
	}
	l.stop()

	if got := keys(); len(got) != 1 || got["current"] != rows {
		t.Errorf("keys at the end: %v, want %d rows under the current one", got, rows)
	}
	if out := must("caddy llm-proxy encrypt rotate"); !strings.Contains(out, fmt.Sprintf("re-sealed 0 of %d", rows)) {
		t.Errorf("rotating once more: %s", out)
	}
	if _, err := os.Stat(filepath.Join(p.dir, "data", "encryption-key")); err == nil {
		t.Error("the old key is still there")
	}
	for _, other := range others {
		if got := p.do(t, chat(other.token, "m", false)); got.status != http.StatusOK {
			t.Errorf("afterwards: %d %s", got.status, got.body)
		}
		sim.last(t, other.key)
	}

	// A configuration without the key is refused, and the old one serves on.
	wrong := s
	must("caddy llm-proxy keygen > data/wrong")
	wrong.app = "encryption_key {file.data/wrong}"
	if err := p.load(wrong); err == nil || !strings.Contains(err.Error(), "encryption_key <current> <older>") {
		t.Errorf("a configuration without the key: %v", err)
	}
	if got := p.do(t, chat(a.token, "m", false)); got.status != http.StatusOK {
		t.Errorf("after the refusal: %d %s", got.status, got.body)
	}
	p.write(wrong)
	for _, command := range []string{"status", "rotate"} {
		if out, err := shell("caddy llm-proxy encrypt " + command); err == nil || !strings.Contains(out, "not configured") {
			t.Errorf("encrypt %s without the key: %v %s", command, err, out)
		}
	}
	if got := p.do(t, chat(others[0].token, "m", false)); got.status != http.StatusOK {
		t.Errorf("in the end: %d %s", got.status, got.body)
	}
}
