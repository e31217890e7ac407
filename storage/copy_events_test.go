package storage

import (
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
)

// addEvents makes events that are rolled up, one that a sink does not take, and
// deletes those that everybody has read.
func addEvents(t testing.TB, db *DB) {
	t.Helper()
	ctx := t.Context()
	if _, err := db.OpenCursor(ctx, "sink", true); err != nil {
		t.Fatal(err)
	}
	if err := db.AppendEvents(ctx, someEvents(t, 50)); err != nil {
		t.Fatal(err)
	}
	if _, err := db.RollUp(ctx, 1000); err != nil {
		t.Fatal(err)
	}
	entries, err := db.ReadEvents(ctx, 0, 1000)
	if err != nil || len(entries) != 50 {
		t.Fatalf("%d events, %v", len(entries), err)
	}
	dead := []delivery.DeadLetter{{Seq: entries[7].Seq, Event: entries[7].Event, Reason: "nö", Attempts: 3}}
	if _, err := db.AdvanceCursor(ctx, "sink", 0, entries[49].Seq, dead); err != nil {
		t.Fatal(err)
	}
}

// TestCopyContinuesTheLog appends to a copy whose readers are past all events that
// there still are.
func TestCopyContinuesTheLog(t *testing.T) { onPairs(t, testCopyContinuesTheLog) }

func testCopyContinuesTheLog(t *testing.T, from, to string) {
	ctx := t.Context()
	db := openDB(t, from)
	addEvents(t, db)
	if err := db.Update(ctx, func(tx *Tx) error {
		_, err := tx.tx.ExecContext(ctx, `DELETE FROM events`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	db.Close()
	mustCopy(t, from, to, CopyOptions{})
	if n := mustCopy(t, from, to, CopyOptions{}); n != 0 {
		t.Errorf("a second copy wrote %d rows", n)
	}
	target := openDB(t, to)
	position, err := target.OpenCursor(ctx, "sink", true)
	if err != nil || position == 0 {
		t.Fatal(position, err)
	}
	if err := target.AppendEvents(ctx, someEvents(t, 3)); err != nil {
		t.Fatal(err)
	}
	entries, err := target.ReadEvents(ctx, position, 10)
	if err != nil || len(entries) != 3 {
		t.Errorf("the sink sees %d of 3 events, %v", len(entries), err)
	}
	if taken, err := target.RollUp(ctx, 10); err != nil || taken != 3 {
		t.Errorf("%d of 3 events rolled up, %v", taken, err)
	}
}
