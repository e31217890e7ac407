package storetest

import (
	"context"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

func testKeys(t *testing.T, b *bundle) {
	ctx := t.Context()
	p, other := b.project("p"), b.project("other")

	k := &project.Key{ProjectID: p.ID, Provider: "openai", Label: "größte", Weight: 3, Priority: -1, Active: true, Last4: "none"}
	b.update(func(tx *storage.Tx) error {
		if err := tx.CreateKey(ctx, k, secret.NewValue("sk-0123456789abcdef")); err != nil {
			return err
		}
		inside, err := tx.Key(ctx, p.ID, k.ID)
		if err == nil {
			equal(t, "key inside the transaction", inside, k)
		}
		return err
	})
	if k.ID.Version() != 7 || k.Last4 != "cdef" || k.CreatedAt.IsZero() || !k.UpdatedAt.Equal(k.CreatedAt) {
		t.Errorf("created key is %+v", k)
	}
	got, err := b.Key(ctx, p.ID, k.ID)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "key", got, k)
	version(t, b, p, 2)

	k.Label, k.Weight, k.Priority, k.Active = "", 1, 7, false
	k.Provider, k.Last4 = "anthropic", "9876"
	b.update(func(tx *storage.Tx) error { return tx.UpdateKey(ctx, k, nil) })
	equal(t, "provider after trying to change it", k.Provider, "openai")
	equal(t, "last characters without a new secret", k.Last4, "cdef")
	fresh := secret.NewValue("sk-another-secret-9999")
	k.Active = true
	b.update(func(tx *storage.Tx) error { return tx.UpdateKey(ctx, k, &fresh) })
	if got, err = b.Key(ctx, p.ID, k.ID); err != nil {
		t.Fatal(err)
	}
	equal(t, "updated key", got, k)
	equal(t, "last characters of the new secret", got.Last4, "9999")
	version(t, b, p, 4)

	// Several keys for one provider, listed by provider, priority and id.
	second := b.key(p, "openai", "sk-second-secret-2222")
	first := b.key(p, "anthropic", "sk-ant-secret-1111")
	short := b.key(p, "openai", "short")
	equal(t, "last characters of a short secret", short.Last4, "")
	keys, err := b.Keys(ctx, p.ID)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "keys", keys, []project.Key{*first, *second, *short, *k})

	// A key is its project's only.
	_, err = b.Key(ctx, other.ID, k.ID)
	wantErr(t, "key of another project", err, storage.ErrNotFound)
	stray := *k
	stray.ProjectID = other.ID
	for what, fn := range map[string]func(ctx context.Context, tx *storage.Tx) error{
		"updating another project's key": func(ctx context.Context, tx *storage.Tx) error { return tx.UpdateKey(ctx, &stray, nil) },
		"deleting another project's key": func(ctx context.Context, tx *storage.Tx) error { return tx.DeleteKey(ctx, other.ID, k.ID) },
		"creating a key of no project": func(ctx context.Context, tx *storage.Tx) error {
			return tx.CreateKey(ctx, &project.Key{ProjectID: newID(t), Provider: "openai", Weight: 1}, fresh)
		},
	} {
		wantErr(t, what, b.failing(fn), storage.ErrNotFound)
	}
	version(t, b, other, 1)

	b.update(func(tx *storage.Tx) error {
		if err := tx.DeleteKey(ctx, p.ID, k.ID); err != nil {
			return err
		}
		keys, err := tx.Keys(ctx, p.ID)
		equal(t, "keys left", len(keys), 3)
		return err
	})
	_, err = b.Key(ctx, p.ID, k.ID)
	wantErr(t, "deleted key", err, storage.ErrNotFound)
	version(t, b, p, 8)
	keys, err = b.Keys(ctx, newID(t))
	if err != nil || keys == nil || len(keys) != 0 {
		t.Errorf("keys of no project: %v, %v", keys, err)
	}
}

func testCredentials(t *testing.T, b *bundle) {
	ctx := t.Context()
	p := b.project("p")
	tok := b.token(p, "t")
	low := &project.Key{ProjectID: p.ID, Provider: "openai", Weight: 2, Priority: 5, Active: true}
	b.update(func(tx *storage.Tx) error { return tx.CreateKey(ctx, low, secret.NewValue("low")) })
	high := b.key(p, "openai", "sk-high")
	claude := b.key(p, "anthropic", "sk-claude")
	off := b.key(p, "anthropic", "sk-off")
	off.Active = false
	b.update(func(tx *storage.Tx) error { return tx.UpdateKey(ctx, off, nil) })
	b.key(b.project("other"), "openai", "sk-other")

	want := []project.Credential{
		{KeyID: claude.ID, Provider: "anthropic", Secret: secret.NewValue("sk-claude"), Weight: 1},
		{KeyID: high.ID, Provider: "openai", Secret: secret.NewValue("sk-high"), Weight: 1},
		{KeyID: low.ID, Provider: "openai", Secret: secret.NewValue("low"), Weight: 2, Priority: 5},
	}
	snapshot, err := b.LoadProject(ctx, p.ID)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := b.Project(ctx, p.ID)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "project", snapshot, &project.Snapshot{Project: *stored, Credentials: want})
	record, err := b.LoadToken(ctx, tok.ID)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "token", record.Token, *tok)
	equal(t, "project of the token", record.Project, *snapshot)

	fresh := secret.NewValue("sk-higher")
	b.update(func(tx *storage.Tx) error { return tx.UpdateKey(ctx, high, &fresh) })
	b.update(func(tx *storage.Tx) error { return tx.DeleteKey(ctx, p.ID, claude.ID) })
	if snapshot, err = b.LoadProject(ctx, p.ID); err != nil {
		t.Fatal(err)
	}
	want[1].Secret = fresh
	equal(t, "credentials after changes", snapshot.Credentials, want[1:])
}

// version checks the project's version in the database.
func version(t *testing.T, b *bundle, p *project.Project, want int64) {
	t.Helper()
	got, err := b.Project(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "version of project "+p.Name, got.Version, want)
}
