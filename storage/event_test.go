package storage

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

var _ delivery.Store = (*DB)(nil)
var _ event.Store = (*DB)(nil)

// someEvents makes events of a few projects and many tokens, as long as they are in
// earnest.
func someEvents(t testing.TB, n int) []*event.Event {
	t.Helper()
	events := make([]*event.Event, n)
	var projects [20]uuid.UUID
	var tokens [500]uuid.UUID
	for i := range projects {
		projects[i] = uuid.Must(uuid.NewV7())
	}
	for i := range tokens {
		tokens[i] = uuid.Must(uuid.NewV7())
	}
	for i := range events {
		events[i] = &event.Event{
			ID: uuid.Must(uuid.NewV7()), Time: time.Now().UTC().Truncate(time.Microsecond), Method: "POST", Endpoint: "/v1/chat/completions",
			UpstreamRequestID: "req_0123456789abcdef0123456789abcdef", ProjectID: projects[i*7%len(projects)], TokenID: tokens[i*31%len(tokens)],
			Provider: "openai", Model: []string{"gpt-4o", "gpt-4.1-mini", "claude-sonnet-4-5", "gemini-2.5-pro"}[i%4], ResponseModel: "gpt-4o-2024-08-06",
			Status: 200, Outcome: "ok", Stream: true, Attempts: 1, Cache: "miss", Latency: 1234567891, TTFT: 345678912, Overhead: 87654,
			BytesIn: 1234, BytesOut: 5678, InputTokens: event.Known(321), CachedTokens: event.Known(0), OutputTokens: event.Known(123), UsageSource: event.UsageProvider,
			CostNanoUSD: event.Known(2032500), PriceVersion: "2026-11-01",
		}
	}
	return events
}

// TestPostgresEventGap has a transaction that is not over hide what comes after it.
func TestPostgresEventGap(t *testing.T) {
	dsn := newPostgresDSN(t)
	db := openDB(t, dsn)
	events := someEvents(t, 4)
	seen := func() (n int, last int64) {
		t.Helper()
		list, err := db.ReadEvents(t.Context(), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			last = e.Seq
		}
		return len(list), last
	}
	if err := db.AppendEvents(t.Context(), events[:1]); err != nil {
		t.Fatal(err)
	}
	for _, undo := range []error{nil, errors.New("undo")} {
		before, last := seen()
		inside, end := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			err := db.Update(t.Context(), func(tx *Tx) error {
				if err := db.dialect.joinEvents(t.Context(), tx.tx); err != nil {
					return err
				}
				args, err := eventArgs(someEvents(t, 1))
				if err != nil {
					return err
				}
				if _, err := tx.tx.ExecContext(t.Context(), `INSERT INTO events (id, created_at, project_id, token_id, provider, model, status, outcome, payload)
					VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`, args...); err != nil {
					return err
				}
				close(inside)
				<-end
				return undo
			})
			if !errors.Is(err, undo) {
				t.Error(err)
			}
		})
		<-inside
		if err := db.AppendEvents(t.Context(), someEvents(t, 2)); err != nil {
			t.Fatal(err)
		}
		if n, _ := seen(); n != before {
			t.Errorf("%d events are seen beside an open transaction, want %d", n, before)
		}
		if n, err := db.RollUp(t.Context(), 100); err != nil || undo == nil && n != before || undo != nil && n != 0 {
			t.Errorf("%d events rolled up beside an open transaction, error %v", n, err)
		}
		// One that appends nothing is in nobody's way.
		other := rawPostgres(t, dsn)
		tx, err := other.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(`INSERT INTO leases (name, owner, expires_at) VALUES ('x', 'y', 1)`); err != nil {
			t.Fatal(err)
		}
		close(end)
		wg.Wait()
		want := before + 3
		if undo != nil {
			want--
		}
		if n, now := seen(); n != want || now <= last {
			t.Errorf("%d events are seen, want %d", n, want)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if n, err := db.RollUp(t.Context(), 100); err != nil || n != want-before {
			t.Errorf("%d events rolled up, error %v", n, err)
		}
	}
}

// TestEventsFollowed has writers of two nodes at it, and readers that follow.
func TestEventsFollowed(t *testing.T) { onBoth(t, testEventsFollowed) }

