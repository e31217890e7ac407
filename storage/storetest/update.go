package storetest

import (
	"context"
	"errors"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// testRollback ends transactions in every way but a commit: nothing stays, not
// even the audit entry, and nobody hears of it.
func testRollback(t *testing.T, b *bundle) {
	seen := b.changes()
	p := b.project("kept")
	write := func(ctx context.Context, tx *storage.Tx) error {
		kept := *p
		kept.Name = "lost"
		return errors.Join(
			tx.CreateProject(ctx, &project.Project{Name: "new"}),
			tx.UpdateProject(ctx, &kept),
			tx.CreateKey(ctx, &project.Key{ProjectID: p.ID, Provider: "openai", Weight: 1}, secret.NewValue("x")),
			tx.CreateToken(ctx, b.newToken(p, "")),
			tx.Audit(ctx, audit.Entry{Action: audit.ProjectUpdate, Outcome: audit.OutcomeSuccess}),
		)
	}
	untouched := func(what string) {
		t.Helper()
		projects, err := b.Projects(t.Context(), storage.ProjectFilter{})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "projects after "+what, projects, []project.Project{*p})
		entries, err := b.AuditEntries(t.Context(), storage.AuditFilter{})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "audit entries after "+what, entries, []audit.Entry{})
		tokens, err := b.CountTokens(t.Context(), storage.TokenFilter{})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "tokens after "+what, tokens, int64(0))
		equal(t, "changes after "+what, seen(), []token.Change(nil))
	}

	cause := errors.New("cause")
	wantErr(t, "failing transaction", b.failing(func(ctx context.Context, tx *storage.Tx) error {
		return errors.Join(write(ctx, tx), cause)
	}), cause)
	untouched("an error")

	func() {
		defer func() { equal(t, "recovered value", recover(), any("panic")) }()
		_ = b.failing(func(ctx context.Context, tx *storage.Tx) error {
			if err := write(ctx, tx); err != nil {
				return err
			}
			panic("panic")
		})
		t.Error("the panic was swallowed")
	}()
	untouched("a panic")

	ctx, cancel := context.WithCancel(t.Context())
	wantErr(t, "cancelled transaction", b.Update(ctx, func(tx *storage.Tx) error {
		defer cancel()
		return write(ctx, tx)
	}), context.Canceled)
	untouched("a cancellation")

	ctx, cancel = context.WithCancel(t.Context())
	wantErr(t, "transaction cancelled in the middle", b.Update(ctx, func(tx *storage.Tx) error {
		cancel()
		return write(ctx, tx)
	}), context.Canceled)
	untouched("a cancellation in the middle")

	// A failed write dooms the transaction even if nobody looks.
	wantErr(t, "ignored conflict", b.failing(func(ctx context.Context, tx *storage.Tx) error {
		_ = tx.CreateProject(ctx, &project.Project{Name: "new"})
		_ = tx.CreateProject(ctx, &project.Project{Name: "kept"})
		return nil
	}), storage.ErrConflict)
	untouched("an ignored conflict")
	wantErr(t, "ignored missing project", b.failing(func(ctx context.Context, tx *storage.Tx) error {
		_ = tx.CreateProject(ctx, &project.Project{Name: "new"})
		_ = tx.CreateToken(ctx, b.newToken(&project.Project{ID: newID(t)}, ""))
		return nil
	}), storage.ErrNotFound)
	untouched("an ignored missing project")

	// Having found nothing does not.
	b.update(func(tx *storage.Tx) error {
		_, err := tx.Project(t.Context(), newID(t))
		wantErr(t, "unknown project", err, storage.ErrNotFound)
		return nil
	})
}

// testChanges checks that what is committed is announced, in order, before
// Update returns and after readers can see it.
func testChanges(t *testing.T, b *bundle) {
	ctx := t.Context()
	seen := b.changes()
	p := b.project("p")
	tok := b.token(p, "t")
	equal(t, "changes by creating", seen(), []token.Change(nil))

	visible := 0
	remove := b.OnChange(func(c token.Change) {
		if c.Kind != token.ProjectChanged {
			return
		}
		snapshot, err := b.LoadProject(ctx, c.ID)
		if err != nil || snapshot.Version < c.Version {
			t.Errorf("announced %+v, but a reader sees %+v, %v", c, snapshot, err)
		}
		visible++
	})
	k := b.key(p, "openai", "sk-1")
	b.update(func(tx *storage.Tx) error { return tx.UpdateKey(ctx, k, nil) })
	b.update(func(tx *storage.Tx) error {
		p.Active, tok.Active = false, true
		return errors.Join(tx.UpdateToken(ctx, tok), tx.UpdateProject(ctx, p))
	})
	b.update(func(tx *storage.Tx) error {
		tok.Active = false
		return errors.Join(tx.DeleteKey(ctx, p.ID, k.ID), tx.UpdateToken(ctx, tok))
	})
	want := []token.Change{
		{Kind: token.ProjectChanged, ID: p.ID, Version: 2},
		{Kind: token.ProjectChanged, ID: p.ID, Version: 3},
		{Kind: token.TokenChanged, ID: tok.ID, Version: 2},
		{Kind: token.ProjectChanged, ID: p.ID, Version: 4, Revoked: true},
		{Kind: token.ProjectChanged, ID: p.ID, Version: 5},
		{Kind: token.TokenChanged, ID: tok.ID, Version: 3, Revoked: true},
	}
	equal(t, "changes", seen(), want)
	equal(t, "calls", visible, 4)

	remove()
	remove()
	b.update(func(tx *storage.Tx) error { return tx.UpdateProject(ctx, p) })
	equal(t, "calls after removal", visible, 4)
	equal(t, "changes heard by others", len(seen()), len(want)+1)
}

func testConstraints(t *testing.T, b *bundle) {
	p := b.project("p")
	bad := func(change func(k *project.Key)) func(ctx context.Context, tx *storage.Tx) error {
		return func(ctx context.Context, tx *storage.Tx) error {
			k := &project.Key{ProjectID: p.ID, Provider: "openai", Weight: 1}
			change(k)
			return tx.CreateKey(ctx, k, secret.NewValue("x"))
		}
	}
	for what, fn := range map[string]func(ctx context.Context, tx *storage.Tx) error{
		"weight 0":             bad(func(k *project.Key) { k.Weight = 0 }),
		"a key of no provider": bad(func(k *project.Key) { k.Provider = "" }),
		"an unprintable label": bad(func(k *project.Key) { k.Label = "\x00" }),
		"a token without a hash": func(ctx context.Context, tx *storage.Tx) error {
			return tx.CreateToken(ctx, &token.Token{ID: newID(t), ProjectID: p.ID, HashScheme: "x"})
		},
		"a token without an id": func(ctx context.Context, tx *storage.Tx) error {
			return tx.CreateToken(ctx, &token.Token{ProjectID: p.ID, Hash: []byte("x"), HashScheme: "x"})
		},
		"an empty secret": func(ctx context.Context, tx *storage.Tx) error {
			return tx.CreateKey(ctx, &project.Key{ProjectID: p.ID, Provider: "openai", Weight: 1}, secret.Value{})
		},
		"an audit entry without outcome": func(ctx context.Context, tx *storage.Tx) error {
			return tx.Audit(ctx, audit.Entry{Action: audit.ProjectCreate})
		},
	} {
		err := b.failing(fn)
		if err == nil {
			t.Errorf("%s was stored", what)
		}
		if errors.Is(err, storage.ErrUnreachable) || errors.Is(err, storage.ErrConflict) || errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s: misleading error %v", what, err)
		}
	}
}
