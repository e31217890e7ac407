//go:build unix

package storage

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// crowd is who makes requests: the same again and again, as rows of terms and sums
// are shared then.
type crowd struct {
	projects [20]uuid.UUID
	tokens   [500]uuid.UUID
	made     int
}

func newCrowd() *crowd {
	c := new(crowd)
	for i := range c.projects {
		c.projects[i] = uuid.Must(uuid.NewV7())
	}
	for i := range c.tokens {
		c.tokens[i] = uuid.Must(uuid.NewV7())
	}
	return c
}

// events are n more requests: most answered by the cache, one in fifty refused.
func (c *crowd) events(n int) []*event.Event {
	events := make([]*event.Event, n)
	for i := range events {
		at := c.made * 7919 % len(c.tokens)
		e := &event.Event{
			ID: uuid.Must(uuid.NewV7()), Time: time.Now().UTC().Truncate(time.Microsecond), Method: "POST", Endpoint: "/v1/chat/completions",
			ProjectID: c.projects[at%len(c.projects)], TokenID: c.tokens[at], Provider: "openai",
			Model: []string{"gpt-4o", "gpt-4.1-mini", "claude-sonnet-4-5", "gemini-2.5-pro"}[at%4], ResponseModel: "gpt-4o-2024-08-06",
			Status: 200, Outcome: "ok", Attempts: 1, Cache: "miss", Latency: 1234567891, TTFT: 345678912, Overhead: 87654,
			BytesIn: 1234, BytesOut: 5678, InputTokens: event.Known(321), CachedTokens: event.Known(0), OutputTokens: event.Known(123),
			UsageSource: event.UsageProvider, CostNanoUSD: event.Known(2032500), PriceVersion: "2026-11-01",
		}
		switch {
		case c.made%50 == 0:
			e.Status, e.Outcome, e.Code = 429, "refused", "rate_limit_exceeded"
		case c.made%4 == 0:
			e.UpstreamRequestID, e.Stream = "req_0123456789abcdef0123456789abcdef", true
		default:
			e.Cache, e.Attempts, e.SavedTokens, e.CostNanoUSD = "hit", 0, 444, event.Known(0)
		}
		events[i] = e
		c.made++
	}
	return events
}

// BenchmarkEventLog says what one event costs from the log's hand-over until it is
// summed up and can be searched, in batches as they come at different rates.
func BenchmarkEventLog(b *testing.B) {
	for _, name := range []string{"sqlite", "postgres"} {
		for _, size := range []struct{ batch, rolled int }{{160, 160}, {160, 8000}, {1000, 1000}, {1000, 8000}} {
			b.Run(fmt.Sprintf("%s/%d-%d", name, size.batch, size.rolled), func(b *testing.B) {
				var db *DB
				if name == "sqlite" {
					db = openDB(b, filepath.Join(b.TempDir(), "x.db"))
				} else {
					db = openDB(b, testdb.Postgres(b))
				}
				c := newCrowd()
				const history = 20000 // pages that are there already
				for range history / 1000 {
					if err := db.AppendEvents(b.Context(), c.events(1000)); err != nil {
						b.Fatal(err)
					}
				}
				rollAll(b, db)
				var append, roll, appendCPU, rollCPU time.Duration
				events, waiting := 0, 0
				measure := func(wall, cpu *time.Duration, do func()) {
					began, used := time.Now(), cpuTime(b)
					do()
					*wall += time.Since(began)
					*cpu += cpuTime(b) - used
				}
				for b.Loop() {
					batch := c.events(size.batch)
					measure(&append, &appendCPU, func() {
						if err := db.AppendEvents(b.Context(), batch); err != nil {
							b.Fatal(err)
						}
					})
					events += size.batch
					if waiting += size.batch; waiting >= size.rolled {
						waiting = 0
						measure(&roll, &rollCPU, func() { rollAll(b, db) })
					}
				}
				measure(&roll, &rollCPU, func() { rollAll(b, db) })
				for name, spent := range map[string]time.Duration{"append-ns/event": append, "rollup-ns/event": roll,
					"append-cpu-ns/event": appendCPU, "rollup-cpu-ns/event": rollCPU} {
					b.ReportMetric(float64(spent.Nanoseconds())/float64(events), name)
				}
			})
		}
	}
}

// cpuTime is what this process has used, for the operating system too.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func rollAll(b *testing.B, db *DB) {
	b.Helper()
	const limit = 5000
	for taken := limit; taken == limit; {
		var err error
		if taken, err = db.RollUp(b.Context(), limit); err != nil {
			b.Fatal(err)
		}
	}
}
