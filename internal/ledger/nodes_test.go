package ledger_test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
)

// TestExact spends a quota to the last request, with three nodes and clients that come
// again when they are told to.
func TestExact(t *testing.T) {
	for _, limit := range []int64{1, 7, 100, 1000} {
		synctest.Test(t, func(t *testing.T) {
			b := newBook()
			nodes := []*ledger.Ledger{start(t, b), start(t, b), start(t, b)}
			a := account(ledger.Requests, project.Total)
			var sent atomic.Int64
			var wg sync.WaitGroup
			for i := range 30 {
				wg.Go(func() {
					var ticket ledger.Ticket
					for n := 0; ; n++ {
						r, err := nodes[(i+n)%3].Hold(t.Context(), []ledger.Demand{demand(a, limit, 1)}, &ticket)
						switch {
						case err != nil:
							t.Error(err)
							return
						case r.Kind == ledger.Exceeded:
							return
						case r.Kind == ledger.InFlight:
							time.Sleep(time.Second)
							continue
						}
						time.Sleep(time.Duration(i) * time.Millisecond)
						if n%5 == 0 { // refused by another check
							ticket.Release()
							continue
						}
						sent.Add(1)
						ticket.Settle(0)
					}
				})
			}
			wg.Wait()
			time.Sleep(5 * time.Second)
			if row := b.row(a); sent.Load() != limit || row.Spent != limit || row.Leased != 0 || b.broken != "" {
				t.Errorf("%d of %d were sent: %+v %s", sent.Load(), limit, row, b.broken)
			}
			for _, l := range nodes {
				if l.Leases() != 0 {
					t.Error("leases are kept")
				}
			}
		})
	}
}

// TestLowered has a lease come back within a second when the limit is lowered, and the
// node that has it does not know.
func TestLowered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		l, other := start(t, b), start(t, b)
		a := account(ledger.Money, project.Total)
		busy := func() { hold(t, l, demand(a, 100_000, 10)).Release() }
		busy()
		low := demand(a, 600, 10)
		low.Version = 2
		refused(t, other, ledger.InFlight, low)
		for range 12 { // it is never idle
			busy()
			time.Sleep(100 * time.Millisecond)
		}
		busy()
		if row := b.row(a); row.Limit != 600 || row.Room() < 0 {
			t.Errorf("%+v", row)
		}
		hold(t, other, low).Settle(10)
		if r := refused(t, l, ledger.HoldTooLarge, demand(a, 100_000, 700)); r.Limit != 600 {
			t.Errorf("%+v", r)
		}
		if b.broken != "" {
			t.Error(b.broken)
		}
	})
}

// TestRecall has a busy node give back what another one lacks, at its next word with
// the database, or at once if it is told.
func TestRecall(t *testing.T) {
	for _, told := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newBook()
			l, other := start(t, b), start(t, b)
			a := account(ledger.Money, project.Day)
			hold(t, l, demand(a, 100_000, 900)).Release()
			if row := b.row(a); row.Leased < 1800 {
				t.Fatalf("%+v", row)
			}
			rest := demand(a, 100_000, 99_000)
			refused(t, other, ledger.InFlight, rest)
			if told {
				l.Recall(a)
				l.Recall(account(ledger.Money, project.Total))
				synctest.Wait()
			} else {
				time.Sleep(1100 * time.Millisecond)
			}
			if row := b.row(a); row.Leased != 0 {
				t.Errorf("told %t: %+v", told, row)
			}
			time.Sleep(time.Second)
			hold(t, other, rest).Settle(1)
		})
	}
}

// TestManyAccounts has thousands of accounts share transactions, and forgets them.
func TestManyAccounts(t *testing.T) {
	const many = 1500
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		slow := &faulty{book: b, slow: 5 * time.Millisecond}
		l := start(t, slow)
		var wg sync.WaitGroup
		for range many {
			wg.Go(func() {
				a := account(ledger.Money, project.Day)
				for range 3 {
					hold(t, l, demand(a, 1_000_000, 10)).Settle(5)
				}
			})
		}
		wg.Wait()
		if n := l.Leases(); n != many {
			t.Errorf("%d leases", n)
		}
		if n := b.count(); n > many/20 {
			t.Errorf("%d transactions for %d accounts", n, many)
		}
		time.Sleep(6 * time.Second)
		if n := l.Leases(); n != 0 {
			t.Errorf("%d leases are kept", n)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		for k, row := range b.rows {
			if row.Spent != 15 || row.Leased != 0 {
				t.Fatalf("%v: %+v", k, row)
			}
		}
	})
}

