package storage

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// heardPurges collects the purges and gaps that a DB tells its listeners of.
type heardPurges struct {
	mu    sync.Mutex
	texts []string
	gaps  int
}

func hearPurges(t *testing.T, db *DB) *heardPurges {
	h := &heardPurges{}
	t.Cleanup(db.OnPurge(func(text string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.texts = append(h.texts, text)
	}))
	t.Cleanup(db.OnGap(func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.gaps++
	}))
	return h
}

func (h *heardPurges) all() ([]string, int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.texts), h.gaps
}

// TestPurgesReachOtherNodes: each once, in order, and not the node itself.
func TestPurgesReachOtherNodes(t *testing.T) {
	t.Parallel()
	dsn := newPostgresDSN(t)
	one, two := openDB(t, dsn), openDB(t, dsn)
	first, second, changes := hearPurges(t, one), hearPurges(t, two), hear(t, two)
	want := []string{"all .", strings.Repeat("ü", maxPurgeText/2), "model  bQ."}
	for i := range 20 {
		want = append(want, fmt.Sprint("purge ", i))
	}
	for _, text := range want {
		if err := one.AnnouncePurge(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the other node hears all", func() bool { texts, _ := second.all(); return len(texts) == len(want) })
	if texts, gaps := second.all(); !slices.Equal(texts, want) || gaps != 0 {
		t.Errorf("heard %q and %d gaps", texts, gaps)
	}
	if err := two.AnnouncePurge(t.Context(), "back"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first node hears", func() bool { texts, _ := first.all(); return len(texts) > 0 })
	if texts, gaps := first.all(); !slices.Equal(texts, []string{"back"}) || gaps != 0 {
		t.Errorf("heard %q and %d gaps, of its own too", texts, gaps)
	}
	if list, _ := changes.all(); len(list) != 0 {
		t.Errorf("purges are changes too: %v", list)
	}
}

// TestPurgeListenerRemoved hears nothing any more.
func TestPurgeListenerRemoved(t *testing.T) {
	t.Parallel()
	dsn := newPostgresDSN(t)
	one, two := openDB(t, dsn), openDB(t, dsn)
	called := make(chan string, 8)
	two.OnPurge(func(text string) { called <- "deaf " + text })()
	t.Cleanup(two.OnPurge(func(text string) { called <- text }))
	if err := one.AnnouncePurge(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if got := <-called; got != "x" {
		t.Errorf("%q was called", got)
	}
}

// TestPurgesWhileDeaf cuts the connection that purges come by: what is missed is a gap,
// which comes when the node listens again.
func TestPurgesWhileDeaf(t *testing.T) {
	t.Parallel()
	dsn := newPostgresDSN(t)
	one, two := openDB(t, dsn), openDB(t, dsn)
	h := hearPurges(t, two)
	raw := rawPostgres(t, dsn)
	mustExec(t, raw, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_notify%' AND datname = current_database() AND pid <> pg_backend_pid()`)
	if err := one.AnnouncePurge(t.Context(), "missed, perhaps"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node tells of a gap", func() bool { _, gaps := h.all(); return gaps > 0 })
	if err := one.AnnouncePurge(t.Context(), "heard"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "purges come again", func() bool { texts, _ := h.all(); return slices.Contains(texts, "heard") })
}

// TestPurgeGarbageIsIgnored sends what no node would, and what a newer one might.
func TestPurgeGarbageIsIgnored(t *testing.T) {
	t.Parallel()
	dsn := newPostgresDSN(t)
	db := openDB(t, dsn)
	h := hearPurges(t, db)
	raw := rawPostgres(t, dsn)
	for _, payload := range []string{
		"", "x", "llm-proxy", "llm-proxy/1", "llm-proxy/1 ", "llm-proxy/1 other", "llm-proxy/1 other\n", "llm-proxy/1 other\na\nb", "llm-proxy/1 \na",
		strings.Repeat("x", 7999), encodePurge(db.dialect.(*postgresDB).node, "ours"),
	} {
		mustExec(t, raw, `SELECT pg_notify($1, $2)`, purgesChannel, payload)
	}
	mustExec(t, raw, `SELECT pg_notify($1, $2)`, purgesChannel, encodePurge("other", "good"))
	eventually(t, "the good one is heard", func() bool { texts, _ := h.all(); return len(texts) > 0 })
	if texts, gaps := h.all(); !slices.Equal(texts, []string{"good"}) || gaps != 0 {
		t.Errorf("heard %q and %d gaps", texts, gaps)
	}
	mustExec(t, raw, `SELECT pg_notify($1, $2)`, purgesChannel, "llm-proxy/2 something else")
	eventually(t, "a newer format is a gap", func() bool { _, gaps := h.all(); return gaps == 1 })
}

// TestAnnouncePurge is about what is refused, and when nobody could be told.
func TestAnnouncePurge(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		db := newDB(t, dsn)
		if err := db.AnnouncePurge(t.Context(), "x"); err == nil {
			t.Error("announced before the database is open")
		}
		if err := db.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"", "a\nb", "a\x00", "\xff", strings.Repeat("x", maxPurgeText+1)} {
			if err := db.AnnouncePurge(t.Context(), text); err == nil {
				t.Errorf("announced %.20q", text)
			}
		}
		if err := db.AnnouncePurge(t.Context(), strings.Repeat("x", maxPurgeText)); err != nil {
			t.Error(err)
		}
		ended, end := context.WithCancel(t.Context())
		end()
		if err := db.AnnouncePurge(ended, "x"); (err == nil) != (driverOf(dsn) == "sqlite") {
			t.Errorf("announced by somebody who has left: %v", err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if err := db.AnnouncePurge(t.Context(), "x"); err == nil {
			t.Error("announced after the database was closed")
		}
	})
}

func FuzzDecodePurge(f *testing.F) {
	f.Add("llm-proxy/1 node\nall .")
	f.Add("llm-proxy/2 node\nall .")
	f.Add("llm-proxy/1 node \n")
	f.Fuzz(func(t *testing.T, payload string) {
		node, text, err := decodePurge(payload)
		if err != nil {
			if node != "" || text != "" {
				t.Errorf("%q: %q %q and %v", payload, node, text, err)
			}
			return
		}
		if again := encodePurge(node, text); again != payload {
			t.Errorf("%q is %q %q, which is %q", payload, node, text, again)
		}
	})
}
