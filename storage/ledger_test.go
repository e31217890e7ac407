package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// TestLedgerNodes spends a quota to the last request through three nodes at once, of
// which each has a database handle of its own, and loses commits now and then.
func TestLedgerNodes(t *testing.T) {
	t.Parallel()
	onBoth(t, testLedgerNodes)
}

func testLedgerNodes(t *testing.T, dsn string) {
	const limit = 150
	quota := ledger.Limit{Account: ledger.Account{Scope: ledger.Token, ID: uuid.Must(uuid.NewV7()), Unit: ledger.Requests, Period: project.Total}, Amount: limit, Version: 1}
	budget := ledger.Limit{Account: ledger.Account{Scope: ledger.Project, ID: uuid.Must(uuid.NewV7()), Unit: ledger.Money, Period: project.Day}, Amount: 1 << 40, Version: 1}
	var nodes []*ledger.Ledger
	for range 3 {
		l, err := ledger.New(ledger.Config{Store: &forgetful{DB: openDB(t, dsn)}})
		if err != nil {
			t.Fatal(err)
		}
		l.Start()
		defer l.Close(context.Background())
		nodes = append(nodes, l)
	}
	var sent, cost atomic.Int64
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			var ticket ledger.Ticket
			for n := 0; ; n++ {
				l := nodes[(i+n)%3]
				r, err := l.Hold(t.Context(), []ledger.Demand{{Limit: quota, Amount: 1}, {Limit: budget, Amount: 1 << 20}}, &ticket)
				switch {
				case errors.Is(err, ledger.ErrUnavailable):
					continue
				case err != nil:
					t.Error(err)
					return
				case r.Kind == ledger.Exceeded:
					return
				case r.Kind == ledger.InFlight: // as clients do, only sooner
					time.Sleep(50 * time.Millisecond)
					for _, l := range nodes {
						l.Recall(quota.Account)
					}
					continue
				}
				if n%4 == 0 {
					ticket.Release()
					continue
				}
				sent.Add(1)
				cost.Add(int64(n))
				ticket.Settle(int64(n))
			}
		})
	}
	wg.Wait()
	for _, l := range nodes {
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	db := openDB(t, dsn)
	start, _ := ledger.Span(project.Day, time.Now())
	rows, _, err := db.LedgerRows(t.Context(), []ledger.Key{{Account: quota.Account}, {Account: budget.Account, Start: start.UnixMicro()}})
	if err != nil || rows[0] == nil || rows[1] == nil {
		t.Fatal(rows, err)
	}
	if r := rows[0]; sent.Load() != limit || r.Spent != limit || r.Leased != 0 || r.Forfeited != 0 {
		t.Errorf("%d of %d were sent: %+v", sent.Load(), limit, r)
	}
	if r := rows[1]; r.Spent != cost.Load() || r.Leased != 0 || r.Forfeited != 0 {
		t.Errorf("the cost is %d: %+v", cost.Load(), r)
	}
}

// TestLedgerCondition has the database itself refuse what would exceed a limit.
func TestLedgerCondition(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, dsn string) {
		db := openDB(t, dsn)
		key := ledger.Key{Account: ledger.Account{Scope: ledger.Token, ID: uuid.Must(uuid.NewV7()), Unit: ledger.Requests, Period: project.Total}}
		op := []ledger.Op{{Key: key, Limit: 10, Version: 1, Fresh: true, Needs: []int64{6}}}
		if _, err := db.ApplyLedger(t.Context(), uuid.Must(uuid.NewV4()), time.Minute, op, make([]ledger.Result, 1)); err != nil {
			t.Fatal(err)
		}
		for grant, want := range map[int64]error{5: errLedgerCondition, 4: nil} {
			err := db.Update(t.Context(), func(tx *Tx) error {
				changes := []ledgerChange{{key: key}}
				now, err := tx.lockLedger(t.Context(), changes, op)
				if err != nil {
					return err
				}
				c := &changes[0]
				c.after, c.grant = c.before, grant
				c.after.Leased += grant
				if err := tx.writeLedger(t.Context(), changes, now); err != nil || want != nil {
					return err
				}
				return errors.New("not to be kept")
			})
			if (want != nil) != errors.Is(err, errLedgerCondition) {
				t.Errorf("a lease of %d besides one of 6 of 10: %v", grant, err)
			}
		}
	})
}

