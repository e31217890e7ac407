package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// newDistant starts a process that reaches its PostgreSQL over a link.
func newDistant(t *testing.T) (p *proxy, l *link, dsn string) {
	t.Helper()
	dsn = testdb.Postgres(t)
	l = newLink(t, dsn)
	s := against(newProvider(t, simulator.Options{}))
	s.postgres = true
	return start(t, s, "DATABASE_URL="+l.dsn, "LLM_PROXY_KEY="+secret.NewKey()), l, dsn
}

// servedOrLater accepts what a valid token may be answered while the database
// gives trouble, and reports whether it was served.
func servedOrLater(t *testing.T, got answer) bool {
	t.Helper()
	if got.status == http.StatusOK {
		return true
	}
	openAIDialect.refused(t, got, http.StatusServiceUnavailable, "store_unavailable")
	if got.header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	return false
}

// tryNow is a management call that may come too early.
func (p *proxy) tryNow(t *testing.T, method, path string, body any) (made bool, answer string) {
	t.Helper()
	status, answer := p.tryManage(t, method, path, body)
	if status/100 != 2 && status != http.StatusServiceUnavailable {
		t.Errorf("%s %s: %d %s", method, path, status, answer)
	}
	return status/100 == 2, answer
}

// awaitManagement waits until the database is within reach again.
func (p *proxy) awaitManagement(t *testing.T) {
	t.Helper()
	eventually(t, "the management API works again", func() bool {
		made, _ := p.tryNow(t, "GET", "projects", nil)
		return made
	})
}

// TestSlowDatabase: every word of the server comes two seconds late.
func TestSlowDatabase(t *testing.T) {
	t.Parallel()
	p, l, _ := newDistant(t)
	a := p.account(t)
	_, cold := a.mint(t)
	if got := p.do(t, chat(a.token, "m", false)); got.status != http.StatusOK {
		t.Fatalf("before: %d %s", got.status, got.body)
	}
	l.poison(toxic{"latency", "downstream", map[string]int{"latency": 2000}})

	listed := make(chan int, 1)
	go func() {
		status, _ := p.tryManage(t, "GET", "projects", nil)
		listed <- status
	}()
	for range 5 { // whoever is known waits for no query
		if got := p.do(t, chat(a.token, "m", false)); got.status != http.StatusOK {
			t.Errorf("a known token: %d %s", got.status, got.body)
		}
	}
	select {
	case status := <-listed:
		t.Errorf("a query was answered, with %d, before five requests that need none", status)
	default:
	}
	for range 3 {
		servedOrLater(t, p.do(t, chat(cold, "m", false)))
	}
	if status := receive(t, "the list of projects", listed); status != http.StatusOK && status != http.StatusServiceUnavailable {
		t.Errorf("listing projects: %d", status)
	}
	made, body := p.tryNow(t, "POST", "tokens", object{"project_id": a.projectID})
	t.Logf("making a token meanwhile: %v", made)

	l.heal()
	p.awaitManagement(t)
	eventually(t, "the cold token works", func() bool { return servedOrLater(t, p.do(t, chat(cold, "m", false))) })
	if made {
		var token struct{ Token string }
		if err := json.Unmarshal([]byte(body), &token); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the token that was made works", func() bool { return servedOrLater(t, p.do(t, chat(token.Token, "m", false))) })
	}
}

