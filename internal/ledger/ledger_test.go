package ledger_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
)

const dollar = 1_000_000_000

// TestBudget follows one budget until nothing is left.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		l := start(t, b)
		a := account(ledger.Money, project.Total)
		one := demand(a, 10*dollar, 1*dollar)
		hold(t, l, one).Settle(dollar / 2)
		first := b.count()
		for range 3 { // what the first one left, and a chunk of a hundredth
			hold(t, l, demand(a, 10*dollar, dollar/10)).Release()
		}
		if n := b.count(); n != first {
			t.Errorf("%d transactions, want %d: there is a lease", n, first)
		}
		r := refused(t, l, ledger.HoldTooLarge, demand(a, 10*dollar, 10*dollar+1))
		if r.Limit != 10*dollar {
			t.Errorf("%+v", r)
		}
		nine := hold(t, l, demand(a, 10*dollar, 9*dollar))
		r = refused(t, l, ledger.InFlight, one)
		if r.Used != dollar/2 || r.Limit != 10*dollar || r.Used+r.Held+r.Available != r.Limit || r.Available >= dollar || r.Held < 9*dollar {
			t.Errorf("%+v", r)
		}
		nine.Settle(ledger.Unknown)
		nine.Settle(0)
		nine.Release()
		time.Sleep(time.Second)
		r = refused(t, l, ledger.Exceeded, one)
		if r.Used != 9*dollar+dollar/2 || r.Available != dollar/2 || !r.ResetsAt.IsZero() {
			t.Errorf("%+v", r)
		}
		hold(t, l, demand(a, 10*dollar, dollar/2)).Settle(dollar / 2)
		refused(t, l, ledger.Exceeded, demand(a, 10*dollar, 1))
		time.Sleep(5 * time.Second)
		if row := b.row(a); row.Spent != 10*dollar || row.Leased != 0 || row.Forfeited != 0 {
			t.Errorf("%+v", row)
		}
		if n := l.Leases(); n != 0 {
			t.Errorf("%d entries are kept", n)
		}
	})
}

// TestAllOrNothing has one of several accounts refuse.
func TestAllOrNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		l := start(t, b)
		quota, budget, whole := account(ledger.Requests, project.Total), account(ledger.Money, project.Day), account(ledger.Money, project.Month)
		whole.Scope = ledger.Project
		all := []ledger.Demand{demand(whole, 50, 10), demand(quota, 3, 1), demand(budget, 25, 10)}
		hold(t, l, all...).Settle(10)
		hold(t, l, all...).Settle(10)
		time.Sleep(time.Second)
		for range 3 {
			if r := refused(t, l, ledger.Exceeded, all...); r.Account != budget || time.Until(r.ResetsAt) > 24*time.Hour {
				t.Errorf("%+v", r)
			}
		}
		time.Sleep(4 * time.Second)
		for a, want := range map[ledger.Account]int64{quota: 2, budget: 20, whole: 20} {
			if row := b.row(a); row.Spent != want || row.Leased != 0 {
				t.Errorf("%s: %+v, want %d", a.Unit, row, want)
			}
		}
		hold(t, l, all[1])
		r := refused(t, l, ledger.InFlight, all[1])
		if r.Account != quota || r.Held != 1 {
			t.Errorf("%+v", r)
		}
	})
}

// TestDemands refuses demands that make no sense.
func TestDemands(t *testing.T) {
	l := start(t, newBook())
	a := account(ledger.Requests, project.Total)
	for name, demands := range map[string][]ledger.Demand{
		"twice":    {demand(a, 1, 1), demand(a, 2, 1)},
		"five":     make([]ledger.Demand, 5),
		"empty":    {{}},
		"period":   {demand(account(ledger.Money, "year"), 1, 1)},
		"negative": {demand(a, 1, -1)},
		"limit":    {demand(a, -1, 0)},
	} {
		if r, err := l.Hold(t.Context(), demands, new(ledger.Ticket)); err == nil || r.Kind != ledger.Admitted {
			t.Errorf("%s: %+v", name, r)
		}
	}
	ticket := hold(t, l, demand(a, 5, 1))
	if _, err := l.Hold(t.Context(), []ledger.Demand{demand(a, 5, 1)}, ticket); err == nil {
		t.Error("a ticket holds twice")
	}
	ticket.Release()
	if r, err := l.Hold(t.Context(), nil, ticket); err != nil || r.Kind != ledger.Admitted || ticket.Holds() {
		t.Error(r, err)
	}
	if _, err := ledger.New(ledger.Config{}); err == nil {
		t.Error("a ledger without database")
	}
	if r := refused(t, l, ledger.Exceeded, demand(account(ledger.Requests, project.Total), 0, 1)); r.Limit != 0 {
		t.Error(r)
	}
}

