package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// testConcurrency writes and reads at once. No call fails, no update is lost,
// and no reader goes back in time or sees half a transaction.
func testConcurrency(t *testing.T, b *bundle) {
	const writers, readers, updates = 4, 4, 25
	ctx := t.Context()
	p := b.project("p")
	b.key(p, "openai", "sk-secret")
	tok := b.token(p, "t")
	seen := b.changes()

	var done atomic.Bool
	var writing, reading sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range updates {
				err := b.Update(ctx, func(tx *storage.Tx) error {
					current, err := tx.Project(ctx, p.ID)
					if err != nil {
						return err
					}
					held, err := tx.Token(ctx, tok.ID)
					if err != nil {
						return err
					}
					name := fmt.Sprintf("writer %d update %d", w, i)
					current.Name, held.Name = name, name
					if err := tx.UpdateProject(ctx, current); err != nil {
						return err
					}
					if err := tx.UpdateToken(ctx, held); err != nil {
						return err
					}
					return tx.Audit(ctx, audit.Entry{Action: audit.ProjectUpdate, Outcome: audit.OutcomeSuccess, TargetID: p.ID})
				})
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
				}
			}
		})
	}
	for r := range readers {
		reading.Go(func() {
			var last int64
			for !done.Load() {
				record, err := b.LoadToken(ctx, tok.ID)
				if err != nil {
					t.Errorf("reader %d: %v", r, err)
					return
				}
				if record.Token.Version < last {
					t.Errorf("reader %d saw version %d after %d", r, record.Token.Version, last)
				}
				last = record.Token.Version
				if last > 1 && record.Token.Name != record.Project.Name {
					t.Errorf("reader %d saw token %q with project %q", r, record.Token.Name, record.Project.Name)
				}
				if _, err := b.Projects(ctx, storage.ProjectFilter{Query: "WRITER", Limit: 10}); err != nil {
					t.Errorf("reader %d: %v", r, err)
					return
				}
			}
		})
	}
	writing.Wait()
	done.Store(true)
	reading.Wait()

	const total = writers * updates
	version(t, b, p, 2+total)
	entries, err := b.AuditEntries(ctx, storage.AuditFilter{TargetID: p.ID})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "audit entries", len(entries), total)
	next := map[token.ChangeKind]int64{token.ProjectChanged: 3, token.TokenChanged: 2}
	for _, c := range seen() {
		if c.Version != next[c.Kind] {
			t.Fatalf("announced %+v, want version %d next", c, next[c.Kind])
		}
		next[c.Kind]++
	}
}

// testConflicts has many do at once what only one can: one does, and the others
// are told. What all can do, all do.
func testConflicts(t *testing.T, b *bundle) {
	const many = 8
	ctx := t.Context()
	atOnce := func(what string, fn func(i int, tx *storage.Tx) error) (done int) {
		t.Helper()
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range many {
			wg.Go(func() {
				err := b.Update(ctx, func(tx *storage.Tx) error { return fn(i, tx) })
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					done++
				case !errors.Is(err, storage.ErrConflict):
					t.Errorf("%s: %v", what, err)
				}
			})
		}
		wg.Wait()
		return done
	}
	equal(t, "projects made with one name", atOnce("name", func(_ int, tx *storage.Tx) error {
		return tx.CreateProject(ctx, &project.Project{Name: "one"})
	}), 1)
	list, err := b.Projects(ctx, storage.ProjectFilter{})
	if err != nil || len(list) != 1 {
		t.Fatalf("%d projects, %v", len(list), err)
	}
	p := &list[0]
	id := newID(t)
	equal(t, "tokens made with one id", atOnce("id", func(_ int, tx *storage.Tx) error {
		tok := &token.Token{ID: id, ProjectID: p.ID, Active: true, Hash: []byte{1}, HashScheme: token.SchemeHMAC}
		return tx.CreateToken(ctx, tok)
	}), 1)

	// Keys are added and tokens made while the project changes and loses its tokens.
	revoked := make([]int64, many)
	equal(t, "mixed changes", atOnce("mixed", func(i int, tx *storage.Tx) (err error) {
		revoked[i] = 0
		switch i % 4 {
		case 0:
			return tx.CreateKey(ctx, &project.Key{ProjectID: p.ID, Provider: "openai", Weight: 1, Active: true}, secret.NewValue("sk"))
		case 1:
			return tx.CreateToken(ctx, &token.Token{ID: newID(t), ProjectID: p.ID, Active: true, Hash: []byte{1}, HashScheme: token.SchemeHMAC})
		case 2:
			revoked[i], _, err = tx.RevokeProjectTokens(ctx, p.ID, "all")
			return err
		default:
			current, err := tx.Project(ctx, p.ID)
			if err != nil {
				return err
			}
			return tx.UpdateProject(ctx, current)
		}
	}), many)
	version(t, b, p, 1+3*many/4)
	off := false
	n, err := b.CountTokens(ctx, storage.TokenFilter{ProjectID: p.ID, Active: &off})
	total := int64(0)
	for _, r := range revoked {
		total += r
	}
	if err != nil || n != total {
		t.Errorf("%d tokens are revoked, %d were reported: %v", n, total, err)
	}
}

func testLifecycle(t *testing.T, b *bundle) {
	ctx := t.Context()
	p := b.project("p")
	if err := b.Open(ctx); err != nil {
		t.Errorf("opening twice: %v", err)
	}
	if err := b.Ping(ctx); err != nil {
		t.Errorf("ping: %v", err)
	}
	equal(t, "length of the pepper", len(b.Pepper()), token.PepperSize)
	list, err := b.MigrationStatus(ctx)
	if err != nil || len(list) == 0 {
		t.Errorf("migration status: %v, %v", list, err)
	}
	for _, m := range list {
		if !m.Applied || m.AppliedAt.IsZero() {
			t.Errorf("migration %+v is not applied", m)
		}
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	_, err = b.Project(gone, p.ID)
	wantErr(t, "reading with an ended context", err, context.Canceled)
	wantErr(t, "writing with an ended context", b.Update(gone, func(*storage.Tx) error { return nil }), context.Canceled)

	for range 2 {
		if err := b.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	}
	if b.Pepper() != nil {
		t.Error("a closed database has a pepper")
	}
	_, loadErr := b.LoadToken(ctx, p.ID)
	for what, err := range map[string]error{
		"open":   b.Open(ctx),
		"ping":   b.Ping(ctx),
		"load":   loadErr,
		"update": b.Update(ctx, func(*storage.Tx) error { return nil }),
	} {
		if err == nil || errors.Is(err, storage.ErrUnreachable) {
			t.Errorf("%s after close: %v", what, err)
		}
	}
}