// TestThresholds tells of each threshold once, whoever crosses it.
func TestThresholds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		var mu sync.Mutex
		var told []int
		hear := func(c *ledger.Config) {
			c.OnThreshold = func(_ ledger.Account, percent int, balance ledger.Balance) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, percent)
				if balance.Used*100 < int64(percent)*balance.Limit {
					t.Errorf("%d percent: %+v", percent, balance)
				}
			}
		}
		nodes := []*ledger.Ledger{start(t, b, hear), start(t, b, hear)}
		a := account(ledger.Money, project.Total)
		for i := range 20 {
			hold(t, nodes[i%2], demand(a, 1000, 50)).Settle(50)
			time.Sleep(3 * time.Second)
		}
		mu.Lock()
		defer mu.Unlock()
		if len(told) != 3 || told[0] != 50 || told[1] != 80 || told[2] != 100 {
			t.Errorf("told of %v", told)
		}
	})
}

// TestThresholdOfExhaustion: a budget is used up once what is left is too little for a
// request that it would have been enough for, and not before.
func TestThresholdOfExhaustion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []int
		var used int64
		l := start(t, newBook(), func(c *ledger.Config) {
			c.OnThreshold = func(_ ledger.Account, percent int, balance ledger.Balance) {
				mu.Lock()
				defer mu.Unlock()
				told, used = append(told, percent), balance.Used
			}
		})
		heard := func(want ...int) {
			t.Helper()
			time.Sleep(3 * time.Second)
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(told, want) {
				t.Errorf("told of %v, want %v", told, want)
			}
		}
		a := account(ledger.Money, project.Total)
		hold(t, l, demand(a, 1000, 400)).Settle(400)
		refused(t, l, ledger.Exceeded, demand(a, 1000, 700)) // while more than half is left
		heard()
		hold(t, l, demand(a, 1000, 400)).Settle(150)
		heard(50)
		refused(t, l, ledger.HoldTooLarge, demand(a, 1000, 1001))
		under := hold(t, l, demand(a, 1000, 400))
		refused(t, l, ledger.InFlight, demand(a, 1000, 100)) // it may fit in a moment
		heard(50)
		under.Settle(10)
		heard(50)
		refused(t, l, ledger.Exceeded, demand(a, 1000, 450))
		heard(50, 100)
		if used != 560 {
			t.Errorf("%d used when it was told of", used)
		}
		refused(t, l, ledger.Exceeded, demand(a, 1000, 450))
		hold(t, l, demand(a, 1000, 400)).Settle(400)
		heard(50, 100)
	})
}

// TestThresholdsOfRaisedLimit: a limit that was raised has thresholds of its own, and is
// told of at each of them; one that was lowered, at none of which was told before.
func TestThresholdsOfRaisedLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []int64 // percent, of which limit
		l := start(t, newBook(), func(c *ledger.Config) {
			c.OnThreshold = func(_ ledger.Account, percent int, balance ledger.Balance) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, int64(percent), balance.Limit)
			}
		})
		a := account(ledger.Money, project.Total)
		for i, step := range []struct{ limit, spends int64 }{{100, 80}, {100, 20}, {1000, 400}, {1000, 300}, {1000, 100}, {950, 50}, {2000, 700}} {
			d := demand(a, step.limit, step.spends)
			d.Version = int64(i + 1)
			hold(t, l, d).Settle(step.spends)
			time.Sleep(3 * time.Second)
		}
		mu.Lock()
		defer mu.Unlock()
		if want := []int64{80, 100, 100, 100, 50, 1000, 80, 1000, 100, 950, 80, 2000}; !slices.Equal(told, want) {
			t.Errorf("told of %v, want %v", told, want)
		}
	})
}
