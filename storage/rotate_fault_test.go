package storage

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

// TestRotateKilled kills a rotation between batches and in the middle of one.
func TestRotateKilled(t *testing.T) { onBoth(t, testRotateKilled) }

func testRotateKilled(t *testing.T, dsn string) {
	k := makeKeyed(t, dsn, 350, 20)
	resealed := int64(0)
	for _, role := range []string{"rotate", "rotate inside"} {
		cmd, _, stdout := startChild(t, role, dsn)
		if line, err := stdout.ReadString('\n'); line != "blocked\n" {
			t.Fatalf("child said %q, %v", line, err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Error("child ended by itself")
		}
		k.intact(testKey(2), testKey(1))
		db := openDB(t, dsn, testKey(2), testKey(1))
		status, err := db.EncryptionStatus(t.Context())
		if err != nil || status.Rows() != k.rows() || status.Older() == 0 {
			t.Fatalf("after %s: %+v, %v", role, status, err)
		}
		now := status.Rows() - status.Older()
		if role == "rotate" && now != 201 || role != "rotate" && now != resealed {
			t.Errorf("after %s %d rows are re-sealed, %d before", role, now, resealed)
		}
		resealed = now
		db.Close()
	}
	db := openDB(t, dsn, testKey(2), testKey(1))
	if report := rotate(t, db); report.Resealed != k.rows()-resealed || !report.Clean() {
		t.Errorf("going on: %+v", report)
	}
	db.Close()
	k.intact(testKey(2))
}

// rotateChild rotates and stops for good: once two batches of provider keys are
// done, or inside the next transaction.
func rotateChild(dsn string, inside bool) error {
	ring, err := secret.NewKeyring(testKey(2), testKey(1))
	if err != nil {
		return err
	}
	db, err := New(Config{Driver: driverOf(dsn), DSN: dsn, Keyring: ring})
	if err != nil {
		return err
	}
	if err := db.Open(context.Background()); err != nil {
		return err
	}
	block := func() {
		fmt.Println("blocked")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}
	r := &rotation{db: db, progress: func(p RotateProgress) {
		if p.Resealed >= 201 {
			block()
		}
	}}
	if inside {
		r.progress, r.beforeCommit = nil, block
	}
	_, err = r.run(context.Background())
	return err
}

// TestRotateLosesToWriters changes rows between their being read and written.
func TestRotateLosesToWriters(t *testing.T) { inTurn(t, testRotateLosesToWriters) }

func testRotateLosesToWriters(t *testing.T, dsn string) {
	k := makeKeyed(t, dsn, 120, 0)
	db := openDB(t, dsn, testKey(2), testKey(1))
	old := openDB(t, dsn) // a node that does not know the new key yet
	write := func(through *DB, n int, text string) {
		t.Helper()
		s := secret.NewValue(text)
		err := through.Update(t.Context(), func(tx *Tx) error { return tx.UpdateKey(t.Context(), &k.keys[n], &s) })
		if err != nil {
			t.Error(err)
		}
	}
	r := &rotation{db: db, report: RotateReport{}}
	for _, place := range sealedPlaces {
		rows, err := r.read(t.Context(), place, true, "")
		if err != nil {
			t.Fatal(err)
		}
		if place.table == "provider_keys" {
			write(db, 3, "sk-new-3")
			write(old, 4, "sk-new-4")
			err := db.Update(t.Context(), func(tx *Tx) error { return tx.DeleteKey(t.Context(), k.project.ID, k.keys[5].ID) })
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := r.reseal(t.Context(), place, rows); err != nil {
			t.Fatal(err)
		}
	}
	if r.report.Resealed != 98 { // of 100 in a batch, three lost and one pepper won
		t.Errorf("%+v", r.report)
	}
	// What comes after is found in the same rotation, at its end.
	once := sync.OnceFunc(func() { write(old, 0, "sk-new-0") })
	report, err := db.Rotate(t.Context(), func(p RotateProgress) {
		if p.Seen > 100 {
			once()
		}
	})
	if err != nil || !report.Clean() || report.Resealed != 22 {
		t.Errorf("%+v, %v", report, err)
	}
	snapshot, err := db.LoadProject(t.Context(), k.project.ID)
	if err != nil || len(snapshot.Credentials) != 119 {
		t.Fatal(err)
	}
	for _, c := range snapshot.Credentials {
		n := slices.IndexFunc(k.keys, func(key project.Key) bool { return key.ID == c.KeyID })
		want := keySecret(n)
		if n == 0 || n == 3 || n == 4 {
			want = fmt.Sprint("sk-new-", n)
		}
		if c.Err != nil || c.Secret.Reveal() != want {
			t.Errorf("key %d: %v, %q", n, c.Err, c.Secret.Reveal())
		}
	}
	// Somebody who keeps writing under the old key is reported.
	report, err = db.Rotate(t.Context(), func(p RotateProgress) {
		if p.Table == "provider_keys" {
			write(old, 0, "sk-newer-0")
		}
	})
	if err != nil || report.Older != 1 || report.Clean() {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestRotateUnderLoad rotates many rows while others read and write.
func TestRotateUnderLoad(t *testing.T) { onBoth(t, testRotateUnderLoad) }

func testRotateUnderLoad(t *testing.T, dsn string) {
	k := makeKeyed(t, dsn, 600, 50)
	server := openDB(t, dsn, testKey(2), testKey(1))
	busy := makeSealed(t, server, "busy")
	var stop atomic.Bool
	var reads, writes atomic.Int64
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			pace := time.NewTicker(5 * time.Millisecond)
			defer pace.Stop()
			for ; !stop.Load(); <-pace.C {
				record, err := server.LoadToken(t.Context(), busy.token.ID)
				if err != nil || record.Project.Credentials[0].Err != nil || record.Project.Credentials[1].Err != nil {
					t.Errorf("a reader: %v", err)
					return
				}
				reads.Add(1)
			}
		})
	}
	var last string
	load.Go(func() {
		// A writer without pauses leaves another process of SQLite no turn.
		pace := time.NewTicker(5 * time.Millisecond)
		defer pace.Stop()
		for ; !stop.Load(); <-pace.C {
			last = fmt.Sprint("sk-written-", writes.Load())
			s := secret.NewValue(last)
			err := server.Update(t.Context(), func(tx *Tx) error { return tx.UpdateKey(t.Context(), &busy.one, &s) })
			if err != nil {
				t.Errorf("a writer: %v", err)
				return
			}
			writes.Add(1)
		}
	})
	rotator := openDB(t, dsn, testKey(2), testKey(1))
	report := rotate(t, rotator)
	stop.Store(true)
	load.Wait()
	if !report.Clean() || report.Resealed < k.rows() {
		t.Errorf("%+v", report)
	}
	if reads.Load() == 0 || writes.Load() == 0 {
		t.Errorf("%d reads, %d writes", reads.Load(), writes.Load())
	}
	record, err := server.LoadToken(t.Context(), busy.token.ID)
	if err != nil || record.Project.Credentials[0].Secret.Reveal() != last {
		t.Errorf("what was written last is lost: %v", err)
	}
	server.Close()
	rotator.Close()
	k.intact(testKey(2))
}
