package e2e

import (
	"database/sql"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// afterReaping is longer than a node waits between looks for leases that ended.
const afterReaping = 11 * time.Second

// shortWindow is a rate limit for every token that opens again within a test.
const shortWindow = "rate_limit token 40/4s"

// TestClockJumpsOfANode has one of three nodes jump.
func TestClockJumpsOfANode(t *testing.T) {
	t.Parallel()
	dsn := testdb.Postgres(t)
	c := &cluster{sim: newProvider(t, simulator.Options{}), env: []string{"DATABASE_URL=" + dsn, "LLM_PROXY_KEY=" + secret.NewKey()}}
	s := bounding(t, c.site())
	s.handler = shortWindow
	for range 3 {
		c.nodes = append(c.nodes, launch(t, s, c.env...))
	}
	for _, n := range c.nodes {
		n.await()
	}
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	clockJumps(t, c.sim, c.nodes, db)
}

// TestClockJumpsOfTheOnlyNode has the one node of a SQLite file jump, which is all
// that knows the time there.
func TestClockJumpsOfTheOnlyNode(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	s := bounding(t, against(sim))
	s.database, s.handler = ownSQLite, shortWindow
	p := start(t, s)
	clockJumps(t, sim, []*proxy{p}, openDatabase(t, filepath.Join(p.dir, "data", "llm-proxy.db")))
}

// clockJumps sets the last node's clock forth and back while requests with a quota,
// a budget for a day and rates go to all nodes. All of them pass, none is counted
// twice or not at all, and what was used up stays so, but no longer than it must.
func clockJumps(t *testing.T, sim *provider, nodes []*proxy, db *sql.DB) {
	began := time.Now()
	a := nodes[0].account(t, object{"budget_usd": "100", "budget_period": "day", "max_requests": 1_000_000, "rpm": 1_000_000})
	a.patchProject(t, object{"budget_usd": "1000", "budget_period": "day"})
	jumps := []time.Duration{time.Hour, -time.Hour, 25 * time.Hour, 0}
	// Tokens have the time of their issue in them, and one from a clock that is an
	// hour ahead is refused: all are from before.
	_, burst := a.mint(t)
	var minutes []string
	for range jumps {
		_, token := a.mint(t, object{"rpm": 2})
		minutes = append(minutes, token)
	}
	jumper := nodes[len(nodes)-1]
	clock := jumper.wallClock(t)
	traffic := newSteady(t, nodes, a.token)
	for i, ahead := range jumps {
		drained := time.Now()
		jumper.statuses(t, minutes[i], http.StatusOK, http.StatusOK, http.StatusTooManyRequests)
		eventually(t, "the short window is used up", func() bool {
			return jumper.do(t, chat(burst, "m", false)).status == http.StatusTooManyRequests
		})
		clock.set(t, ahead)
		got := jumper.do(t, chat(minutes[i], "m", false))
		wait, _ := strconv.Atoi(got.header.Get("Retry-After"))
		switch within := time.Since(drained) < time.Minute; {
		case got.status == http.StatusTooManyRequests && wait >= 1 && wait <= 61:
		case within:
			t.Errorf("%s ahead, a minute's requests that were used up: %d, Retry-After %q: %s", ahead, got.status, got.header.Get("Retry-After"), got.body)
		default:
			t.Errorf("a minute was over before the next request: %s", time.Since(drained))
		}
		eventually(t, fmt.Sprintf("%s ahead, the short window opens again", ahead), func() bool {
			return jumper.do(t, chat(burst, "m", false)).status == http.StatusOK
		})
		if i < 2 { // once for each direction
			traffic.lasts(t, afterReaping)
		}
	}
	traffic.stop()

	var served int64
	for status, n := range traffic.answers {
		t.Logf("%s: %d", status, n)
		if status != "200" {
			t.Errorf("%d requests with room in all their limits: %s", n, status)
			continue
		}
		served = n
	}
	used := sim.Stats()
	cost := costOf(used.PromptTokens, used.CompletionTokens)
	want := map[string]int64{"token requests total": served, "token nano_usd day": costOfOne(used) * served, "project nano_usd day": cost}
	var rows map[string][]ledgerRow
	settled := func() bool {
		rows = ledgerRows(t, db)
		for name, amount := range want {
			var spent int64
			for _, row := range rows[name] {
				spent += row.spent
			}
			if spent != amount {
				return false
			}
		}
		return true
	}
	if !within(patience, settled) {
		t.Errorf("the ledger has %+v, the provider has billed %v", rows, want)
	}
	days := []int64{day(began), day(time.Now())}
	for name, list := range rows {
		if want[name] == 0 || len(list) > 1 && days[0] == days[1] {
			t.Errorf("%s: %+v", name, list)
		}
		for _, row := range list {
			if row.forfeited != 0 {
				t.Errorf("%s: %d forfeited", name, row.forfeited)
			}
			if strings.HasSuffix(name, "day") && !slices.Contains(days, row.start) {
				t.Errorf("%s: a period from %s", name, time.UnixMicro(row.start).UTC())
			}
		}
	}
	for i, n := range nodes {
		for _, words := range []string{"ended without returning its lease", "took a lease back"} {
			if n.output.contains(words) {
				t.Errorf("node %d: %s", i, words)
			}
		}
	}
}

// costOfOne is what each request cost, which are all the same.
func costOfOne(s simulator.Stats) int64 {
	return costOf(s.PromptTokens, s.CompletionTokens) / s.Requests
}

// day is the beginning of a day, as the ledger has it.
func day(at time.Time) int64 { return at.UTC().Truncate(24 * time.Hour).UnixMicro() }

// ledgerRow is a row of the ledger.
type ledgerRow struct{ start, spent, forfeited int64 }

// ledgerRows are the rows that anything has come of, by scope, unit and period: a
// limit that is set makes one for the next period as well.
func ledgerRows(t *testing.T, db *sql.DB) map[string][]ledgerRow {
	t.Helper()
	found, err := db.QueryContext(bounded(t), `SELECT scope, unit, period, period_start, spent, forfeited FROM ledger
		WHERE spent > 0 OR forfeited > 0 OR leased > 0`)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	rows := make(map[string][]ledgerRow)
	for found.Next() {
		var scope, unit, period string
		var r ledgerRow
		if err := found.Scan(&scope, &unit, &period, &r.start, &r.spent, &r.forfeited); err != nil {
			t.Fatal(err)
		}
		name := scope + " " + unit + " " + period
		rows[name] = append(rows[name], r)
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	return rows
}

// statuses sends one request after the other and compares the answers' statuses.
func (p *proxy) statuses(t *testing.T, token string, want ...int) {
	t.Helper()
	for i, status := range want {
		if got := p.do(t, chat(token, "m", false)); got.status != status {
			t.Errorf("request %d of %d: %d, want %d: %s", i+1, len(want), got.status, status, got.body)
		}
	}
}

// steady is requests to every node, a few each second, until it is stopped.
type steady struct {
	served  chan struct{}
	quit    chan struct{}
	running sync.WaitGroup
	once    sync.Once

	mu      sync.Mutex
	answers map[string]int64 // by status and code
}

func newSteady(t *testing.T, nodes []*proxy, token string) *steady {
	tr := &steady{served: make(chan struct{}, 1), quit: make(chan struct{}), answers: make(map[string]int64)}
	for _, n := range nodes {
		tr.running.Go(func() {
			pace := time.NewTicker(200 * time.Millisecond)
			defer pace.Stop()
			for {
				select {
				case <-tr.quit:
					return
				case <-pace.C:
				}
				got, err := n.try(t, chat(token, "m", false))
				tr.note(got, err)
				select {
				case tr.served <- struct{}{}:
				default: // nobody waits for it
				}
			}
		})
	}
	t.Cleanup(tr.stop)
	return tr
}

func (tr *steady) note(got answer, err error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	name := strconv.Itoa(got.status)
	if err != nil {
		name = err.Error()
	} else if got.status != http.StatusOK {
		p, _ := openAIDialect.read(got.body)
		name += " " + p.code
	}
	tr.answers[name]++
}

// lasts takes part in the traffic for a while.
func (tr *steady) lasts(t *testing.T, d time.Duration) {
	t.Helper()
	for began := time.Now(); time.Since(began) < d; {
		receive(t, "an answer", tr.served)
	}
}

func (tr *steady) stop() {
	tr.once.Do(func() { close(tr.quit) })
	tr.running.Wait()
}
