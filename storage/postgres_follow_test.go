package storage

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// told collects what a DB tells its listeners.
type told struct {
	mu      sync.Mutex
	changes []token.Change
	gaps    int
}

func hear(t *testing.T, db *DB) *told {
	h := &told{}
	t.Cleanup(db.OnChange(func(c token.Change) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.changes = append(h.changes, c)
	}))
	t.Cleanup(db.OnGap(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.gaps++
	}))
	return h
}

func (h *told) all() ([]token.Change, int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.changes), h.gaps
}

// knows reports whether the change was heard of, or that some may have been missed.
func (h *told) knows(c token.Change, gaps int) bool {
	changes, n := h.all()
	return slices.Contains(changes, c) || n > gaps
}

// TestChangesReachOtherNodes changes everything on one node.
func TestChangesReachOtherNodes(t *testing.T) {
	dsn := newPostgresDSN(t)
	one, two := openDB(t, dsn), openDB(t, dsn)
	first, second := hear(t, one), hear(t, two)
	f := makeSealed(t, one, "a")
	eventually(t, "the other node hears of the keys", func() bool { there, _ := second.all(); return len(there) == 2 })
	first.changes, second.changes = nil, nil
	err := one.Update(t.Context(), func(tx *Tx) error {
		f.token.Active = false
		return errors.Join(tx.UpdateToken(t.Context(), &f.token), tx.UpdateProject(t.Context(), &f.project))
	})
	if err != nil {
		t.Fatal(err)
	}
	here, _ := first.all()
	if len(here) != 2 {
		t.Fatalf("%d changes were announced at once", len(here))
	}
	eventually(t, "the other node hears", func() bool { there, _ := second.all(); return len(there) == 2 })
	if there, gaps := second.all(); !slices.Equal(here, there) || gaps != 0 {
		t.Errorf("heard %+v and %d gaps, want %+v", there, gaps, here)
	}

	// Many at once, in order, and each once.
	err = one.Update(t.Context(), func(tx *Tx) error {
		for range 3*announcedAtOnce + 1 {
			if err := tx.UpdateToken(t.Context(), &f.token); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other node hears all", func() bool { there, _ := second.all(); return len(there) == 2+3*announcedAtOnce+1 })
	here, _ = first.all()
	if there, _ := second.all(); !slices.Equal(here, there) {
		t.Errorf("heard %d changes in another order", len(there))
	}

	// Nothing of what is rolled back.
	cause := errors.New("cause")
	err = one.Update(t.Context(), func(tx *Tx) error {
		return errors.Join(tx.UpdateToken(t.Context(), &f.token), cause)
	})
	if !errors.Is(err, cause) {
		t.Fatal(err)
	}
	f.token.Version--
	if err := two.Update(t.Context(), func(tx *Tx) error { return tx.UpdateToken(t.Context(), &f.token) }); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first node hears", func() bool { now, _ := first.all(); return len(now) == len(here)+1 })
}

// TestChangesReachOtherNodesAfterFaults breaks the connection that they come by.
func TestChangesReachOtherNodesAfterFaults(t *testing.T) {
	t.Parallel()
	s := testdb.StartPostgres(t)
	dsn := s.Database()
	one, two := openDB(t, dsn), openDB(t, dsn)
	f := makeSealed(t, one, "a")
	h := hear(t, two)
	raw := rawPostgres(t, dsn)
	listeners := func() (n int) {
		err := raw.QueryRow(`SELECT COUNT(*) FROM pg_stat_activity WHERE query LIKE '%pg_notify%' AND datname = current_database() AND pid <> pg_backend_pid()`).Scan(&n)
		if err != nil {
			return -1 // on a connection from before the fault
		}
		return n
	}
	for _, fault := range []struct {
		name string
		do   func()
	}{
		{"listener terminated", func() {
			mustExec(t, raw, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_notify%' AND pid <> pg_backend_pid()`)
		}},
		{"server restarted", func() { s.Stop(); s.Start() }},
		{"server killed", func() { s.Kill(); s.Start() }},
		{"server frozen for a moment", func() { s.Pause(); s.Resume() }},
		{"server frozen", func() {
			wires := &two.dialect.(*postgresDB).wires
			open := wires.list()
			s.Pause()
			eventually(t, "all connections are cut", func() bool {
				now := wires.list()
				return !slices.ContainsFunc(open, func(w *wire) bool { return slices.Contains(now, w) })
			})
			s.Resume()
		}},
	} {
		t.Run(fault.name, func(t *testing.T) {
			_, gaps := h.all()
			fault.do()
			var c token.Change
			defer one.OnChange(func(made token.Change) { c = made })()
			if err := one.Update(t.Context(), func(tx *Tx) error { return tx.UpdateToken(t.Context(), &f.token) }); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the other node hears of the change, or that it missed some", func() bool { return h.knows(c, gaps) })
			// And of the next one in words, once both listen again.
			eventually(t, "both nodes listen", func() bool { return listeners() == 2 })
			eventually(t, "changes come again", func() bool {
				if err := one.Update(t.Context(), func(tx *Tx) error { return tx.UpdateToken(t.Context(), &f.token) }); err != nil {
					t.Fatal(err)
				}
				changes, _ := h.all()
				return slices.Contains(changes, c)
			})
		})
	}
}

// TestHeartbeatMissing has a server that answers but does not deliver.
func TestHeartbeatMissing(t *testing.T) {
	var log syncBuffer
	db := configure(t, Config{DSN: newPostgresDSN(t), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	p := db.dialect.(*postgresDB)
	l, err := p.listen(t.Context(), follower{clock: func(time.Duration) {}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	if _, err := l.conn.Exec(t.Context(), `UNLISTEN *`); err != nil {
		t.Fatal(err)
	}
	l.heard = time.Now().Add(-silence)
	l.beatAt = time.Now()
	if err := l.attend(t.Context()); !errors.Is(err, errSilent) {
		t.Error(err)
	}
}

// TestGarbageIsIgnored sends what no node would, and what a newer one might.
func TestGarbageIsIgnored(t *testing.T) {
	dsn := newPostgresDSN(t)
	db := openDB(t, dsn)
	h := hear(t, db)
	raw := rawPostgres(t, dsn)
	id := uuid.Must(uuid.NewV7())
	good := encodeChanges("other", []token.Change{{Kind: token.TokenChanged, ID: id, Version: 7}})
	for _, payload := range []string{
		"", " ", "\n", "x", `{"kind":1}`, "llm-proxy", "llm-proxy/1", "llm-proxy/1 ", "llm-proxy/1 other\n", "llm-proxy/1 other\n\n",
		"llm-proxy/1 other\n1 " + id.String() + " 1", "llm-proxy/1 other\n1 " + id.String() + " 0 true", "llm-proxy/1 other\n1 " + id.String() + " -1 true",
		"llm-proxy/1 other\n1 nonsense 1 true", "llm-proxy/1 other\n256 " + id.String() + " 1 true", "llm-proxy/1 other\n1 " + id.String() + " 1 perhaps",
		good + "\n", good + "\nx", strings.Repeat("x", 7999),
		encodeChanges(db.dialect.(*postgresDB).node, []token.Change{{Kind: token.TokenChanged, ID: id, Version: 9}}), // our own
	} {
		mustExec(t, raw, `SELECT pg_notify($1, $2)`, changesChannel, payload)
	}
	mustExec(t, raw, `SELECT pg_notify($1, $2)`, changesChannel, good)
	eventually(t, "the good one is heard", func() bool { changes, _ := h.all(); return len(changes) > 0 })
	changes, gaps := h.all()
	if want := []token.Change{{Kind: token.TokenChanged, ID: id, Version: 7}}; !slices.Equal(changes, want) || gaps != 0 {
		t.Errorf("heard %+v and %d gaps", changes, gaps)
	}
	mustExec(t, raw, `SELECT pg_notify($1, $2)`, changesChannel, "llm-proxy/2 something else")
	eventually(t, "a newer format is a gap", func() bool { _, gaps := h.all(); return gaps == 1 })
}

func FuzzDecodeChanges(f *testing.F) {
	f.Add("llm-proxy/1 node\n1 01890000-0000-7000-8000-000000000001 3 true")
	f.Add("llm-proxy/2 node")
	f.Fuzz(func(t *testing.T, payload string) {
		node, changes, err := decodeChanges(payload)
		if err != nil {
			return
		}
		again, same, err := decodeChanges(encodeChanges(node, changes))
		if err != nil || again != node || !slices.Equal(changes, same) {
			t.Errorf("%q: %q %v, then %q %v, %v", payload, node, changes, again, same, err)
		}
	})
}

// TestOpenThatCannotListen does not open.
func TestOpenThatCannotListen(t *testing.T) {
	db := newDB(t, newPostgresDSN(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := db.dialect.follow(ctx, follower{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// syncBuffer is a log that may be written to at once.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}
