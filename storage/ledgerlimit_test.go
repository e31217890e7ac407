package storage

import (
	"fmt"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
)

// addLimited makes a project with both kinds of limits, and says what they are.
func addLimited(t *testing.T, db *DB) (*project.Project, []ledger.Op) {
	t.Helper()
	quota, budget := int64(1000), usd.Amount(1_000_000)
	p := &project.Project{Name: "limited"}
	p.Policy.MaxRequests, p.Policy.BudgetUSD = &quota, &budget
	if err := db.Update(t.Context(), func(tx *Tx) error { return tx.CreateProject(t.Context(), p) }); err != nil {
		t.Fatal(err)
	}
	key := func(u ledger.Unit) ledger.Key {
		return ledger.Key{Account: ledger.Account{Scope: ledger.Project, ID: p.ID, Unit: u, Period: project.Total}}
	}
	return p, []ledger.Op{
		{Key: key(ledger.Money), Limit: int64(budget), Version: p.Version, Fresh: true},
		{Key: key(ledger.Requests), Limit: quota, Version: p.Version, Fresh: true},
	}
}

// setProjectLimits changes a project's limits as the management API does.
func (db *DB) setProjectLimits(t *testing.T, id uuid.UUID, quota, budget int64) error {
	return db.Update(t.Context(), func(tx *Tx) error {
		p, err := tx.Project(t.Context(), id)
		if err != nil {
			return err
		}
		amount := usd.Amount(budget)
		p.Policy.MaxRequests, p.Policy.BudgetUSD = &quota, &amount
		return tx.UpdateProject(t.Context(), p)
	})
}

// TestLedgerLockOrder: who changes limits and who spends wait for the same row first,
// and have none of the other's while they do. So neither ever waits for the other in a
// circle, which PostgreSQL would have to break.
func TestLedgerLockOrder(t *testing.T) {
	t.Parallel()
	dsn := newPostgresDSN(t)
	raw, db := rawPostgres(t, dsn), openDB(t, dsn)
	p, ops := addLimited(t, db)
	charge := func() error {
		_, err := db.ApplyLedger(t.Context(), uuid.Must(uuid.NewV4()), time.Minute, ops, make([]ledger.Result, len(ops)))
		return err
	}
	if err := charge(); err != nil { // which makes the rows
		t.Fatal(err)
	}
	for name, run := range map[string]func() error{
		"limits are changed":   func() error { return db.setProjectLimits(t, p.ID, 2000, 2_000_000) },
		"requests are charged": charge,
	} {
		holder, err := raw.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := holder.Exec(`SELECT 1 FROM ledger WHERE scope_id = $1 AND unit = $2 FOR UPDATE`, p.ID, ledger.Money.String()); err != nil {
			t.Fatal(err)
		}
		result := make(chan error, 1)
		go func() { result <- run() }()
		eventually(t, "somebody waits: "+name, func() bool {
			var n int
			err := raw.QueryRow(`SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`).Scan(&n)
			return err == nil && n == 1
		})
		var free int
		query := `SELECT COUNT(*) FROM (SELECT 1 FROM ledger WHERE scope_id = $1 AND unit = $2 FOR UPDATE SKIP LOCKED) AS rows`
		if err := raw.QueryRow(query, p.ID, ledger.Requests.String()).Scan(&free); err != nil || free != 1 {
			t.Errorf("when %s and the first row is taken, the second is as well: %v", name, err)
		}
		if err := holder.Rollback(); err != nil {
			t.Fatal(err)
		}
		if err := <-result; err != nil {
			t.Errorf("when %s: %v", name, err)
		}
	}
}

// TestRaisedLimitAlerts: what was told of a limit does not count for a higher one.
func TestRaisedLimitAlerts(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, dsn string) {
		db := openDB(t, dsn)
		p, ops := addLimited(t, db)
		holder, results := uuid.Must(uuid.NewV4()), make([]ledger.Result, 1)
		spend := func(op ledger.Op) string {
			if _, err := db.ApplyLedger(t.Context(), holder, time.Minute, []ledger.Op{op}, results); err != nil {
				t.Fatal(err)
			}
			return fmt.Sprint(results[0].Alert, " of ", results[0].Row.Limit)
		}
		op := ops[1]
		op.Needs = []int64{900}
		if got := spend(op); got != "0 of 1000" {
			t.Fatal(got)
		}
		op.Fresh, op.Needs = false, nil
		for _, step := range []struct {
			limit, spent int64 // limit 0: it stays
			want         string
		}{{0, 800, "80 of 1000"}, {900, 800, "0 of 900"}, {1700, 820, "0 of 1700"}, {0, 860, "50 of 1700"}, {0, 870, "0 of 1700"}} {
			if step.limit > 0 {
				if err := db.setProjectLimits(t, p.ID, step.limit, 1_000_000); err != nil {
					t.Fatal(err)
				}
			}
			op.Used, op.Part = step.spent, 900-step.spent // of a version that its node does not know to be old
			if got := spend(op); got != step.want {
				t.Errorf("%d are spent: %s, want %s", step.spent, got, step.want)
			}
		}
	})
}