// addLedger leases a part of an account, of which it spends some.
func addLedger(t testing.TB, db *DB) ledger.Key {
	t.Helper()
	key := ledger.Key{Account: ledger.Account{Scope: ledger.Project, ID: uuid.Must(uuid.NewV7()), Unit: ledger.Money, Period: project.Month}, Start: 1 << 40}
	holder := uuid.Must(uuid.NewV4())
	for _, op := range []ledger.Op{
		{Key: key, Limit: 1 << 50, Version: 3, Fresh: true, Needs: []int64{70}},
		{Key: key, Limit: 1 << 50, Version: 3, Used: 20, Part: 50},
	} {
		if _, err := db.ApplyLedger(t.Context(), holder, time.Minute, []ledger.Op{op}, make([]ledger.Result, 1)); err != nil {
			t.Fatal(err)
		}
	}
	return key
}

// TestCopiedLease forfeits in a copy what a process may go on spending by the original.
func TestCopiedLease(t *testing.T) {
	t.Parallel()
	acrossKinds(t, func(t *testing.T, from, to string) {
		source := openDB(t, from)
		key := addLedger(t, source)
		if err := source.Close(); err != nil {
			t.Fatal(err)
		}
		mustCopy(t, from, to, CopyOptions{})
		db := openDB(t, to)
		for want, grace := range []time.Duration{time.Minute, -time.Hour} { // an hour has passed
			if list, err := db.ReapLedger(t.Context(), grace, 10); err != nil || len(list) != want {
				t.Errorf("%+v, %v, want %d", list, err, want)
			}
		}
		rows, _, err := db.LedgerRows(t.Context(), []ledger.Key{key})
		if err != nil || *rows[0] != (ledger.Row{Limit: 1 << 50, Version: 3, Spent: 20, Forfeited: 50}) {
			t.Errorf("%+v, %v", rows[0], err)
		}
	})
}

// forgetful does not hear of every seventh of its commits.
type forgetful struct {
	*DB
	commits atomic.Int64
}

func (f *forgetful) ApplyLedger(ctx context.Context, holder uuid.UUID, ttl time.Duration, ops []ledger.Op, results []ledger.Result) (int64, error) {
	now, err := f.DB.ApplyLedger(ctx, holder, ttl, ops, results)
	if err == nil && f.commits.Add(1)%7 == 0 {
		clear(results)
		return 0, errors.New("the connection broke")
	}
	return now, err
}

// BenchmarkApplyLedger flushes accounts that have spent something.
func BenchmarkApplyLedger(b *testing.B) {
	for _, dsn := range []string{"", testdb.Postgres(b)} {
		for _, n := range []int{1, 100} {
			b.Run(fmt.Sprintf("%s/%d", driverOf(dsn), n), func(b *testing.B) {
				db := openDB(b, dsn)
				holder := uuid.Must(uuid.NewV4())
				ops, results := make([]ledger.Op, n), make([]ledger.Result, n)
				for i := range ops {
					a := ledger.Account{Scope: ledger.Token, ID: uuid.Must(uuid.NewV7()), Unit: ledger.Money, Period: project.Total}
					ops[i] = ledger.Op{Key: ledger.Key{Account: a}, Limit: 1 << 50, Version: 1, Fresh: true, Needs: []int64{1 << 40}}
				}
				apply := func() {
					if _, err := db.ApplyLedger(b.Context(), holder, time.Minute, ops, results); err != nil {
						b.Fatal(err)
					}
				}
				apply()
				for b.Loop() {
					for i := range ops {
						ops[i].Fresh, ops[i].Needs, ops[i].Used, ops[i].Part = false, nil, results[i].Used+1, results[i].Part-1
					}
					apply()
				}
			})
		}
	}
}
