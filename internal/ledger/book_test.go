package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
)

// book is a database: what a lock on each row makes of one, storetest holds the real
// ones to. It can fail before and after it has done something.
type book struct {
	mu      sync.Mutex
	rows    map[ledger.Key]*ledger.Row
	leases  map[ledger.Key]map[uuid.UUID]*ledger.Lease
	ahead   time.Duration // of this machine's clock
	applied int           // transactions
	broken  string        // an invariant that did not hold

	fault func(done bool) error // nil: it works
}

var errAway = errors.New("the database is away")

func newBook() *book {
	return &book{rows: make(map[ledger.Key]*ledger.Row), leases: make(map[ledger.Key]map[uuid.UUID]*ledger.Lease)}
}

func (b *book) now() int64 { return time.Now().Add(b.ahead).UnixMicro() }

// fails has everything fail from now on, or nothing.
func (b *book) fails(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault = func(bool) error { return err }
}

func (b *book) fail(done bool) error {
	if b.fault == nil {
		return nil
	}
	return b.fault(done)
}

func (b *book) ApplyLedger(ctx context.Context, holder uuid.UUID, ttl time.Duration, ops []ledger.Op, results []ledger.Result) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := b.fail(false); err != nil {
		return 0, err
	}
	b.applied++
	for i := range ops {
		op := &ops[i]
		if b.rows[op.Key] == nil {
			b.rows[op.Key] = &ledger.Row{Limit: op.Limit, Version: op.Version}
			b.leases[op.Key] = make(map[uuid.UUID]*ledger.Lease)
		}
		lease, others := &ledger.Lease{}, 0
		for id, l := range b.leases[op.Key] {
			if id == holder {
				lease = l
			} else if l.Part() > 0 && l.ExpiresAt > b.now() {
				others++
			}
		}
		results[i] = op.Decide(b.rows[op.Key], lease, others, b.now(), ttl)
		if lease.Exists {
			b.leases[op.Key][holder] = lease
		}
		b.check(&op.Key, results[i].Granted > 0)
	}
	if err := b.fail(true); err != nil {
		clear(results)
		return 0, err
	}
	return b.now(), nil
}

// check looks whether the leases of a row sum up, and are within the limit.
func (b *book) check(k *ledger.Key, granted bool) {
	row := b.rows[*k]
	var sum int64
	for _, l := range b.leases[*k] {
		if l.Part() < 0 {
			b.broken = fmt.Sprintf("a lease of less than nothing: %+v", l)
		}
		sum += l.Part()
	}
	if sum != row.Leased {
		b.broken = fmt.Sprintf("leases of %d in %+v", sum, row)
	}
	if granted && row.Room() < 0 {
		b.broken = fmt.Sprintf("granted beyond the limit: %+v", row)
	}
}

func (b *book) LedgerRows(_ context.Context, keys []ledger.Key) ([]*ledger.Row, int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fail(false); err != nil {
		return nil, 0, err
	}
	rows := make([]*ledger.Row, len(keys))
	for i, k := range keys {
		if r := b.rows[k]; r != nil {
			row := *r
			rows[i] = &row
		}
	}
	return rows, b.now(), nil
}

func (b *book) ReapLedger(_ context.Context, grace time.Duration, limit int) ([]ledger.Forfeit, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fail(false); err != nil {
		return nil, err
	}
	var list []ledger.Forfeit
	for k, leases := range b.leases {
		for id, l := range leases {
			if l.ExpiresAt >= b.now()-grace.Microseconds() || limit == 0 {
				continue
			}
			limit--
			if lost := l.Reap(b.rows[k], 0); lost > 0 {
				list = append(list, ledger.Forfeit{Key: k, Holder: id, Amount: lost})
			}
			delete(leases, id)
		}
	}
	return list, b.fail(true)
}

// count is how many transactions there were.
func (b *book) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.applied
}

// row is a copy of an account's only row.
func (b *book) row(a ledger.Account) ledger.Row {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k, r := range b.rows {
		if k.Account == a {
			return *r
		}
	}
	return ledger.Row{}
}

// start makes a ledger that is closed when the test ends.
func start(t testing.TB, b ledger.Store, options ...func(*ledger.Config)) *ledger.Ledger {
	t.Helper()
	cfg := ledger.Config{Store: b}
	for _, o := range options {
		o(&cfg)
	}
	l, err := ledger.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.Start()
	t.Cleanup(func() {
		if err := l.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l
}

func account(unit ledger.Unit, period project.Period) ledger.Account {
	return ledger.Account{Scope: ledger.Token, ID: uuid.Must(uuid.NewV7()), Unit: unit, Period: period}
}

// demand is one of a limit.
func demand(a ledger.Account, limit, amount int64) ledger.Demand {
	return ledger.Demand{Limit: ledger.Limit{Account: a, Amount: limit, Version: 1}, Amount: amount}
}

// hold holds, which must work.
func hold(t testing.TB, l *ledger.Ledger, demands ...ledger.Demand) *ledger.Ticket {
	t.Helper()
	ticket := new(ledger.Ticket)
	if r, err := l.Hold(t.Context(), demands, ticket); err != nil || r.Kind != ledger.Admitted {
		t.Fatalf("refused: %+v, error %v", r, err)
	}
	return ticket
}

// refused is a hold that must not work.
func refused(t testing.TB, l *ledger.Ledger, kind ledger.Kind, demands ...ledger.Demand) ledger.Refusal {
	t.Helper()
	ticket := new(ledger.Ticket)
	r, err := l.Hold(t.Context(), demands, ticket)
	if err != nil || r.Kind != kind || ticket.Holds() {
		t.Fatalf("%+v, error %v, want kind %d", r, err, kind)
	}
	return r
}
