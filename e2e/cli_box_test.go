package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
	"github.com/sofatutor/caddy-llm-proxy/internal/testnet"
)

const (
	cliProviderKey = "sk-CANARY-of-the-provider-9876"
	cliPatience    = 2 * time.Minute
	// cliLog redacts as the example configuration does.
	cliLog = `(llm_proxy_log) {
	log {
		format filter {
			wrap json
			request>headers>X-Api-Key delete
			request>headers>Api-Key delete
			request>headers>X-Goog-Api-Key delete
			request>headers>Sec-Websocket-Protocol delete
			request>uri query {
				delete key
			}
		}
	}
}
`
)

// cliBox is a working directory of its own to run commands in.
type cliBox struct {
	t      *testing.T
	dir    string
	port   int
	url    string
	sim    *httptest.Server
	served []string // credentials that the simulated provider has seen
	mu     sync.Mutex
	env    []string
	secret []string // what no command may show
}

func newCLIBox(t *testing.T) *cliBox {
	t.Helper()
	b := &cliBox{t: t, dir: t.TempDir(), port: testnet.Port(t), secret: []string{cliProviderKey}}
	b.url = fmt.Sprintf("http://127.0.0.1:%d", b.port)
	provider := simulator.New(simulator.Options{Pace: -1})
	provider.OnRequest(func(r *http.Request) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.served = append(b.served, r.Header.Get("Authorization"))
	})
	b.sim = httptest.NewServer(provider)
	t.Cleanup(b.sim.Close)
	b.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(b.dir, "home"), "TMPDIR=" + b.path("tmp"),
		"XDG_DATA_HOME=" + b.path("xdg/data"), "XDG_CONFIG_HOME=" + b.path("xdg/config"),
	}
	if err := os.MkdirAll(b.path("tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *cliBox) path(name string) string { return filepath.Join(b.dir, name) }

func (b *cliBox) write(name, text string) {
	b.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(b.path(name)), 0o700), os.WriteFile(b.path(name), []byte(text), 0o600)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *cliBox) read(name string) string {
	b.t.Helper()
	data, err := os.ReadFile(b.path(name))
	if err != nil {
		b.t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// hide adds a text that commands must not show from now on.
func (b *cliBox) hide(text string) string {
	if text != "" {
		b.secret = append(b.secret, text)
	}
	return text
}

// caddyfile is a site in front of the simulated provider; options go into the
// global options, into llm_proxy.
func (b *cliBox) caddyfile(options string) string {
	return cliLog + fmt.Sprintf(`{
	admin off
	auto_https off
	storage file_system ./data/caddy
	import llm_proxy_log
	llm_proxy {
		database sqlite ./data/llm-proxy.db
		provider openai {
			base_url %s/v1
		}
		%s
	}
}
%s {
	import llm_proxy_log
	llm_proxy_admin
	llm_proxy
}
`, b.sim.URL, options, b.url)
}

// cliResult is what a command left.
type cliResult struct {
	out, err string
	code     int
}

func (b *cliBox) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir, cmd.Env = b.dir, b.env
	return cmd
}

// run runs `caddy llm-proxy` with standard input.
func (b *cliBox) run(stdin string, args ...string) cliResult {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), cliPatience)
	defer cancel()
	cmd := b.command(ctx, append([]string{"llm-proxy"}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		b.t.Fatalf("%q: %v", args, err)
	}
	res := cliResult{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
	for _, s := range b.secret {
		if strings.Contains(res.out+res.err, s) {
			b.t.Errorf("%q shows a secret: %s%s", args, res.out, res.err)
		}
	}
	if res.code != 0 && (strings.TrimSpace(res.err) == "" || strings.HasPrefix(res.err, "Error")) {
		b.t.Errorf("%q exits %d with the words %q", args, res.code, res.err)
	}
	return res
}

// ok runs a command that must work and returns its standard output.
func (b *cliBox) ok(args ...string) string {
	b.t.Helper()
	res := b.run("", args...)
	if res.code != 0 {
		b.t.Fatalf("%q exits %d: %s", args, res.code, res.err)
	}
	return res.out
}

// fails runs a command that must exit with code and say the words, in one line.
func (b *cliBox) fails(code int, words string, args ...string) {
	b.t.Helper()
	b.refuses(b.run("", args...), code, words)
}

func (b *cliBox) refuses(res cliResult, code int, words string) {
	b.t.Helper()
	if res.code != code || !strings.Contains(res.err, words) || strings.Count(res.err, "\n") != 1 {
		b.t.Errorf("exits %d with %q, want %d and one line with %q", res.code, res.err, code, words)
	}
}

// serve runs the proxy with the Caddyfile until the test ends.
func (b *cliBox) serve() {
	b.t.Helper()
	out, err := os.Create(filepath.Join(b.t.TempDir(), "log"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer out.Close()
	log := func() string {
		text, err := os.ReadFile(out.Name())
		if err != nil {
			b.t.Fatal(err)
		}
		return string(text)
	}
	cmd := b.command(context.Background(), "run", "--config", "Caddyfile")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	b.t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // or it has ended, which Wait tells
		select {
		case <-exited:
		case <-time.After(cliPatience):
			_ = cmd.Process.Kill()
			<-exited
			b.t.Error("the proxy did not stop")
		}
		if b.t.Failed() {
			b.t.Logf("log of the proxy:\n%s", log())
		}
	})
	cliWait(b.t, "the proxy serves and has written all that a start writes", func() bool {
		select {
		case err := <-exited:
			exited <- err
			b.t.Fatalf("the proxy ended: %v\n%s", err, log())
		default:
		}
		return strings.Contains(log(), "serving initial configuration")
	})
}

// cliWait polls until a condition holds.
func cliWait(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(cliPatience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("did not happen: %s", what)
		}
	}
}
