package storetest

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

const leaseTime = time.Minute

// apply carries out operations that must succeed.
func (b *bundle) apply(holder uuid.UUID, ttl time.Duration, ops ...ledger.Op) []ledger.Result {
	b.t.Helper()
	results := make([]ledger.Result, len(ops))
	if _, err := b.ApplyLedger(b.t.Context(), holder, ttl, ops, results); err != nil {
		b.t.Fatal(err)
	}
	return results
}

func (b *bundle) rows(keys ...ledger.Key) []*ledger.Row {
	b.t.Helper()
	rows, now, err := b.LedgerRows(b.t.Context(), keys)
	if err != nil || time.Since(time.UnixMicro(now)).Abs() > time.Minute {
		b.t.Fatal(time.UnixMicro(now), err)
	}
	return rows
}

func (b *bundle) reap(grace time.Duration, limit int) []ledger.Forfeit {
	b.t.Helper()
	list, err := b.ReapLedger(b.t.Context(), grace, limit)
	if err != nil {
		b.t.Fatal(err)
	}
	return list
}

func quota(t *testing.T) ledger.Key {
	return ledger.Key{Account: ledger.Account{Scope: ledger.Token, ID: newID(t), Unit: ledger.Requests, Period: project.Total}}
}

// testLedger takes a lease through its life.
func testLedger(t *testing.T, b *bundle) {
	k, holder, other := quota(t), newID(t), newID(t)
	if rows := b.rows(k); rows[0] != nil {
		t.Errorf("a row nobody made: %+v", rows[0])
	}
	op := ledger.Op{Key: k, Limit: 1000, Version: 1, Fresh: true, Needs: []int64{1}}
	r := b.apply(holder, leaseTime, op)[0]
	equal(t, "leased", r, ledger.Result{Row: ledger.Row{Limit: 1000, Version: 1, Leased: 11}, Part: 11, Granted: 11, Chunk: 10})

	// Repeated, it is the same lease: the first one was never heard of.
	again := b.apply(holder, leaseTime, op)[0]
	equal(t, "leased again", again.Row, r.Row)

	flush := ledger.Op{Key: k, Limit: 1000, Version: 1, Used: 4, Part: 7, Free: 7}
	want := ledger.Row{Limit: 1000, Version: 1, Spent: 4, Leased: 7}
	for range 2 {
		equal(t, "flushed", b.apply(holder, leaseTime, flush)[0], ledger.Result{Row: want, Part: 7, Used: 4})
	}
	equal(t, "row", *b.rows(k)[0], want)

	// Another process leases the rest, as far as it needs it, and is refused more.
	r = b.apply(other, leaseTime, ledger.Op{Key: k, Limit: 1000, Version: 1, Fresh: true, Needs: []int64{980, 10}})[0]
	equal(t, "other lease", []int64{r.Part, r.Refused, r.Row.Leased}, []int64{980, 10, 987})
	if !r.Wanted || r.Row.WantedAt == 0 || r.Alert != 0 {
		t.Errorf("nothing is wanted: %+v", r)
	}
	r = b.apply(holder, leaseTime, ledger.Op{Key: k, Limit: 1000, Version: 1, Used: 5, Part: 0})[0]
	if r.Row.WantedAt == 0 || r.Wanted || r.Row.Leased != 980 || r.Row.Spent != 5 {
		t.Errorf("returned: %+v", r)
	}

	// A lower limit is in force; an older one is not.
	r = b.apply(other, leaseTime, ledger.Op{Key: k, Limit: 900, Version: 3, Used: 800, Part: 180, Free: 180})[0]
	equal(t, "lowered", []int64{r.Row.Limit, r.Row.Version, r.Row.Room(), r.Alert}, []int64{900, 3, -85, 80})
	r = b.apply(holder, leaseTime, ledger.Op{Key: k, Limit: 1000, Version: 2, Used: 5, Needs: []int64{1}, Refill: true})[0]
	equal(t, "refused", []int64{r.Granted, r.Refused, r.Row.Limit}, []int64{0, 1, 900})

	// A provider that bills more than was held is charged for all of it.
	r = b.apply(other, leaseTime, ledger.Op{Key: k, Limit: 900, Version: 3, Used: 1200, Part: 3})[0]
	equal(t, "beyond", r.Row, ledger.Row{Limit: 900, Version: 3, Spent: 1205, Leased: 3, WantedAt: r.Row.WantedAt, Alerted: 100})
	equal(t, "alert", r.Alert, int64(100))
}

