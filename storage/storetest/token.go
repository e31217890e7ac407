package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

func testTokens(t *testing.T, b *bundle) {
	ctx := t.Context()
	p := b.project("p")
	expires := time.Now().Add(time.Hour)
	tok := b.newToken(p, "größe")
	tok.ExpiresAt = &expires
	tok.Policy = project.Policy{AllowedModels: []string{"m"}, Metadata: map[string]string{"k": "v"}, Limits: project.Limits{
		MaxRequests: new(int64(0)), BudgetUSD: new(usd.Amount(1)), // a nanodollar
	}}
	b.update(func(tx *storage.Tx) error {
		if err := tx.CreateToken(ctx, tok); err != nil {
			return err
		}
		equal(t, "creation time", tok.CreatedAt, tx.Now())
		inside, err := tx.Token(ctx, tok.ID)
		if err == nil {
			equal(t, "token inside the transaction", inside, tok)
		}
		return err
	})
	equal(t, "version", tok.Version, int64(1))
	got, err := b.Token(ctx, tok.ID)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "token", got, tok)
	record, err := b.LoadToken(ctx, tok.ID)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "record", record, &token.Record{Token: *tok, Project: project.Snapshot{Project: *p}})

	revoked := time.Now()
	tok.Name, tok.Active, tok.RevokedAt, tok.RevokeReason = "", false, &revoked, "leaked \xff"
	tok.ExpiresAt, tok.Policy = nil, project.Policy{}
	b.update(func(tx *storage.Tx) error { return tx.UpdateToken(ctx, tok) })
	equal(t, "version after an update", tok.Version, int64(2))
	equal(t, "reason", tok.RevokeReason, "leaked \uFFFD")
	if got, err = b.Token(ctx, tok.ID); err != nil {
		t.Fatal(err)
	}
	equal(t, "updated token", got, tok)

	_, err = b.Token(ctx, newID(t))
	wantErr(t, "unknown token", err, storage.ErrNotFound)
	_, err = b.LoadToken(ctx, newID(t))
	wantErr(t, "loading an unknown token", err, storage.ErrNotFound)
	for what, fn := range map[string]func(ctx context.Context, tx *storage.Tx) error{
		"unknown token in a transaction": func(ctx context.Context, tx *storage.Tx) error {
			_, err := tx.Token(ctx, newID(t))
			return err
		},
		"updating an unknown token": func(ctx context.Context, tx *storage.Tx) error { return tx.UpdateToken(ctx, b.newToken(p, "")) },
		"creating a token of no project": func(ctx context.Context, tx *storage.Tx) error {
			return tx.CreateToken(ctx, b.newToken(&project.Project{ID: newID(t)}, ""))
		},
	} {
		wantErr(t, what, b.failing(fn), storage.ErrNotFound)
	}
	wantErr(t, "creating a token twice", b.failing(func(ctx context.Context, tx *storage.Tx) error {
		return tx.CreateToken(ctx, tok)
	}), storage.ErrConflict)
}

func testRevokeProjectTokens(t *testing.T, b *bundle) {
	ctx := t.Context()
	p, other := b.project("p"), b.project("other")
	first, second, third := b.token(p, "1"), b.token(p, "2"), b.token(p, "3")
	spared := b.token(other, "4")
	when := time.Now()
	third.Active, third.RevokedAt, third.RevokeReason = false, &when, "earlier"
	b.update(func(tx *storage.Tx) error { return tx.UpdateToken(ctx, third) })

	seen := b.changes()
	var now time.Time
	b.update(func(tx *storage.Tx) error {
		now = tx.Now()
		revoked, already, err := tx.RevokeProjectTokens(ctx, p.ID, "leak")
		equal(t, "counts", []int64{revoked, already}, []int64{2, 1})
		return err
	})
	for _, tok := range []*token.Token{first, second} {
		tok.Active, tok.RevokedAt, tok.RevokeReason, tok.Version, tok.UpdatedAt = false, &now, "leak", 2, now
	}
	for _, want := range []*token.Token{first, second, third, spared} {
		got, err := b.Token(ctx, want.ID)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "token "+want.Name, got, want)
	}
	version(t, b, p, 2)
	version(t, b, other, 1)
	equal(t, "changes", seen(), []token.Change{{Kind: token.ProjectTokensRevoked, ID: p.ID, Version: 2, Revoked: true}})

	b.update(func(tx *storage.Tx) error {
		revoked, already, err := tx.RevokeProjectTokens(ctx, p.ID, "again")
		equal(t, "counts the second time", []int64{revoked, already}, []int64{0, 3})
		return err
	})
	wantErr(t, "revoking the tokens of no project", b.failing(func(ctx context.Context, tx *storage.Tx) error {
		_, _, err := tx.RevokeProjectTokens(ctx, newID(t), "")
		return err
	}), storage.ErrNotFound)
}

func testTimes(t *testing.T, b *bundle) {
	ctx := t.Context()
	p := b.project("p")
	for _, when := range []time.Time{
		time.Date(2026, 3, 8, 2, 30, 0, 0, time.Local),  // may not exist in this zone
		time.Date(2026, 11, 1, 1, 30, 0, 0, time.Local), // may exist twice
		time.Date(2026, 12, 31, 23, 59, 59, 999999999, time.Local),
		time.Date(1969, 12, 31, 23, 59, 59, 999999000, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		time.Now(),
	} {
		tok := b.newToken(p, "")
		tok.ExpiresAt, tok.RevokedAt = &when, &when
		b.update(func(tx *storage.Tx) error { return tx.CreateToken(ctx, tok) })
		got, err := b.Token(ctx, tok.ID)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "token of "+when.String(), got, tok)
		for _, at := range []*time.Time{got.ExpiresAt, got.RevokedAt} {
			if at.Location() != time.UTC || at.Sub(when).Abs() >= time.Microsecond {
				t.Errorf("%v came back as %v", when, at)
			}
		}
	}
}
