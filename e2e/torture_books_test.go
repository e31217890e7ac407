package e2e

import (
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"
)

// settle has the ledger come to its end: what the dead processes had leased is
// forfeited, and the rest of the budget is used until it is refused.
func (a *arena) settle() (usedNano int64) {
	t, n := a.t, a.nodes[0]
	// Who lives returns its lease when no request has come for a while, or has renewed it.
	eventually(t, "only the dead have leases", func() bool { return a.leases(`updated_at > $2`, a.outed) == 0 })
	lost := a.leases(`updated_at <= $2`, a.outed)
	eventually(t, "ten minutes pass for these", func() bool { // a SQLite file may be busy
		_, err := a.db.ExecContext(bounded(t), `UPDATE ledger_leases SET expires_at = expires_at - 600000000
			WHERE scope_id = $1 AND granted - used - returned > 0 AND updated_at <= $2`, a.budget.account.tokenID, a.outed)
		return err == nil
	})
	client := n.client(h2)
	turn := 0
	eventually(t, "the budget is spent", func() bool {
		turn++
		return a.budget.ask(t, bounded(t), a.provider, n, client, turn) == budgetSpent
	})
	var row struct{ limit, spent, forfeited, leased int64 }
	eventually(t, "nothing is leased", func() bool {
		if err := a.db.QueryRowContext(bounded(t), `SELECT limit_amount, spent, forfeited, leased FROM ledger WHERE scope_id = $1`, a.budget.account.tokenID).
			Scan(&row.limit, &row.spent, &row.forfeited, &row.leased); err != nil {
			t.Fatal(err)
		}
		return row.leased == 0
	})
	usedNano = usedOf(t, a.budget.account, "budget_usd")
	t.Logf("budget: %s USD; spent %.2f %%, forfeited %.2f %% of %d leases", inUSD(row.limit), percent(row.spent, row.limit), percent(row.forfeited, row.limit), lost)
	if row.limit != a.budgetNano || row.spent+row.forfeited != usedNano {
		t.Errorf("the ledger has a limit of %d, %d spent and %d forfeited; the API says %d are used", row.limit, row.spent, row.forfeited, usedNano)
	}
	if row.forfeited == 0 {
		t.Error("no kill has cost anything: none was amidst the load")
	}
	return usedNano
}

// leases counts those of the budget that hold something.
func (a *arena) leases(condition string, at int64) (n int) {
	a.t.Helper()
	err := a.db.QueryRowContext(bounded(a.t), `SELECT COUNT(*) FROM ledger_leases WHERE scope_id = $1 AND granted - used - returned > 0 AND `+condition,
		a.budget.account.tokenID, at).Scan(&n)
	if err != nil {
		a.t.Fatal(err)
	}
	return n
}

// usedOf is what the management API says is used of a token's limit, in its smallest
// unit.
func usedOf(t *testing.T, a *account, limit string) int64 {
	t.Helper()
	rows, _ := a.p.manage(t, "GET", "tokens/"+a.tokenID, nil)["limits_usage"].([]any)
	for _, row := range rows {
		if row := row.(object); row["limit"] == limit {
			used, ok := new(big.Rat).SetString(fmt.Sprint(row["used"]))
			if !ok {
				t.Fatalf("used: %v", row["used"])
			}
			if limit == "budget_usd" {
				used.Mul(used, big.NewRat(1e9, 1))
			}
			return used.Num().Int64()
		}
	}
	t.Fatalf("no %s in %v", limit, rows)
	return 0
}

func percent(n, of int64) float64 { return 100 * float64(n) / float64(of) }

// tripping is how long it may take from the first request that Redis does not answer
// until the node says that it is away: two calls and some.
const tripping = 200 * time.Millisecond

// aways are the times in which a node, by its log, did not share limits.
func (p *proxy) aways(t *testing.T, w *witness) (list []span) {
	t.Helper()
	open := -1 // in the list
	for line := range strings.Lines(p.output.String()) {
		if !strings.Contains(line, "about rate limits") && !strings.Contains(line, "rate limits are") {
			continue
		}
		var entry struct {
			TS  float64
			Msg string
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		at := time.Duration(entry.TS*float64(time.Second)) - time.Duration(w.began.UnixNano())
		switch {
		case strings.Contains(entry.Msg, "about rate limits"): // which the node has answered itself
			list = append(list, span{at - tripping, at + tripping})
		case strings.HasPrefix(entry.Msg, "rate limits are not shared"):
			list, open = append(list, span{at - tripping, math.MaxInt64}), len(list)
		case open >= 0 && strings.HasPrefix(entry.Msg, "rate limits are shared"): // again, or by the next process
			list[open].to, open = at, -1
		}
	}
	return list
}

// rejoined reports whether a node shares limits that did not after a time.
func (p *proxy) rejoined(t *testing.T, w *witness, after time.Duration) bool {
	for _, s := range p.aways(t, w) {
		if s.to == math.MaxInt64 {
			return false
		}
		if s.to >= after {
			return true
		}
	}
	return false
}
