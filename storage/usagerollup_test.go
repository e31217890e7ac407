package storage

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestStrangeModel: what a request calls its model is in the event's column and in its
// term alike, or terms would outlive their events.
func TestStrangeModel(t *testing.T) { onBoth(t, testStrangeModel) }

func testStrangeModel(t *testing.T, dsn string) {
	db := openDB(t, dsn)
	models := []string{"a\xff\xff\x00b", "\uFFFD", strings.Repeat("ü", maxTerm), strings.Repeat("x", maxTerm-1) + "\xff", "plain"}
	events := someEvents(t, len(models))
	for i, m := range models {
		events[i].Model, events[i].Status = m, 503
	}
	if err := db.AppendEvents(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	find := func() {
		t.Helper()
		for i, m := range models {
			list, err := db.Requests(t.Context(), RequestFilter{Model: term(m), Limit: 10})
			if err != nil || len(list) != 1 || list[0].ID != events[i].ID {
				t.Errorf("model %q: %d requests, error %v", m, len(list), err)
			}
		}
	}
	find()
	if n, err := db.RollUp(t.Context(), 100); err != nil || n != len(models) {
		t.Fatalf("rolled up %d, error %v", n, err)
	}
	find()
	exec(t, db, `UPDATE events SET created_at = 0`)
	if n, err := db.DeleteOldEvents(t.Context(), time.Hour, 100); err != nil || n != int64(len(models)) {
		t.Fatalf("deleted %d, error %v", n, err)
	}
	c, err := db.open()
	if err != nil {
		t.Fatal(err)
	}
	var left int
	if err := c.reader.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM event_terms`).Scan(&left); err != nil || left != 0 {
		t.Errorf("%d terms are left, error %v", left, err)
	}
}

// TestRollUpAtOnce has many roll up at the same time: each event counts once, and who
// comes too late goes on behind the others.
func TestRollUpAtOnce(t *testing.T) { onBoth(t, testRollUpAtOnce) }

func testRollUpAtOnce(t *testing.T, dsn string) {
	nodes := []*DB{openDB(t, dsn), openDB(t, dsn)}
	const n = 600
	if err := nodes[0].AppendEvents(t.Context(), someEvents(t, n)); err != nil {
		t.Fatal(err)
	}
	var total atomic.Int64
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for {
				taken, err := nodes[w%2].RollUp(t.Context(), 50)
				if err != nil {
					t.Error(err)
				}
				if total.Add(int64(taken)); taken == 0 {
					return
				}
			}
		})
	}
	wg.Wait()
	rows, err := nodes[0].Usage(t.Context(), UsageFilter{})
	if err != nil || total.Load() != n || len(rows) != 1 || rows[0].Requests != n {
		t.Errorf("%d taken, want %d: %+v, error %v", total.Load(), n, rows, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	nodes[0].rolling <- struct{}{} // somebody is at it
	if _, err := nodes[0].RollUp(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for another roll-up: %v", err)
	}
	<-nodes[0].rolling
}
