package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
	"github.com/sofatutor/caddy-llm-proxy/migrations"
)

// usage is what a leak would make grow.
type usage struct{ files, goroutines int }

// usage counts when no client is connected: connections come and go. No answer
// may be under way.
func (p *proxy) usage() usage {
	p.t.Helper()
	p.closeIdle()
	p.client(h3).CloseIdleConnections()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	var u usage
	u.files = len(files)
	if _, err := fmt.Sscanf(p.admin("/debug/pprof/goroutine?debug=1"), "goroutine profile: total %d", &u.goroutines); err != nil {
		p.t.Fatal(err)
	}
	return u
}

// warm has the proxy connect to its provider as often as it will need to: these
// connections stay.
func (p *proxy) warm(t *testing.T, sim *provider, a *account, connections int) {
	t.Helper()
	release := sim.hold(t, a.key)
	var streams []*http.Response
	for range connections {
		r := chat(a.token, "sim-chunks-5", true)
		r.proto = h2
		streams = append(streams, p.open(t, bounded(t), r))
	}
	release()
	for _, stream := range streams {
		if _, err := io.Copy(io.Discard, stream.Body); err != nil {
			t.Fatal(err)
		}
	}
}

// settles waits until the process uses no more than it did.
func (p *proxy) settles(t *testing.T, baseline usage) {
	t.Helper()
	var now usage
	calm := within(patience, func() bool {
		now = p.usage()
		return now.files <= baseline.files+2 && now.goroutines <= baseline.goroutines+3
	})
	if !calm {
		t.Errorf("%+v, at first %+v\n%s", now, baseline, p.admin("/debug/pprof/goroutine?debug=1"))
	}
}

// TestReload changes the configuration while a stream runs.
func TestReload(t *testing.T) {
	t.Parallel()
	newer := filepath.Join(t.TempDir(), "newer.db")
	makeNewer(t, newer)
	for _, c := range []struct {
		name   string
		change func(*site)
		fails  string // what the error says; empty: the reload succeeds
		status int    // of a new request afterwards
	}{
		{name: "nothing", change: func(*site) {}, status: 200},
		{name: "policy", change: func(s *site) { s.options = map[string]string{"openai": "allow_endpoints /v1/models"} }, status: 404},
		{name: "transport", change: func(s *site) { s.options = map[string]string{"openai": "max_idle_conns_per_host 7"} }, status: 200},
		{name: "handler option", change: func(s *site) { s.handler = "max_body 10" }, status: 413},
		{name: "default provider", change: func(s *site) { s.handler = "provider anthropic" }, status: 404},
		{name: "database", change: func(s *site) { s.database = "{dir}/other/llm-proxy.db" }, status: 401},
		{name: "handler removed", change: func(s *site) { s.routes = "route {\nllm_proxy_admin\nrespond 418\n}" }, status: 418},
		{name: "newer database", change: func(s *site) { s.database = newer }, fails: "999", status: 200},
		{name: "unwritable database", change: func(s *site) { s.database = "{dir}/Caddyfile/llm-proxy.db" }, fails: "llm_proxy > database", status: 200},
		{name: "port in use", change: func(s *site) {
			s.routes = "llm_proxy\n llm_proxy_admin\n}\n" + strings.TrimSuffix(s.providers["gemini"], "/") + " {"
		}, fails: "listen", status: 200},
		{name: "syntax", change: func(s *site) { s.handler = "max_body lots" }, fails: "Caddyfile:", status: 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			sim := newProvider(t, simulator.Options{})
			original := against(sim)
			p := start(t, original)
			a := p.account(t)
			p.reload(original) // the first reload starts what later ones keep
			p.warm(t, sim, a, len(allProtocols)+1)
			baseline := p.usage()

			release := sim.hold(t, a.key)
			streams := make(map[protocol]*http.Response)
			for _, proto := range allProtocols {
				r := chat(a.token, "sim-chunks-40", true)
				r.proto = proto
				streams[proto] = p.open(t, bounded(t), r)
			}
			changed := original
			c.change(&changed)
			err := p.load(changed)
			if (err != nil) != (c.fails != "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Fatalf("reload: %v", err)
			}
			got, err := p.fresh(t, h1, chat(a.token, "m", false))
			if err != nil || got.status != c.status {
				t.Errorf("a new request: %d, want %d: %v %s", got.status, c.status, err, got.body)
			}
			release()
			for proto, stream := range streams {
				body, err := io.ReadAll(stream.Body)
				if err != nil || !strings.HasSuffix(string(body), "data: [DONE]\n\n") {
					t.Errorf("the stream over %s: %v, %d bytes", proto, err, len(body))
				}
			}
			p.reload(original)
			if got, err := p.fresh(t, h1, chat(a.token, "m", false)); err != nil || got.status != http.StatusOK {
				t.Errorf("after the way back: %d, %v", got.status, err)
			}
			p.settles(t, baseline)
		})
	}
}

