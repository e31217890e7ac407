package e2e

import (
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// manyTokens is how many tokens are in play at the same time.
const manyTokens = 10_000

// TestManyTokensInPlay has each of many tokens, with all kinds of limits, make a
// request. The ledger then agrees with the provider to the nanodollar, and nothing is
// leased any more: what a process keeps for a token lasts no longer than its requests.
// (That the limiter forgets its windows as well is internal/limit's TestMemoryIsFreed.)
func TestManyTokensInPlay(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	s := bounding(t, against(sim))
	s.database = ownSQLite
	s.log = "log {\n\t\toutput discard\n\t}"
	p := start(t, s)
	a := p.account(t)
	a.patchProject(t, object{"max_requests": 2 * manyTokens, "budget_usd": "100", "budget_period": "day"})

	began := time.Now()
	tokens := make([]string, manyTokens)
	crowd(64, manyTokens, func(i int) {
		_, tokens[i] = a.mint(t, object{"rpm": 5, "concurrency": 2, "max_requests": 3, "budget_usd": "0.01"})
	})
	t.Logf("%d tokens made in %s", manyTokens, time.Since(began).Round(time.Millisecond))
	began = time.Now()
	client := p.client(h2)
	var passed atomic.Int64
	crowd(64, manyTokens, func(i int) {
		resp, err := client.Do(p.build(t, bounded(t), openAIDialect.atMost(tokens[i], "m", answerTokens, false)))
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%d %s: %v", resp.StatusCode, body, err)
			return
		}
		passed.Add(1)
	})
	t.Logf("a request each in %s; allocated %d MiB", time.Since(began).Round(time.Millisecond), p.heap(t)>>20)
	if passed.Load() != manyTokens {
		t.Fatalf("%d of %d requests passed", passed.Load(), manyTokens)
	}

	db := openDatabase(t, filepath.Join(p.dir, "data", "llm-proxy.db"))
	count := func(query string) (n int64) {
		t.Helper()
		if err := db.QueryRowContext(bounded(t), query).Scan(&n); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		return n
	}
	eventually(t, "all leases are returned", func() bool {
		return count(`SELECT COALESCE(SUM(granted - used - returned), 0) FROM ledger_leases`) == 0 && count(`SELECT COALESCE(SUM(leased), 0) FROM ledger`) == 0
	})
	t.Logf("allocated %d MiB when all leases are returned", p.heap(t)>>20)
	used := sim.Stats()
	cost := costOf(used.PromptTokens, used.CompletionTokens)
	for query, want := range map[string]int64{
		`SELECT SUM(spent) FROM ledger WHERE scope = 'token' AND unit = 'requests'`:                 manyTokens,
		`SELECT SUM(spent) FROM ledger WHERE scope = 'token' AND unit = 'nano_usd'`:                 cost,
		`SELECT SUM(spent) FROM ledger WHERE scope = 'project' AND unit = 'requests'`:               manyTokens,
		`SELECT SUM(spent) FROM ledger WHERE scope = 'project' AND unit = 'nano_usd'`:               cost,
		`SELECT COUNT(*) FROM ledger WHERE scope = 'token' AND unit = 'requests' AND spent = 1`:     manyTokens,
		`SELECT COUNT(*) FROM ledger WHERE scope = 'token' AND unit = 'nano_usd' AND forfeited = 0`: manyTokens,
		`SELECT COUNT(*) FROM ledger WHERE spent + forfeited + leased > limit_amount`:               0,
		`SELECT COUNT(DISTINCT scope_id) FROM ledger WHERE scope = 'token' AND spent > 0`:           manyTokens,
		`SELECT COUNT(*) FROM ledger_leases WHERE granted - used - returned <> 0 OR granted < 0`:    0,
		`SELECT COALESCE(SUM(forfeited), 0) FROM ledger`:                                            0,
	} {
		if got := count(query); got != want {
			t.Errorf("%s: %d, want %d", query, got, want)
		}
	}
}

// crowd does something n times, size at once.
func crowd(size, n int, do func(i int)) {
	var next atomic.Int64
	var working sync.WaitGroup
	for range size {
		working.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				do(int(i))
			}
		})
	}
	working.Wait()
}

// heap is how much the process has allocated after a collection.
func (p *proxy) heap(t *testing.T) int64 {
	t.Helper()
	_, rest, _ := strings.Cut(p.admin("/debug/pprof/heap?gc=1&debug=1"), "\n# HeapAlloc = ")
	number, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
