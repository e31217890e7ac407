package ledger_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
)

// TestPeriods rolls over in the middle of a request.
func TestPeriods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		b.ahead = 23 * time.Hour // midnight is the database's
		l := start(t, b)
		a := account(ledger.Money, project.Day)
		old := hold(t, l, demand(a, 100, 60))
		first := time.UnixMicro(b.now()).UTC().Truncate(24 * time.Hour)
		if r := refused(t, l, ledger.InFlight, demand(a, 100, 60)); !r.ResetsAt.Equal(first.Add(24 * time.Hour)) {
			t.Errorf("resets at %s", r.ResetsAt)
		}
		time.Sleep(time.Until(first.Add(24 * time.Hour).Add(-b.ahead)))
		hold(t, l, demand(a, 100, 60)).Settle(50)
		old.Settle(60)
		time.Sleep(5 * time.Second)
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.rows) != 2 {
			t.Fatalf("%d rows", len(b.rows))
		}
		for k, row := range b.rows {
			want := int64(60)
			if k.Start != first.UnixMicro() {
				want = 50
			}
			if row.Spent != want || row.Leased != 0 {
				t.Errorf("%d: %+v", k.Start, row)
			}
		}
	})
}

// TestSpan has the beginnings of periods.
func TestSpan(t *testing.T) {
	const layout = "2006-01-02T15:04"
	for _, test := range []struct {
		at, start, end string
		period         project.Period
	}{
		{"2026-03-01T23:59", "2026-03-01T00:00", "2026-03-02T00:00", project.Day},
		{"2026-03-01T23:59", "2026-02-23T00:00", "2026-03-02T00:00", project.Week},
		{"2026-03-02T00:00", "2026-03-02T00:00", "2026-03-09T00:00", project.Week},
		{"2026-12-31T00:00", "2026-12-01T00:00", "2027-01-01T00:00", project.Month},
		{"2024-02-29T12:00", "2024-02-01T00:00", "2024-03-01T00:00", project.Month},
		{"2024-02-29T12:00", "1970-01-01T00:00", "0001-01-01T00:00", project.Total},
	} {
		at, err := time.Parse(layout, test.at)
		if err != nil {
			t.Fatal(err)
		}
		start, end := ledger.Span(test.period, at.In(time.FixedZone("east", 7*3600)))
		if start.Format(layout) != test.start || end.Format(layout) != test.end {
			t.Errorf("%s of %s: %s to %s", test.period, test.at, start, end)
		}
	}
}

// TestClock takes periods from a database whose clock is set, though not from an
// answer that took long.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &faulty{book: newBook()}
		l := start(t, slow)
		a := account(ledger.Money, project.Day)
		resets := func() time.Time {
			t.Helper()
			list, err := l.Balances(t.Context(), []ledger.Limit{demand(a, 10, 0).Limit})
			if err != nil {
				t.Fatal(err)
			}
			return list[0].ResetsAt
		}
		today := resets()
		set := func(pause time.Duration) {
			slow.mu.Lock()
			slow.slow = pause
			slow.mu.Unlock()
			slow.book.mu.Lock()
			slow.book.ahead += 24 * time.Hour
			slow.book.mu.Unlock()
			hold(t, l, demand(account(ledger.Money, project.Total), 10, 1)).Release()
		}
		set(0)
		if got := resets(); !got.Equal(today.Add(24 * time.Hour)) {
			t.Errorf("resets at %s, a day after %s was it", got, today)
		}
		set(100 * time.Millisecond)
		if got := resets(); !got.Equal(today.Add(24 * time.Hour)) {
			t.Errorf("resets at %s, by an answer that took long", got)
		}
		time.Sleep(15 * time.Second)
		set(100 * time.Millisecond)
		if got := resets(); !got.Equal(today.Add(72 * time.Hour)) {
			t.Errorf("resets at %s, want two days later", got)
		}
	})
}