// testLedgerReaping has leases end, and their holders come back.
func testLedgerReaping(t *testing.T, b *bundle) {
	k, gone, here := quota(t), newID(t), newID(t)
	lease := func(holder uuid.UUID, ttl time.Duration, need int64) {
		t.Helper()
		r := b.apply(holder, ttl, ledger.Op{Key: k, Limit: 50, Version: 1, Fresh: true, Needs: []int64{need}})[0]
		equal(t, "part", r.Part, need)
	}
	lease(gone, -time.Hour, 10)
	lease(here, leaseTime, 5)
	if list := b.reap(2*time.Hour, 10); len(list) != 0 {
		t.Errorf("ended too early: %+v", list)
	}
	equal(t, "ended", b.reap(time.Minute, 10), []ledger.Forfeit{{Key: k, Holder: gone, Amount: 10}})
	equal(t, "ended again", len(b.reap(time.Minute, 10)), 0)
	want := ledger.Row{Limit: 50, Version: 1, Forfeited: 10, Leased: 5}
	equal(t, "row", *b.rows(k)[0], want)

	r := b.apply(gone, leaseTime, ledger.Op{Key: k, Limit: 50, Version: 1, Used: 7, Part: 3, Needs: []int64{1}})[0]
	equal(t, "its holder comes back", r, ledger.Result{Row: want, Gone: true})
	equal(t, "row", *b.rows(k)[0], want)

	// A lease that everything was returned of ends without a trace, in small steps.
	var keys []ledger.Key
	for range 7 {
		k := quota(t)
		keys = append(keys, k)
		b.apply(gone, -time.Hour, ledger.Op{Key: k, Limit: 50, Version: 1, Fresh: true, Needs: []int64{2}})
		b.apply(gone, -time.Hour, ledger.Op{Key: k, Limit: 50, Version: 1, Used: 2})
	}
	for range 4 {
		equal(t, "forfeited", len(b.reap(time.Minute, 2)), 0)
	}
	for _, k := range keys {
		if r := b.apply(gone, leaseTime, ledger.Op{Key: k, Limit: 50, Version: 1, Used: 2})[0]; !r.Gone || r.Row.Spent != 2 {
			t.Errorf("a lease that was to end: %+v", r)
		}
	}
}

// testLedgerBatch carries out many operations at once, as if one after the other.
func testLedgerBatch(t *testing.T, b *bundle) {
	holder := newID(t)
	var ops []ledger.Op
	for i := range 133 {
		k := quota(t)
		k.Unit, k.Period, k.Start = ledger.Money, []project.Period{project.Day, project.Month}[i%2], int64(i%3)*86_400_000_000
		ops = append(ops, ledger.Op{Key: k, Limit: int64(100 * i), Version: 1, Fresh: true, Needs: []int64{100}})
	}
	for round := range int64(3) {
		var keys []ledger.Key
		for i, r := range b.apply(holder, leaseTime, ops...) {
			var granted, refused int64 = 100 + int64(min(i, 50*(i-1-int(round)))), 0
			if round > 0 {
				granted = 100
			}
			if int64(i) < round+1 {
				granted, refused = 0, 100
			}
			if round == 0 && r.Refused != refused || r.Refused == 0 && r.Granted < granted {
				t.Errorf("round %d, account %d: %+v", round, i, r)
			}
			ops[i].Fresh, ops[i].Used = false, r.Used+r.Part
			if ops[i].Used > ops[i].Limit {
				t.Errorf("round %d, account %d: more than its limit", round, i)
			}
			keys = append(keys, ops[i].Key)
		}
		for i, row := range b.rows(keys...) {
			if row == nil || row.Room() < 0 || row.Limit != int64(100*i) {
				t.Errorf("round %d, account %d: %+v", round, i, row)
			}
		}
	}
}

// testLedgerLimits sets limits of tokens and projects, which those who do not know yet
// must keep as well.
func testLedgerLimits(t *testing.T, b *bundle) {
	ctx := t.Context()
	p := b.project("p")
	tok := b.token(p, "t")
	now := time.Now()
	key := func(scope ledger.Scope, id uuid.UUID, unit ledger.Unit, period project.Period, at time.Time) ledger.Key {
		start, _ := ledger.Span(period, at)
		return ledger.Key{Account: ledger.Account{Scope: scope, ID: id, Unit: unit, Period: period}, Start: start.UnixMicro()}
	}
	requests := key(ledger.Token, tok.ID, ledger.Requests, project.Total, now)
	day := key(ledger.Token, tok.ID, ledger.Money, project.Day, now)
	_, end := ledger.Span(project.Day, now)
	tomorrow := key(ledger.Token, tok.ID, ledger.Money, project.Day, end)
	month := key(ledger.Project, p.ID, ledger.Money, project.Month, now)
	before := key(ledger.Token, tok.ID, ledger.Money, project.Day, now.AddDate(0, 0, -2))

	stranger := newID(t)
	stale := func(k ledger.Key, version int64) *ledger.Row {
		t.Helper()
		r := b.apply(stranger, leaseTime, ledger.Op{Key: k, Limit: 1_000_000, Version: version, Fresh: true})[0]
		return &r.Row
	}
	equal(t, "yesterday's limit", stale(before, 1).Limit, int64(1_000_000))
	limits := func(quota int64, budget usd.Amount, period project.Period) {
		t.Helper()
		b.update(func(tx *storage.Tx) error {
			tok.Policy.Limits = project.Limits{MaxRequests: &quota, BudgetUSD: &budget, BudgetPeriod: period}
			p.Policy.Limits = project.Limits{BudgetUSD: &budget, BudgetPeriod: project.Month}
			if err := tx.UpdateToken(ctx, tok); err != nil {
				return err
			}
			return tx.UpdateProject(ctx, p)
		})
	}
	for _, amount := range []int64{5, 3, 9} {
		limits(amount, usd.Amount(amount*10), project.Day)
		for _, k := range []ledger.Key{requests, day, tomorrow, month} {
			row, want := stale(k, 1), amount
			if k.Unit == ledger.Money {
				want *= 10
			}
			if row.Limit != want || row.Version < 2 {
				t.Errorf("a node that does not know yet leases %s of a %s up to %d, want %d", k.Unit, k.Scope, row.Limit, want)
			}
		}
	}
	limits(9, 20, project.Week)
	equal(t, "the old period's", stale(day, 1).Limit, int64(20))
	equal(t, "the past one's", stale(before, 1).Limit, int64(1_000_000))
	equal(t, "the new period's", stale(key(ledger.Token, tok.ID, ledger.Money, project.Week, now), 1).Limit, int64(20))
	b.update(func(tx *storage.Tx) error { // without a limit nothing is refused
		tok.Policy.Limits = project.Limits{}
		return tx.UpdateToken(ctx, tok)
	})
	equal(t, "no limit", stale(requests, 1).Limit, int64(9))
}

