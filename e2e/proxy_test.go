package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
	"github.com/sofatutor/caddy-llm-proxy/internal/testnet"
)

// managementToken opens every test's management API.
const managementToken = "mt-e2e-4Zb9qLwXr7Tn2KdY"

// proxy is a running process.
type proxy struct {
	t         *testing.T
	dir       string // everything that it writes is below
	storage   string // Caddy's
	env       []string
	url       string
	port      int
	adminPort int
	cmd       *exec.Cmd
	output    *transcript
	exited    chan struct{}
	exitErr   error
	wrap      func(*exec.Cmd) // changes how the process is started; nil: not at all
	roots     *x509.CertPool

	mu      sync.Mutex
	clients map[protocol]*http.Client
}

// start runs the binary with a site and returns when it is ready. The process
// ends with the test. env adds to the child's environment.
func start(t *testing.T, s site, env ...string) *proxy {
	t.Helper()
	p := launch(t, s, env...)
	p.await()
	return p
}

// launch starts the process without waiting for it to be ready.
func launch(t *testing.T, s site, env ...string) *proxy {
	t.Helper()
	p := prepare(t)
	p.write(s)
	p.run(env...)
	return p
}

// prepare gives a process its directory and ports.
func prepare(t *testing.T) *proxy {
	t.Helper()
	p := &proxy{t: t, dir: t.TempDir(), port: testnet.Port(t), adminPort: testnet.Port(t), output: new(transcript), exited: make(chan struct{})}
	p.url = fmt.Sprintf("https://localhost:%d", p.port)
	p.storage = filepath.Join(p.dir, "share", "caddy")
	if onPostgres() {
		p.env = []string{"DATABASE_URL=" + testdb.Postgres(t), "LLM_PROXY_KEY=" + secret.NewKey()}
	}
	return p
}

// run starts the process with the Caddyfile that it has.
func (p *proxy) run(env ...string) {
	p.t.Helper()
	t := p.t
	p.cmd = p.command("run", "--config", p.caddyfile(), "--adapter", "caddyfile")
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	if p.wrap != nil {
		p.wrap(p.cmd)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.exitErr = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.stop()
		if complaint := p.output.complaint(); complaint != "" {
			t.Errorf("the process said: %s", complaint)
		}
		if t.Failed() {
			t.Logf("end of the log of %s:\n%s", t.Name(), p.output.tail(6<<10))
		}
	})
}

// command is the binary in the process's own environment.
func (p *proxy) command(args ...string) *exec.Cmd {
	cmd := exec.Command(binary, args...)
	cmd.Dir = p.dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "XDG_DATA_HOME=" + filepath.Join(p.dir, "share"),
		"XDG_CONFIG_HOME=" + filepath.Join(p.dir, "config"), "MANAGEMENT_TOKEN=" + managementToken, "NO_PROXY=*",
	}
	cmd.Env = append(cmd.Env, p.env...)
	return cmd
}

func (p *proxy) caddyfile() string { return filepath.Join(p.dir, "Caddyfile") }

// write replaces the Caddyfile, without loading it.
func (p *proxy) write(s site) {
	p.t.Helper()
	if err := os.WriteFile(p.caddyfile(), []byte(s.render(p)), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// await waits until /ready says 200.
func (p *proxy) await() {
	p.t.Helper()
	last := "no root certificate yet"
	ready := func() bool {
		select {
		case <-p.exited:
			p.t.Fatalf("the process ended before it was ready: %v\n%s", p.exitErr, p.output.tail(4<<10))
		default:
		}
		if !p.loadRoots() {
			return false
		}
		resp, err := p.client(h1).Get(p.url + "/ready")
		if err != nil {
			last = err.Error()
			return false
		}
		defer resp.Body.Close()
		last = resp.Status
		return resp.StatusCode == http.StatusOK
	}
	if !within(patience, ready) {
		p.t.Fatalf("the process is not ready after %s: %s", patience, last)
	}
}

// loadRoots trusts the internal CA, once there is one.
func (p *proxy) loadRoots() bool {
	if p.roots != nil {
		return true
	}
	pem, err := os.ReadFile(filepath.Join(p.storage, "pki", "authorities", "local", "root.crt"))
	if err != nil {
		return false
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return false
	}
	p.roots = roots
	return true
}

func (p *proxy) tlsConfig() *tls.Config {
	return &tls.Config{RootCAs: p.roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

// stop ends the process: politely, then not.
func (p *proxy) stop() {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Error("the process did not end after SIGTERM")
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// load gives the running process another configuration, whatever it changes.
func (p *proxy) load(s site) error {
	p.t.Helper()
	status, body := p.callAdmin(http.MethodPost, "/load", s.render(p))
	var err error
	if status != http.StatusOK {
		var refusal struct{ Error string }
		if err = json.Unmarshal([]byte(body), &refusal); err == nil {
			err = errors.New(refusal.Error)
		}
	}
	p.handover() // also when it was refused: it may have listened for a moment
	return err
}

// handover waits until other configurations' listeners are gone: Caddy closes
// them behind the scenes, and with them the connections that wait there.
func (p *proxy) handover() {
	p.t.Helper()
	p.closeIdle()
	answered := 0
	eventually(p.t, "the new configuration answers", func() bool {
		client := p.freshClient(h1)
		defer client.CloseIdleConnections()
		resp, err := client.Get(p.url + "/live")
		if answered++; err != nil {
			answered = 0
			return false
		}
		resp.Body.Close()
		return answered == 5
	})
}

func (p *proxy) closeIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for proto, client := range p.clients {
		if proto != h3 { // whose idle connections may still carry an answer's body
			client.CloseIdleConnections()
		}
	}
}

func (p *proxy) reload(s site) {
	p.t.Helper()
	if err := p.load(s); err != nil {
		p.t.Fatalf("reloading: %v", err)
	}
}

// admin reads from Caddy's own admin endpoint.
func (p *proxy) admin(path string) string {
	p.t.Helper()
	_, body := p.callAdmin(http.MethodGet, path, "")
	return body
}

// callAdmin asks until there is an answer: a reload replaces this endpoint too,
// and the old one resets whom it has not accepted yet.
func (p *proxy) callAdmin(method, path, body string) (status int, answer string) {
	p.t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	eventually(p.t, method+" "+path, func() bool {
		req, err := http.NewRequest(method, fmt.Sprintf("http://127.0.0.1:%d%s", p.adminPort, path), strings.NewReader(body))
		if err != nil {
			p.t.Fatal(err)
		}
		req.Header.Set("Content-Type", "text/caddyfile")
		req.Header.Set("Cache-Control", "must-revalidate") // as `caddy reload --force`
		resp, err := client.Do(req)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		status, answer = resp.StatusCode, string(text)
		return err == nil
	})
	return status, answer
}

// transcript collects what a process prints.
type transcript struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *transcript) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *transcript) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func (o *transcript) contains(s string) bool { return strings.Contains(o.String(), s) }

func (o *transcript) tail(n int) string {
	s := o.String()
	return s[max(0, len(s)-n):]
}

// complaint is a panic, or a data race with our code in it: Caddy has one of its
// own when it is asked before it has started.
func (o *transcript) complaint() string {
	text := o.String()
	if _, rest, found := strings.Cut(text, "panic:"); found {
		return rest[:min(4<<10, len(rest))]
	}
	for _, report := range strings.Split(text, "==================") {
		if strings.Contains(report, "DATA RACE") && (strings.Contains(report, "caddy-llm-proxy/internal/") || strings.Contains(report, "caddymodule.")) {
			return report
		}
	}
	return ""
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