// TestRetries settles each attempt that may be billed at its hold, and the request once.
func TestRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		l := start(t, b)
		quota, budget := account(ledger.Requests, project.Total), account(ledger.Money, project.Total)
		ticket := hold(t, l, demand(quota, 10, 1), demand(budget, 100, 30))
		for range 2 {
			if r, err := l.Again(t.Context(), ticket); err != nil || r.Kind != ledger.Admitted || ticket.Held() != 30 {
				t.Fatal(r, err)
			}
		}
		if r, err := l.Again(t.Context(), ticket); err != nil || r.Kind != ledger.InFlight || !ticket.Holds() {
			t.Fatal(r, err)
		}
		ticket.Settle(7)
		if r, err := l.Again(t.Context(), ticket); err != nil || r.Kind != ledger.Admitted || ticket.Holds() || ticket.Held() != 0 {
			t.Error("a settled ticket holds again")
		}
		time.Sleep(5 * time.Second)
		if q, m := b.row(quota), b.row(budget); q.Spent != 1 || m.Spent != 67 || q.Leased+m.Leased != 0 {
			t.Errorf("%+v, %+v", q, m)
		}
	})
}

// TestOvershoot charges in full what a provider bills beyond a hold.
func TestOvershoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		var over atomic.Int64
		l := start(t, b, func(c *ledger.Config) { c.OnOvershoot = func(_ ledger.Account, nano int64) { over.Add(nano) } })
		a := account(ledger.Money, project.Total)
		other := hold(t, l, demand(a, 100, 40))
		hold(t, l, demand(a, 100, 10)).Settle(75)
		time.Sleep(2 * time.Second)
		if row := b.row(a); over.Load() != 65 || row.Spent != 75 || row.Leased != 40 || row.Room() >= 0 {
			t.Errorf("overshoot %d, %+v", over.Load(), row)
		}
		refused(t, l, ledger.Exceeded, demand(a, 100, 30))
		other.Settle(1 << 62)
		time.Sleep(2 * time.Second)
		if row := b.row(a); row.Spent != 75+1<<50 || row.Leased != 0 || b.broken != "" {
			t.Errorf("%+v %s", row, b.broken)
		}
	})
}

// TestBalances tells what a client may still spend.
func TestBalances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		l, other := start(t, b), start(t, b)
		a, unused := account(ledger.Money, project.Month), account(ledger.Requests, project.Total)
		limits := []ledger.Limit{demand(a, 1000, 0).Limit, demand(unused, 5, 0).Limit}
		hold(t, l, demand(a, 1000, 100)).Settle(60)
		hold(t, l, demand(a, 1000, 50))
		hold(t, other, demand(a, 1000, 30))
		list, err := l.Balances(t.Context(), limits)
		if err != nil || len(list) != 2 {
			t.Fatal(list, err)
		}
		got := list[0]
		if got.Used != 60 || got.Held < 80 || got.Held > 110 || got.Available != 1000-got.Used-got.Held || got.ResetsAt.Day() != 1 || got.Limit != 1000 {
			t.Errorf("%+v", got)
		}
		if list[1] != (ledger.Balance{Account: unused, Limit: 5, Available: 5}) {
			t.Errorf("%+v", list[1])
		}
		b.fails(errAway)
		if _, err := l.Balances(t.Context(), limits); !errors.Is(err, ledger.ErrUnavailable) {
			t.Error(err)
		}
		b.fails(nil)
		if list, err := l.Balances(t.Context(), nil); err != nil || len(list) != 0 {
			t.Error(list, err)
		}
	})
}

// TestSettleMeanwhile settles while the database is being told what was settled before.
func TestSettleMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		slow := &faulty{book: b}
		l := start(t, slow)
		a := account(ledger.Money, project.Total)
		first, second := hold(t, l, demand(a, 100, 50)), hold(t, l, demand(a, 100, 50))
		slow.mu.Lock()
		slow.slow = 100 * time.Millisecond
		slow.mu.Unlock()
		first.Settle(40)
		time.Sleep(1050 * time.Millisecond)
		second.Settle(49)
		time.Sleep(200 * time.Millisecond)
		refused(t, l, ledger.Exceeded, demand(a, 100, 12))
		hold(t, l, demand(a, 100, 11)).Settle(11)
		time.Sleep(5 * time.Second)
		if row := b.row(a); row.Spent != 100 || row.Leased != 0 || b.broken != "" {
			t.Errorf("%+v %s", row, b.broken)
		}
	})
}