func testEventsFollowed(t *testing.T, dsn string) {
	const writers, batches, size = 4, 25, 13
	nodes := []*DB{openDB(t, dsn), openDB(t, dsn)}
	var done atomic.Bool
	var writing, reading sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for range batches {
				if err := nodes[w%2].AppendEvents(t.Context(), someEvents(t, size)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for r := range 2 {
		reading.Go(func() {
			var position int64
			var n int
			for {
				last := done.Load()
				list, err := nodes[r].ReadEvents(t.Context(), position, 50)
				if err != nil {
					t.Error(err)
					return
				}
				for _, e := range list {
					if e.Seq <= position {
						t.Errorf("number %d after %d", e.Seq, position)
					}
					position = e.Seq
				}
				n += len(list)
				if last && len(list) == 0 {
					break
				}
			}
			if n != writers*batches*size {
				t.Errorf("a reader saw %d events, want %d", n, writers*batches*size)
			}
		})
	}
	writing.Wait()
	done.Store(true)
	reading.Wait()
}

// TestRollUpKilled has two processes compete for the roll-up, kills them in the
// middle of it, and compares the sums.
func TestRollUpKilled(t *testing.T) { onBoth(t, testRollUpKilled) }

func testRollUpKilled(t *testing.T, dsn string) {
	const n = 1500
	db := openDB(t, dsn)
	events := someEvents(t, n)
	for part := range slices.Chunk(events, 500) {
		if err := db.AppendEvents(t.Context(), part); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		var wg sync.WaitGroup
		for range 2 {
			cmd, _, stdout := startChild(t, "roll up", dsn)
			wg.Go(func() {
				for lines := bufio.NewScanner(stdout); lines.Scan(); {
					if lines.Text() == "10" {
						break
					}
				}
				if err := cmd.Process.Kill(); err != nil {
					t.Error(err)
				}
				_ = cmd.Wait() // it was killed
			})
		}
		wg.Wait()
	}
	half, err := db.Usage(t.Context(), UsageFilter{})
	if err != nil || half[0].Requests == 0 || half[0].Requests >= n {
		t.Fatalf("the children rolled up %+v, error %v", half, err)
	}
	for {
		taken, err := db.RollUp(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		if taken == 0 {
			break
		}
	}
	want := UsageRow{Usage: Usage{Requests: n, InputTokens: n * 321, OutputTokens: n * 123, CostNanoUSD: n * 2032500}}
	if got, err := db.Usage(t.Context(), UsageFilter{}); err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("usage is %+v, want %+v, error %v", got, want, err)
	}
	found, err := db.Requests(t.Context(), RequestFilter{ProjectID: events[0].ProjectID, Limit: n})
	if err != nil || len(found) != n/20 {
		t.Errorf("%d requests of a project, want %d, error %v", len(found), n/20, err)
	}
}

// rollUpChild rolls up for as long as it lives, and says each time that it did.
func rollUpChild(db *DB) error {
	if err := db.Open(context.Background()); err != nil {
		return err
	}
	for i := 1; ; i++ {
		if _, err := db.RollUp(context.Background(), 10); err != nil {
			return err
		}
		fmt.Println(i)
	}
}

// TestDamagedEvent leaves out what this program did not write.
func TestDamagedEvent(t *testing.T) { onBoth(t, testDamagedEvent) }

func testDamagedEvent(t *testing.T, dsn string) {
	db := openDB(t, dsn)
	events := someEvents(t, 6)
	if err := db.AppendEvents(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	exec(t, db, `UPDATE events SET payload = '{"id":"x"}' WHERE id <> $1`, events[0].ID)
	// The four after the first are no end of the log, and no end of the list.
	exec(t, db, `UPDATE events SET payload = $1 WHERE id = $2`, string(events[5].AppendJSON(nil)), events[5].ID)
	for _, limit := range []int{1, 2, 100} {
		var got []uuid.UUID
		for position := int64(0); ; {
			list, err := db.ReadEvents(t.Context(), position, limit)
			if err != nil {
				t.Fatal(err)
			}
			if len(list) == 0 {
				break
			}
			for _, e := range list {
				position = e.Seq
				got = append(got, e.Event.ID)
			}
		}
		if want := []uuid.UUID{events[0].ID, events[5].ID}; !slices.Equal(got, want) {
			t.Errorf("limit %d: read %v, want %v", limit, got, want)
		}
		page, err := db.Requests(t.Context(), RequestFilter{Limit: min(limit, 2)})
		if err != nil || len(page) != min(limit, 2) {
			t.Errorf("%d requests, error %v", len(page), err)
		}
	}
	if n, err := db.RollUp(t.Context(), 100); err != nil || n != 2 {
		t.Errorf("rolled up %d, error %v", n, err)
	}
	var bad *damagedRowError
	if _, err := db.EventByID(t.Context(), events[2].ID); !errors.As(err, &bad) {
		t.Errorf("a damaged event: %v", err)
	}
}

// BenchmarkAppendEvents says how many events a second are committed.
func BenchmarkAppendEvents(b *testing.B) {
	for name, dsn := range map[string]string{"sqlite": filepath.Join(b.TempDir(), "x.db"), "postgres": testdb.Postgres(b)} {
		for _, size := range []int{100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				db := openDB(b, dsn)
				batches := make([][]*event.Event, b.N)
				for i := range batches {
					batches[i] = someEvents(b, size)
				}
				b.ResetTimer()
				for _, batch := range batches {
					if err := db.AppendEvents(b.Context(), batch); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}

// BenchmarkRollUp says how many events a second are summed up and made searchable.
func BenchmarkRollUp(b *testing.B) {
	for name, dsn := range map[string]string{"sqlite": filepath.Join(b.TempDir(), "x.db"), "postgres": testdb.Postgres(b)} {
		b.Run(name, func(b *testing.B) {
			db := openDB(b, dsn)
			for range b.N {
				if err := db.AppendEvents(b.Context(), someEvents(b, 1000)); err != nil {
					b.Fatal(err)
				}
			}
			b.ResetTimer()
			for n := 0; n < b.N*1000; {
				taken, err := db.RollUp(b.Context(), 5000)
				if err != nil {
					b.Fatal(err)
				}
				n += taken
			}
			b.ReportMetric(float64(b.N*1000)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