// TestConnectionCutWhileMutating cuts the connection at many places of changes
// that are under way. Each is made wholly, with its record, or not at all, and
// what was answered 2xx is there.
func TestConnectionCutWhileMutating(t *testing.T) {
	t.Parallel()
	p, l, dsn := newDistant(t)
	a := p.account(t)
	faults := []toxic{{"reset_peer", "downstream", map[string]int{"timeout": 0}}, {"reset_peer", "upstream", map[string]int{"timeout": 0}}}
	for _, n := range []int{1, 12, 25, 60, 90, 150, 250, 400, 800, 1600} {
		faults = append(faults, toxic{"limit_data", "downstream", map[string]int{"bytes": n}})
	}
	for _, n := range []int{1, 30, 120, 300, 500, 700, 900, 1200, 1600, 2400, 4000} {
		faults = append(faults, toxic{"limit_data", "upstream", map[string]int{"bytes": n}})
	}
	type change struct {
		fault           toxic
		id, name        string // of the token to revoke, and of the one to make
		created, ending bool   // answered 2xx
	}
	var changes []*change
	failed := 0
	for i, fault := range faults {
		c := &change{fault: fault, name: fmt.Sprintf("cut %d", i)}
		c.id, _ = a.mint(t)
		l.poison(fault)
		c.created, _ = p.tryNow(t, "POST", "tokens", object{"project_id": a.projectID, "name": c.name})
		l.heal()
		p.awaitManagement(t)
		l.poison(fault)
		c.ending, _ = p.tryNow(t, "DELETE", "tokens/"+c.id, nil)
		servedOrLater(t, p.do(t, chat(a.token, "m", false)))
		l.heal()
		p.awaitManagement(t)
		changes = append(changes, c)
		for _, answered := range []bool{c.created, c.ending} {
			if !answered {
				failed++
			}
		}
	}
	t.Logf("%d of %d changes were answered 503", failed, 2*len(changes))
	if failed == 0 || failed == 2*len(changes) {
		t.Errorf("%d of %d changes failed: the faults do not hit their middle", failed, 2*len(changes))
	}

	db := openPostgres(t, dsn)
	recorded := func(action string) []string {
		return column(t, db, `SELECT target_id FROM audit_events WHERE action = $1 AND outcome = 'success' ORDER BY target_id`, action)
	}
	if rows, records := column(t, db, `SELECT id::text FROM tokens ORDER BY id::text`), recorded("token.create"); !slices.Equal(rows, records) {
		t.Errorf("tokens and the records of their making differ:\n%v\n%v", rows, records)
	}
	if rows, records := column(t, db, `SELECT id::text FROM tokens WHERE NOT is_active ORDER BY id::text`), slices.Compact(recorded("token.revoke")); !slices.Equal(rows, records) {
		t.Errorf("revoked tokens and the records of their revocation differ:\n%v\n%v", rows, records)
	}
	for _, c := range changes {
		if n := len(column(t, db, `SELECT id::text FROM tokens WHERE name = $1`, c.name)); n > 1 || c.created && n != 1 {
			t.Errorf("%v: answered 2xx: %v, and there are %d tokens", c.fault, c.created, n)
		}
		if n := len(column(t, db, `SELECT id::text FROM tokens WHERE id::text = $1 AND NOT is_active`, c.id)); c.ending && n != 1 {
			t.Errorf("%v: a revocation was answered 2xx and is not there", c.fault)
		}
	}
	eventually(t, "the known token works", func() bool { return servedOrLater(t, p.do(t, chat(a.token, "m", false))) })
}

// TestPartitionedNode parts one of two nodes from the database, twice: until its
// memory may not be trusted any more, and for a moment.
func TestPartitionedNode(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	near := c.nodes[0]
	l := newLink(t, c.env[0][len("DATABASE_URL="):])
	s := c.site()
	s.caddyfile = strings.Replace(s.compose(), "{env.DATABASE_URL}", "{env.DATABASE_URL} {\n\t\t\tstore_outage_grace 1s\n\t\t}", 1)
	far := start(t, s, "DATABASE_URL="+l.dsn, c.env[1])
	ask := func(token string) answer { return far.do(t, chat(token, "m", false)) }

	a := near.account(t)
	mint := func(warm bool) (id, token string) {
		id, token = a.mint(t)
		if warm {
			if got := ask(token); got.status != http.StatusOK {
				t.Fatalf("before: %d %s", got.status, got.body)
			}
		}
		return id, token
	}
	revoke := func(id, token string) {
		near.manage(t, "DELETE", "tokens/"+id, nil)
		openAIDialect.refused(t, near.do(t, chat(token, "m", false)), http.StatusUnauthorized, "token_inactive")
	}
	cut := func(id, token string) { // the partition is noticed, and the revocation is not
		l.swallow()
		revoke(id, token)
		_, unknown := a.mint(t)
		if servedOrLater(t, ask(unknown)) {
			t.Error("served a token that could not be looked up")
		}
	}

	// For a moment: the revocation is in force long before the row is too old.
	id, token := mint(true)
	loaded := time.Now()
	cut(id, token)
	l.heal()
	for {
		got := ask(token)
		if got.status == http.StatusUnauthorized {
			break
		}
		servedOrLater(t, got)
		if time.Since(loaded) > trustedFor {
			t.Fatal("after healing, a revoked token was accepted until its row was too old")
		}
	}

	// For long.
	_, known := mint(true)
	id, token = mint(true)
	_, cold := mint(false)
	cut(id, token)
	lasted := within(2*patience, func() bool { // nobody is told 401: this node does not know better
		revoked, held := servedOrLater(t, ask(token)), servedOrLater(t, ask(known))
		return !revoked && !held || t.Failed()
	})
	if !lasted {
		t.Fatal("tokens are served without end")
	}
	servedOrLater(t, ask(cold))
	l.heal()
	eventually(t, "the known token works again", func() bool {
		if got := ask(token); got.status != http.StatusUnauthorized && servedOrLater(t, got) {
			t.Fatal("the revoked token works again")
		}
		return servedOrLater(t, ask(known))
	})
	openAIDialect.refused(t, ask(token), http.StatusUnauthorized, "token_inactive")
	eventually(t, "the cold token works", func() bool { return servedOrLater(t, ask(cold)) })
}

// trustedFor is less than a row is trusted for without asking.
const trustedFor = 20 * time.Second
