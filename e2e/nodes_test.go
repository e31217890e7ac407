package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// inForceWithin is how soon a change must be in force on every node.
const inForceWithin = time.Second

// cluster is several processes on one PostgreSQL.
type cluster struct {
	server *testdb.PostgresServer
	sim    *provider
	env    []string
	nodes  []*proxy
}

func newCluster(t *testing.T, nodes int) *cluster {
	t.Helper()
	c := &cluster{server: testdb.StartPostgres(t), sim: newProvider(t, simulator.Options{})}
	c.env = []string{"DATABASE_URL=" + c.server.Database(), "LLM_PROXY_KEY=" + secret.NewKey()}
	for range nodes {
		c.nodes = append(c.nodes, launch(t, c.site(), c.env...))
	}
	for _, n := range c.nodes { // all at once: they migrate once
		n.await()
	}
	return c
}

func (c *cluster) site() site {
	s := against(c.sim)
	s.postgres = true
	return s
}

// spread makes a change and returns how long it takes until every node
// behaves as it says.
func (c *cluster) spread(t *testing.T, what string, change func(), inForce func(n *proxy) bool) time.Duration {
	t.Helper()
	change()
	began := time.Now()
	for i, n := range c.nodes {
		eventually(t, fmt.Sprintf("%s in force on node %d", what, i), func() bool { return inForce(n) })
	}
	return time.Since(began)
}

// TestChangesReachEveryNode measures how soon changes made on one node are in
// force on all of three. A busy machine gets three attempts at the bound.
func TestChangesReachEveryNode(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	status := func(n *proxy, a *account) int { return n.do(t, chat(a.token, "m", false)).status }
	for _, tc := range []struct {
		name    string
		change  func(a *account)
		inForce func(n *proxy, a *account) bool
	}{
		{"revocation", func(a *account) { a.revoke(t) }, func(n *proxy, a *account) bool { return status(n, a) == http.StatusUnauthorized }},
		{"deactivation", func(a *account) { a.patchProject(t, object{"is_active": false}) }, func(n *proxy, a *account) bool { return status(n, a) == http.StatusForbidden }},
		{"bulk revocation", func(a *account) { a.p.manage(t, "POST", "projects/"+a.projectID+"/tokens/revoke", nil) }, func(n *proxy, a *account) bool { return status(n, a) == http.StatusUnauthorized }},
		{"limit", func(a *account) { a.patchProject(t, object{"allowed_models": []string{"other"}}) }, func(n *proxy, a *account) bool { return status(n, a) == http.StatusForbidden }},
		{"key rotation", func(a *account) { a.rotateKey(t, "sk-provider-rotated-"+a.tokenID) }, func(n *proxy, a *account) bool {
			before := len(c.sim.sightings("sk-provider-rotated-" + a.tokenID))
			status(n, a)
			return len(c.sim.sightings("sk-provider-rotated-"+a.tokenID)) > before
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var took time.Duration
			for range 3 {
				a := c.nodes[0].account(t)
				for i, n := range c.nodes { // every node remembers the token
					if got := status(n, a); got != http.StatusOK {
						t.Fatalf("node %d before the change: %d", i, got)
					}
				}
				took = c.spread(t, tc.name, func() { tc.change(a) }, func(n *proxy) bool { return tc.inForce(n, a) })
				t.Logf("in force on %d nodes after %s", len(c.nodes), took.Round(time.Millisecond))
				if took <= inForceWithin {
					return
				}
			}
			t.Errorf("in force on every node only after %s, want %s", took, inForceWithin)
		})
	}
	t.Run("a stream on another node", func(t *testing.T) {
		a := c.nodes[0].account(t)
		release := c.sim.hold(t, a.key)
		defer release()
		stream := c.nodes[2].open(t, bounded(t), chat(a.token, "sim-chunks-40", true))
		a.revoke(t)
		body, err := io.ReadAll(stream.Body)
		if err == nil || !strings.Contains(string(body), "token_inactive") {
			t.Errorf("error %v after %q", err, body)
		}
	})
}

// rotateKey replaces the account's OpenAI key.
func (a *account) rotateKey(t *testing.T, key string) {
	t.Helper()
	_, body := a.p.tryManage(t, "GET", "projects/"+a.projectID+"/keys", nil)
	var keys []struct{ ID, Provider string }
	if err := json.Unmarshal([]byte(body), &keys); err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if k.Provider == "openai" {
			a.p.manage(t, "PATCH", "projects/"+a.projectID+"/keys/"+k.ID, object{"api_key": key})
			return
		}
	}
	t.Fatalf("no OpenAI key in %s", body)
}

// TestDatabaseOutage: known tokens go on working while the database is away,
// unknown ones get 503 and never 401, and all is well when it is back.
func TestDatabaseOutage(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	p := c.nodes[0]
	known := p.account(t)
	_, cold := known.mint(t)
	if got := p.do(t, chat(known.token, "m", false)); got.status != http.StatusOK {
		t.Fatalf("before: %d %s", got.status, got.body)
	}
	before := c.sim.count()
	for name, fault := range map[string]struct{ begin, end func() }{
		"stopped": {c.server.Stop, c.server.Start},
		"killed":  {c.server.Kill, c.server.Start},
		"frozen":  {c.server.Pause, c.server.Resume},
	} {
		fault.begin()
		if got := p.do(t, chat(known.token, "m", false)); got.status != http.StatusOK {
			t.Errorf("%s: a known token: %d %s", name, got.status, got.body)
		}
		got := p.do(t, chat(cold, "m", false))
		openAIDialect.refused(t, got, http.StatusServiceUnavailable, "store_unavailable")
		if got.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", name)
		}
		if code, _ := p.tryManage(t, "GET", "projects", nil); code != http.StatusServiceUnavailable {
			t.Errorf("%s: the management API: %d", name, code)
		}
		fault.end()
		eventually(t, "after it was "+name+", the management API works again", func() bool {
			code, _ := p.tryManage(t, "GET", "projects", nil)
			return code == http.StatusOK
		})
	}
	eventually(t, "the cold token works", func() bool { return p.do(t, chat(cold, "m", false)).status == http.StatusOK })
	if c.sim.count() == before {
		t.Error("nothing reached the provider")
	}
}

// TestDatabaseAwayAtStart: the process starts without its database, says so,
// and serves when it is there.
func TestDatabaseAwayAtStart(t *testing.T) {
	t.Parallel()
	server := testdb.StartPostgres(t)
	sim := newProvider(t, simulator.Options{})
	dsn := server.Database()
	server.Stop()
	s := against(sim)
	s.postgres = true
	p := launch(t, s, "DATABASE_URL="+dsn, "LLM_PROXY_KEY="+secret.NewKey())
	eventually(t, "answering 503 starting", func() bool {
		if !p.loadRoots() {
			return false
		}
		got, err := p.try(t, chat(mint(t), "m", false))
		if err != nil {
			return false
		}
		openAIDialect.refused(t, got, http.StatusServiceUnavailable, "starting")
		return got.header.Get("Retry-After") != ""
	})
	server.Start()
	p.await()
	a := p.account(t)
	if got := p.do(t, chat(a.token, "m", false)); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
}
