package ledger_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
)

// TestAway serves requests without the database for as long as the lease lasts.
func TestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		l := start(t, b)
		a := account(ledger.Requests, project.Total)
		one := demand(a, 100_000, 1)
		hold(t, l, one).Settle(0)
		b.fails(errAway)
		began := time.Now()
		served := 0
		for ; time.Since(began) < time.Minute; time.Sleep(time.Second) {
			ticket := new(ledger.Ticket)
			r, err := l.Hold(t.Context(), []ledger.Demand{one}, ticket)
			if errors.Is(err, ledger.ErrUnavailable) && errors.Is(err, errAway) {
				break
			}
			if err != nil || r.Kind != ledger.Admitted {
				t.Fatal(r, err)
			}
			ticket.Settle(0)
			served++
		}
		if took := time.Since(began); took < 24*time.Second || took > 26*time.Second {
			t.Errorf("served for %s", took)
		}
		b.fails(nil)
		hold(t, l, one).Settle(0)
		time.Sleep(10 * time.Second)
		if row := b.row(a); row.Spent != int64(served)+2 || row.Leased != 0 || row.Forfeited != 0 {
			t.Errorf("served %d: %+v", served, row)
		}
	})
}

// TestReaped has a process lose its lease while it cannot reach the database.
func TestReaped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		alone := &cut{book: b}
		a := account(ledger.Money, project.Total)
		var forfeited atomic.Int64
		l := start(t, alone)
		start(t, b, func(c *ledger.Config) {
			c.OnForfeit = func(_ ledger.Account, n int64) { forfeited.Add(n) }
		})
		hold(t, l, demand(a, 1000, 100)).Settle(10)
		flying, costly := hold(t, l, demand(a, 1000, 50)), hold(t, l, demand(a, 1000, 20))
		alone.away.Store(true)
		time.Sleep(2 * time.Minute)
		row := b.row(a)
		if row.Leased != 0 || row.Forfeited != forfeited.Load() || row.Spent+row.Forfeited < 80 || row.Spent+row.Forfeited > 200 {
			t.Fatalf("%+v", row)
		}
		lost := row.Spent + row.Forfeited
		alone.away.Store(false)
		flying.Settle(50)
		time.Sleep(3 * time.Second)
		if row := b.row(a); row.Spent+row.Forfeited != lost || row.Leased != 0 {
			t.Errorf("what was forfeited is charged again: %+v, want %d", row, lost)
		}
		costly.Settle(25)
		time.Sleep(3 * time.Second)
		if row := b.row(a); row.Spent+row.Forfeited != lost+5 || row.Leased != 0 || b.broken != "" {
			t.Errorf("%+v, want %d %s", row, lost+5, b.broken)
		}
		hold(t, l, demand(a, 1000, 100)).Settle(100)
		time.Sleep(1500 * time.Millisecond)
		if row := b.row(a); row.Spent+row.Forfeited != lost+105 {
			t.Errorf("%+v, want %d", row, lost+105)
		}
	})
}

// cut is a node that may be cut off from the database.
type cut struct {
	*book
	away atomic.Bool
}

func (c *cut) ApplyLedger(ctx context.Context, holder uuid.UUID, ttl time.Duration, ops []ledger.Op, results []ledger.Result) (int64, error) {
	if c.away.Load() {
		return 0, errAway
	}
	return c.book.ApplyLedger(ctx, holder, ttl, ops, results)
}

func (c *cut) ReapLedger(ctx context.Context, grace time.Duration, limit int) ([]ledger.Forfeit, error) {
	if c.away.Load() {
		return nil, errAway
	}
	return c.book.ReapLedger(ctx, grace, limit)
}

// TestPatience does not have a request wait for a database that does not answer, nor
// for longer than its client does.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &faulty{book: newBook(), slow: 2 * time.Second}
		l := start(t, slow)
		one := []ledger.Demand{demand(account(ledger.Requests, project.Total), 100, 1)}
		began := time.Now()
		if _, err := l.Hold(t.Context(), one, new(ledger.Ticket)); !errors.Is(err, ledger.ErrUnavailable) || time.Since(began) != 1500*time.Millisecond {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.Hold(ctx, one, new(ledger.Ticket)); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		if row := slow.row(one[0].Account); row.Leased != 0 || row.Spent != 0 {
			t.Errorf("what nobody waited for is kept: %+v", row)
		}
	})
}

// TestCrash loses no more than the chunk, what is held, and what was settled since the
// last flush.
func TestCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		gone := &cut{book: b}
		l, err := ledger.New(ledger.Config{Store: gone})
		if err != nil {
			t.Fatal(err)
		}
		l.Start()
		start(t, b)
		a := account(ledger.Money, project.Total)
		for range 5 {
			hold(t, l, demand(a, 100_000, 5000)).Settle(100)
			time.Sleep(300 * time.Millisecond)
		}
		hold(t, l, demand(a, 100_000, 700))
		time.Sleep(1700 * time.Millisecond)
		hold(t, l, demand(a, 100_000, 300)).Settle(200)
		gone.away.Store(true)
		time.Sleep(59 * time.Second)
		if row := b.row(a); row.Forfeited != 0 || row.Leased == 0 {
			t.Errorf("reaped too early: %+v", row)
		}
		time.Sleep(15 * time.Second)
		row := b.row(a)
		// A chunk is a hundredth of the limit; what is held; what was settled.
		if most := int64(1000 + 700 + 300); row.Leased != 0 || row.Spent != 500 || row.Forfeited < 900 || row.Forfeited > most {
			t.Errorf("%+v, at most %d may be lost", row, most)
		}
		if err := l.Close(t.Context()); err == nil {
			t.Error("closed without the database")
		}
	})
}

// TestClose returns everything, and again nothing is forfeited.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		l, err := ledger.New(ledger.Config{Store: b})
		if err != nil {
			t.Fatal(err)
		}
		l.Start()
		l.Start()
		a := account(ledger.Money, project.Total)
		hold(t, l, demand(a, 100_000, 500)).Settle(100)
		flying := hold(t, l, demand(a, 100_000, 7))
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if row := b.row(a); row.Spent != 100 || row.Leased != 7 {
			t.Errorf("%+v", row)
		}
		if _, err := l.Hold(t.Context(), []ledger.Demand{demand(a, 100_000, 1)}, new(ledger.Ticket)); !errors.Is(err, ledger.ErrUnavailable) {
			t.Error(err)
		}
		flying.Settle(3)
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
		l.Start()

		never, err := ledger.New(ledger.Config{Store: b})
		if err != nil {
			t.Fatal(err)
		}
		if err := never.Close(t.Context()); err != nil {
			t.Error(err)
		}
		b.fails(errAway)
		away, err := ledger.New(ledger.Config{Store: b})
		if err != nil {
			t.Fatal(err)
		}
		away.Start()
		b.fails(nil)
		hold(t, away, demand(a, 100_000, 500)).Settle(100)
		b.fails(errAway)
		began := time.Now()
		if err := away.Close(t.Context()); err == nil || time.Since(began) > 10*time.Second {
			t.Error("closed without the database", err)
		}
	})
}