// fresh sends a request on a connection of its own.
func (p *proxy) fresh(t *testing.T, proto protocol, r request) (answer, error) {
	client := p.freshClient(proto)
	defer client.CloseIdleConnections()
	req := p.build(t, bounded(t), r)
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{status: resp.StatusCode, header: resp.Header, body: string(body)}, err
}

// makeNewer makes a database of a schema that this binary does not know.
func makeNewer(t *testing.T, path string) {
	t.Helper()
	p := start(t, site{providers: map[string]string{"openai": ""}, database: path})
	p.stop()
	db := openDatabase(t, path)
	execute(t, db, "UPDATE "+migrations.Table+" SET version_id = 999 WHERE version_id = (SELECT MAX(version_id) FROM "+migrations.Table+")")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestManyReloads loads good and bad configurations under a light load.
func TestManyReloads(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{Chunks: 8})
	s := against(sim)
	p := start(t, s)
	a := p.account(t)
	p.reload(s)
	p.warm(t, sim, a, 3)
	baseline := p.usage()
	ctx, stop := context.WithCancel(bounded(t))
	var served atomic.Int64
	// A configuration may listen, with Caddy, before its database turns out to be
	// unusable. The second half of the reloads has such ones.
	var lenient atomic.Bool
	var load sync.WaitGroup
	for worker := range 2 {
		load.Go(func() {
			for ctx.Err() == nil {
				got, err := p.fresh(t, []protocol{h1, h2}[worker], chat(a.token, "m", served.Load()%2 == 0))
				switch {
				case err != nil: // a listener that is closed resets whom it has not accepted yet
				case got.status == http.StatusServiceUnavailable && got.header.Get("Retry-After") != "" && lenient.Load():
				case got.status != http.StatusOK:
					t.Errorf("during reloads: %d %s", got.status, got.body)
				default:
					served.Add(1)
				}
			}
		})
	}
	for i := range 50 {
		next := s
		bad := i%2 == 1
		switch {
		case !bad:
			next.handler = fmt.Sprintf("max_body %dMiB", 1+i)
		case i < 25:
			next.app = "provider groq {\n api_key {env.NONE_SUCH}\n}"
		default:
			lenient.Store(true)
			next.database = "{dir}/Caddyfile/x.db"
		}
		before := served.Load()
		if err := p.load(next); (err != nil) != bad {
			t.Errorf("reload %d: %v", i, err)
		}
		within(time.Second, func() bool { return served.Load() > before })
	}
	stop()
	load.Wait()
	if served.Load() < 50 {
		t.Errorf("%d requests were served", served.Load())
	}
	p.reload(s)
	p.settles(t, baseline)
}

// TestGracefulStop lets streams end when the process is asked to.
func TestGracefulStop(t *testing.T) {
	t.Parallel()
	for _, proto := range allProtocols {
		t.Run(string(proto), func(t *testing.T) {
			t.Parallel()
			sim := newProvider(t, simulator.Options{})
			p := start(t, against(sim))
			a := p.account(t)
			release := sim.hold(t, a.key)
			r := chat(a.token, "sim-chunks-40", true)
			r.proto = proto
			stream := p.open(t, bounded(t), r)
			if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			eventually(t, "new connections are refused", func() bool {
				_, err := p.freshClient(h1).Get(p.url + "/live")
				return errors.Is(err, syscall.ECONNREFUSED)
			})
			release()
			body, err := io.ReadAll(stream.Body)
			if err != nil || !strings.HasSuffix(string(body), "data: [DONE]\n\n") {
				t.Errorf("the stream: %v, %d bytes", err, len(body))
			}
			p.client(proto).CloseIdleConnections()
			receive(t, "the end of the process", p.exited)
			if p.exitErr != nil {
				t.Errorf("exit: %v", p.exitErr)
			}
		})
	}
}

// TestStarting starts while another program keeps the database to itself.
func TestStarting(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	path := filepath.Join(t.TempDir(), "llm-proxy.db")
	s := against(sim)
	s.database = path
	p := start(t, s)
	a := p.account(t)
	p.stop()
	db := openDatabase(t, path)
	execute(t, db, "PRAGMA locking_mode=EXCLUSIVE")
	execute(t, db, "CREATE TABLE keep_out (x)")
	execute(t, db, "DROP TABLE keep_out")

	p = launch(t, s)
	eventually(t, "it listens", func() bool {
		if !p.loadRoots() {
			return false
		}
		resp, err := p.freshClient(h1).Get(p.url + "/live")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	for _, d := range allDialects {
		got := p.do(t, d.ask(string(d), a.token, "m", false))
		d.refused(t, got, http.StatusServiceUnavailable, "starting")
		if got.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	if got := p.do(t, request{path: "/ready"}); got.status != http.StatusServiceUnavailable {
		t.Errorf("/ready: %d %s", got.status, got.body)
	}
	if got := p.do(t, request{path: "/live"}); got.status != http.StatusOK {
		t.Errorf("/live: %d %s", got.status, got.body)
	}
	sim.untouched(t, 0)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	p.await()
	if got := p.do(t, chat(a.token, "m", false)); got.status != http.StatusOK {
		t.Errorf("afterwards: %d %s", got.status, got.body)
	}
}
