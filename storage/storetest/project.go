package storetest

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

func testProjects(t *testing.T, b *bundle) {
	ctx := t.Context()
	var now time.Time
	p := &project.Project{Name: "Alpha", Active: true, Policy: project.Policy{
		AllowedModels:    []string{"gpt-4o*", "claude-?"},
		AllowedProviders: []string{"openai"},
		AllowedEndpoints: []string{"/v1/files/*"},
		AllowedIPs:       []string{"10.0.0.0/8", "2001:db8::1"},
		Metadata:         map[string]string{"team": "größe 漢字 \"\\ <&>", "b": ""},
		Limits: project.Limits{
			RPM: new(int64(0)), TPM: new(int64(1)), Concurrency: new(int64(2)), MaxRequests: new(int64(project.MaxLimit)),
			BudgetUSD: new(usd.Amount(math.MaxInt64)), BudgetPeriod: project.Month, AllowUnpriced: true, AllowUnbounded: true,
		},
	}}
	b.update(func(tx *storage.Tx) error {
		now = tx.Now()
		if now.Location() != time.UTC || now.Nanosecond()%1000 != 0 {
			t.Errorf("now is %v", now)
		}
		if err := tx.CreateProject(ctx, p); err != nil {
			return err
		}
		inside, err := tx.Project(ctx, p.ID)
		if err == nil {
			equal(t, "project inside the transaction", inside, p)
		}
		return err
	})
	if p.ID.Version() != 7 || p.Version != 1 || !p.CreatedAt.Equal(now) || !p.UpdatedAt.Equal(now) {
		t.Errorf("created project is %+v at %v", p, now)
	}
	got, err := b.Project(ctx, p.ID)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "project", got, p)

	changed := *got
	off := time.Now()
	changed.Name, changed.Active, changed.DeactivatedAt, changed.UseSharedKeys = "Beta", false, &off, true
	changed.Policy = project.Policy{}
	b.update(func(tx *storage.Tx) error { return tx.UpdateProject(ctx, &changed) })
	if changed.Version != 2 || !changed.CreatedAt.Equal(p.CreatedAt) || changed.UpdatedAt.Before(p.UpdatedAt) {
		t.Errorf("updated project is %+v", changed)
	}
	if got, err = b.Project(ctx, p.ID); err != nil {
		t.Fatal(err)
	}
	equal(t, "updated project", got, &changed)

	changed.Active, changed.DeactivatedAt = true, nil
	b.update(func(tx *storage.Tx) error { return tx.UpdateProject(ctx, &changed) })
	snapshot, err := b.LoadProject(ctx, p.ID)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "loaded project", snapshot, &project.Snapshot{Project: changed})

	// A given id and creation time stay.
	when := time.Date(2020, 3, 8, 2, 30, 0, 123456789, time.FixedZone("", -5*3600))
	imported := &project.Project{ID: newID(t), Name: "imported", CreatedAt: when}
	id := imported.ID
	b.update(func(tx *storage.Tx) error { return tx.CreateProject(ctx, imported) })
	if got, err = b.Project(ctx, id); err != nil {
		t.Fatal(err)
	}
	equal(t, "imported project", got, imported)
	equal(t, "its creation time", got.CreatedAt, when.Truncate(time.Microsecond).UTC())

	_, err = b.Project(ctx, newID(t))
	wantErr(t, "unknown project", err, storage.ErrNotFound)
	_, err = b.LoadProject(ctx, newID(t))
	wantErr(t, "loading an unknown project", err, storage.ErrNotFound)
	err = b.failing(func(ctx context.Context, tx *storage.Tx) error {
		_, err := tx.Project(ctx, newID(t))
		return err
	})
	wantErr(t, "unknown project in a transaction", err, storage.ErrNotFound)
	err = b.failing(func(ctx context.Context, tx *storage.Tx) error {
		return tx.UpdateProject(ctx, &project.Project{ID: newID(t), Name: "x"})
	})
	wantErr(t, "updating an unknown project", err, storage.ErrNotFound)
}

func testProjectNames(t *testing.T, b *bundle) {
	ctx := t.Context()
	names := []string{"a", "A", " a", "Ünïcødé", "漢字", "👩‍👩‍👧", "' OR '1'='1", "a\u0301", "á", "%_\\!", "line\nbreak", "\u202eright"}
	for _, name := range names {
		p := b.project(name)
		got, err := b.Project(ctx, p.ID)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "name", got.Name, name)
	}
	for _, name := range names {
		err := b.failing(func(ctx context.Context, tx *storage.Tx) error {
			return tx.CreateProject(ctx, &project.Project{Name: name})
		})
		wantErr(t, "creating a second "+name, err, storage.ErrConflict)
	}
	p := b.project("other")
	p.Name = "a"
	err := b.failing(func(ctx context.Context, tx *storage.Tx) error { return tx.UpdateProject(ctx, p) })
	wantErr(t, "renaming to a name in use", err, storage.ErrConflict)
	for _, name := range []string{"", "bad \xff", "nul \x00"} {
		err := b.failing(func(ctx context.Context, tx *storage.Tx) error {
			return tx.CreateProject(ctx, &project.Project{Name: name})
		})
		if err == nil {
			t.Errorf("name %q was stored", name)
		}
	}
}