// testLedgerConcurrency has processes lease at once, and others reap their leases.
// What they spend never exceeds the limit.
func testLedgerConcurrency(t *testing.T, b *bundle) {
	const limit = 300
	keys := []ledger.Key{quota(t), quota(t), quota(t)}
	slices.SortFunc(keys, func(a, b ledger.Key) int { return a.Compare(&b) })
	used := make([]int64, len(keys))
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 6 {
				holder := uuid.Must(uuid.NewV4())
				ops := make([]ledger.Op, len(keys))
				for i := range ops {
					ops[i] = ledger.Op{Key: keys[i], Limit: limit, Version: 1, Fresh: true}
				}
				for range 3 {
					for i := range ops {
						ops[i].Needs = []int64{rand.Int64N(20) + 1, rand.Int64N(5) + 1}
					}
					results := make([]ledger.Result, len(ops))
					_, err := b.ApplyLedger(t.Context(), holder, -time.Hour, ops, results)
					if err == nil {
						_, err = b.ReapLedger(t.Context(), 0, 100)
					}
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					for i, r := range results {
						if ops[i].Fresh = r.Gone; r.Gone {
							ops[i].Used = 0
							continue
						}
						used[i] += r.Part // all of it is spent
						ops[i].Used = r.Used + r.Part
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	b.reap(0, 1000)
	for i, row := range b.rows(keys...) {
		if row.Spent+row.Forfeited > limit || row.Leased != 0 || used[i] > row.Spent+row.Forfeited {
			t.Errorf("spent %d: %+v", used[i], row)
		}
		if row.Spent+row.Forfeited < limit-25 {
			t.Errorf("little was leased: %+v", row)
		}
	}
}

// testLedgerCleaning deletes what nobody will look at any more.
func testLedgerCleaning(t *testing.T, b *bundle) {
	ctx := t.Context()
	tok := b.token(b.project("p"), "t")
	money := func(id uuid.UUID, period project.Period, at time.Time) ledger.Key {
		start, _ := ledger.Span(period, at)
		return ledger.Key{Account: ledger.Account{Scope: ledger.Token, ID: id, Unit: ledger.Money, Period: period}, Start: start.UnixMicro()}
	}
	now := time.Now()
	past := now.AddDate(0, -3, 0)
	old, leased, forever, current := money(tok.ID, project.Day, past), money(tok.ID, project.Week, past), money(tok.ID, project.Total, past), money(tok.ID, project.Month, now)
	stranger, busy := money(newID(t), project.Total, now), money(newID(t), project.Day, now)
	keys := []ledger.Key{old, leased, forever, current, stranger, busy}
	for _, k := range keys {
		op := ledger.Op{Key: k, Limit: 50, Version: 1, Fresh: true}
		if k == leased || k == busy {
			op.Needs = []int64{5}
		}
		b.apply(newID(t), leaseTime, op)
	}
	for _, want := range []int64{0, 1, 1, 0} {
		age := time.Hour
		if want > 0 {
			age = time.Microsecond
		}
		n, err := b.DeleteOldLedger(ctx, age, 1)
		if err != nil || n != want {
			t.Errorf("deleted %d, want %d, error %v", n, want, err)
		}
	}
	if n, err := b.DeleteOldLedger(ctx, time.Microsecond, 10); err != nil || n != 0 {
		t.Errorf("deleted %d of what is in use, error %v", n, err)
	}
	for i, row := range b.rows(keys...) {
		if gone := keys[i] == old || keys[i] == stranger; gone != (row == nil) {
			t.Errorf("%+v: %+v", keys[i], row)
		}
	}
	if _, err := b.DeleteOldLedger(ctx, 0, 10); err == nil {
		t.Error("an age of zero deletes rows")
	}
}
