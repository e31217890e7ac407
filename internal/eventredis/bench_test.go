package eventredis_test

import (
	"context"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/eventredis"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// nowhere is a database that forgets, and whose leases another node has.
type nowhere struct{}

func (nowhere) AppendEvents(context.Context, []*event.Event) error { return nil }

func (nowhere) TryLease(context.Context, string, string, time.Duration) (bool, error) {
	return false, nil
}

func (nowhere) ReleaseLease(context.Context, string, string) error { return nil }

// typical fills in what an event usually has.
func typical(events []*event.Event) []*event.Event {
	for _, e := range events {
		e.ProjectID, e.TokenID, e.UpstreamRequestID = e.ID, e.ID, "req_0123456789abcdef0123456789abcdef"
		e.ResponseModel, e.Outcome, e.OutputTokens, e.CachedTokens = "gpt-4o-2024-08-06", "ok", event.Known(812), event.Known(0)
		e.Metadata = map[string]string{"team": "search", "environment": "production"}
	}
	return events
}

// BenchmarkAppend appends batches of 1,000 events, as an [event.Log] does under
// load, to a Redis that writes them to its file.
func BenchmarkAppend(b *testing.B) {
	for name, options := range map[string][]string{"no AOF": nil, "everysec": {"--appendonly", "yes"}, "always": {"--appendonly", "yes", "--appendfsync", "always"}} {
		b.Run(name, func(b *testing.B) {
			const batch = 1000
			server := testdb.StartRedis(b, options...)
			n := start(b, server.URL(), nowhere{}, func(c *eventredis.Config) { c.Leases, c.MaxBytes = nowhere{}, 1<<40 })
			waitFor(b, "Redis is used", n.used)
			var m made
			events := typical(m.some(batch))
			for i := 0; b.Loop(); i++ {
				if err := n.AppendEvents(b.Context(), events); err != nil {
					b.Fatal(err)
				}
				if i%100 == 99 { // as if they were moved
					b.StopTimer()
					n.conn.Client().XTrimMaxLen(b.Context(), testKey, 0)
					b.StartTimer()
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(n.Stats().Appended)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(n.Stats().Bypassed)/float64(batch*b.N), "bypassed/event")
			n.conn.Client().Del(b.Context(), testKey) // or it is read at the end
		})
	}
}

// BenchmarkMove moves events from the stream into a database.
func BenchmarkMove(b *testing.B) {
	for _, driver := range []string{"sqlite", "postgres"} {
		b.Run(driver, func(b *testing.B) {
			const batch = 1000
			dsn := b.TempDir() + "/events.db"
			if driver == "postgres" {
				dsn = testdb.Postgres(b)
			}
			db := &gated{Database: openSQL(b, driver, dsn)}
			db.shut.Store(true)
			n := start(b, testdb.StartRedis(b, "--appendonly", "yes").URL(), db)
			waitFor(b, "Redis is used", n.used)
			var m made
			total := 0
			for b.Loop() {
				b.StopTimer()
				for range 20 {
					if err := n.AppendEvents(b.Context(), typical(m.some(batch))); err != nil {
						b.Fatal(err)
					}
					total += batch
				}
				b.StartTimer()
				db.shut.Store(false)
				waitFor(b, "all is moved", func() bool { return n.Stats().Moved >= int64(total) })
				db.shut.Store(true)
			}
			b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
