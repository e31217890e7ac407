package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/predecessor"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/storage"
	old "github.com/sofatutor/caddy-llm-proxy/storage/predecessortest"
)

const (
	oldProject = "6f1c1f0e-8a52-4a55-9a6b-0d3e7c1f2b3a"
	oldTokenID = "b7a3c2d1-0e4f-4a6b-8c9d-1e2f3a4b5c6d"
)

// fill adds a row to every table, with times as the drivers write them.
func fill(t *testing.T, d *old.Database, schema old.Schema) {
	t.Helper()
	at := "2025-03-04 14:00:00.5+02:00"
	if d.Postgres {
		at = "2025-03-04 12:00:00.5"
	}
	p := old.Row{"id": oldProject, "name": "Search", "openai_api_key": "sk-provider", "is_active": true, "created_at": at, "updated_at": at}
	tok := old.Row{"token": "sk-AZRu8SoAeryN7wEjRWeJqw", "project_id": oldProject, "is_active": false, "request_count": 7, "created_at": at}
	if schema == old.Latest {
		p["api_key"], p["deactivated_at"] = p["openai_api_key"], at
		delete(p, "openai_api_key")
		tok["id"], tok["max_requests"], tok["expires_at"], tok["metadata"] = oldTokenID, 9, at, `{"a":"b"}`
	}
	d.Insert(t, "projects", p)
	d.Insert(t, "tokens", tok)
	d.Insert(t, "audit_events", old.Row{"id": "1", "timestamp": at, "action": "token.create", "actor": "management_api", "outcome": "failure", "token_id": "hidden"})
}

// show reads everything into one text.
func show(t *testing.T, p *storage.Predecessor) string {
	t.Helper()
	var b strings.Builder
	text := func(values ...*string) {
		for _, v := range values {
			if v == nil {
				b.WriteString("- ")
			} else {
				b.WriteString(*v + " ")
			}
		}
		b.WriteString("\n")
	}
	err := errors.Join(
		p.Projects(t.Context(), func(r *predecessor.ProjectRow) error {
			text(r.ID, r.Name, r.APIKey, r.IsActive, r.DeactivatedAt, r.CreatedAt, r.UpdatedAt)
			return nil
		}),
		p.Tokens(t.Context(), func(r *predecessor.TokenRow) error {
			text(r.ID, r.Token, r.ProjectID, r.ExpiresAt, r.IsActive, r.DeactivatedAt, r.RequestCount, r.MaxRequests, r.CreatedAt, r.Metadata)
			return nil
		}),
		p.AuditEvents(t.Context(), func(r *predecessor.AuditRow) error {
			text(r.ID, r.Timestamp, r.Action, r.Actor, r.ProjectID, r.RequestID, r.ClientIP, r.Method, r.Path, r.UserAgent, r.Outcome, r.Reason)
			return nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPredecessorRead(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		schema old.Schema
		make   func(t *testing.T, s old.Schema) *old.Database
		want   string // {on}, {off} and {at} are what the database writes
	}{
		{"sqlite", old.Latest, func(t *testing.T, s old.Schema) *old.Database { return old.SQLite(t, s) }, ""},
		{"sqlite first", old.First, func(t *testing.T, s old.Schema) *old.Database { return old.SQLite(t, s) }, ""},
		{"postgres", old.Latest, func(t *testing.T, s old.Schema) *old.Database { return old.Postgres(t, testdb.Postgres(t), s) }, ""},
		{"postgres first", old.First, func(t *testing.T, s old.Schema) *old.Database { return old.Postgres(t, testdb.Postgres(t), s) }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := tc.make(t, tc.schema)
			fill(t, d, tc.schema)
			on, off, at := "1", "0", "2025-03-04 14:00:00.5+02:00"
			if d.Postgres {
				on, off, at = "true", "false", "2025-03-04 12:00:00.5"
			}
			want := fmt.Sprintf("%[1]s Search sk-provider %[2]s %[4]s %[4]s %[4]s \n%[5]s sk-AZRu8SoAeryN7wEjRWeJqw %[1]s %[4]s %[3]s - 7 9 %[4]s {\"a\":\"b\"} \n1 %[4]s token.create management_api - - - - - - failure - \n",
				oldProject, on, off, at, oldTokenID)
			if tc.schema == old.First {
				want = fmt.Sprintf("%[1]s Search sk-provider %[2]s - %[4]s %[4]s \n- sk-AZRu8SoAeryN7wEjRWeJqw %[1]s - %[3]s - 7 - %[4]s - \n1 %[4]s token.create management_api - - - - - - failure - \n",
					oldProject, on, off, at)
			}
			p, err := storage.OpenPredecessor(t.Context(), d.DSN)
			if err != nil {
				t.Fatal(err)
			}
			if got := show(t, p); got != want {
				t.Errorf("read\n%s\nwant\n%s", got, want)
			}
			// What is written meanwhile belongs to another moment.
			d.Insert(t, "audit_events", old.Row{"id": "2", "timestamp": "2025-03-05 00:00:00", "action": "a", "actor": "b", "outcome": "success"})
			if got := show(t, p); got != want {
				t.Errorf("after a write: read\n%s\nwant\n%s", got, want)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			p, err = storage.OpenPredecessor(t.Context(), d.DSN)
			if err != nil {
				t.Fatal(err)
			}
			if got := show(t, p); strings.Count(got, "\n") != 4 {
				t.Errorf("read later\n%s", got)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A file that nobody uses is read without a trace, and one that came into use
// meanwhile is not believed.
func TestPredecessorFileAtRest(t *testing.T) {
	t.Parallel()
	d := old.SQLite(t, old.Latest)
	fill(t, d, old.Latest)
	d.Close()
	before, err := os.ReadFile(d.DSN)
	if err != nil {
		t.Fatal(err)
	}
	p, err := storage.OpenPredecessor(t.Context(), d.DSN)
	if err != nil {
		t.Fatal(err)
	}
	if got := show(t, p); strings.Count(got, "\n") != 3 {
		t.Errorf("read\n%s", got)
	}
	files, err := os.ReadDir(filepath.Dir(d.DSN))
	if err != nil || len(files) != 1 {
		t.Errorf("reading made files: %v, %v", files, err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if after, err := os.ReadFile(d.DSN); err != nil || !bytes.Equal(before, after) {
		t.Errorf("reading changed the file: %v", err)
	}

	if p, err = storage.OpenPredecessor(t.Context(), d.DSN); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.DSN+"-wal", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err == nil || !strings.Contains(err.Error(), "stop the predecessor") {
		t.Errorf("after another program has opened it: %v", err)
	}
}

func TestPredecessorRefusals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ours := filepath.Join(dir, "ours.db")
	open(t, "sqlite", ours)
	oursPostgres := testdb.Postgres(t)
	open(t, "postgres", oursPostgres)
	keyless := old.SQLite(t, old.Latest)
	keyless.Exec(t, `ALTER TABLE projects RENAME COLUMN api_key TO secret`)
	for dsn, words := range map[string]string{
		filepath.Join(dir, "none.db"):                "does not exist",
		write("text", strings.Repeat("hello ", 100)): "not a SQLite database",
		write("empty", ""):                           "no tables projects and tokens",
		dir:                                          "directory",
		"":                                           "empty",
		"mysql://u:hunter2@h/db":                     "MySQL",
		"u:hunter2@tcp(h:3306)/db":                   "MySQL",
		"postgres://u:hunter2@127.0.0.1:1/db":        "connecting",
		testdb.Postgres(t):                           "no tables projects and tokens",
		ours:                                         "database of this program",
		oursPostgres:                                 "database of this program",
		keyless.DSN:                                  "neither a column api_key",
	} {
		p, err := storage.OpenPredecessor(t.Context(), dsn)
		if err == nil {
			p.Close()
		}
		if err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", dsn, err, words)
		}
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	for driver, dsn := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return filepath.Join(t.TempDir(), "llm-proxy.db") },
		"postgres": func(t *testing.T) string { return testdb.Postgres(t) },
	} {
		t.Run(driver, func(t *testing.T) { testImport(t, open(t, driver, dsn(t))) })
	}
}

func testImport(t *testing.T, db *storage.DB) {
	ctx := t.Context()
	at := time.Date(2025, 3, 4, 12, 0, 0, 0, time.UTC)
	p := &project.Project{ID: uuid.FromStringOrNil(oldProject), Name: "Search", Active: false, DeactivatedAt: &at, CreatedAt: at, UpdatedAt: at.Add(time.Hour)}
	k := &project.Key{ID: uuid.NewV5(p.ID, "k"), ProjectID: p.ID, Provider: "openai", Weight: 1, Active: true, CreatedAt: at}
	tok := &token.Token{ID: uuid.FromStringOrNil(oldTokenID), ProjectID: p.ID, Active: true, ExpiresAt: &at, Hash: make([]byte, token.HashSize), HashScheme: token.SchemeLegacy, CreatedAt: at}
	e := audit.Entry{ID: uuid.Must(uuid.NewV4()), Time: at, Actor: "management_api", Action: "token.create", Outcome: audit.OutcomeFailure, UserAgent: strings.Repeat("\xff", 1000), Occurrences: 1}
	all := func(dry bool) (added [4]bool) {
		t.Helper()
		err := db.Import(ctx, dry, func(tx *storage.ImportTx) error {
			var errs [4]error
			added[0], errs[0] = tx.AddProject(ctx, p)
			added[1], errs[1] = tx.AddKey(ctx, k, secret.NewValue("sk-provider-key-1234"), added[0])
			added[2], errs[2] = tx.AddToken(ctx, tok)
			added[3], errs[3] = tx.AddAudit(ctx, e)
			return errors.Join(errs[:]...)
		})
		if err != nil {
			t.Fatal(err)
		}
		return added
	}
	if got := all(true); got != [4]bool{true, true, true, true} {
		t.Errorf("dry: %v", got)
	}
	if n, err := db.CountProjects(ctx, storage.ProjectFilter{}); n != 0 || err != nil {
		t.Errorf("a dry run made %d projects, %v", n, err)
	}
	if got := all(false); got != [4]bool{true, true, true, true} {
		t.Errorf("first: %v", got)
	}
	for _, dry := range []bool{false, true} {
		if got := all(dry); got != [4]bool{} {
			t.Errorf("again: %v", got)
		}
	}

	rec, err := db.LoadToken(ctx, tok.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got := rec.Token; !got.CreatedAt.Equal(at) || !got.ExpiresAt.Equal(at) || got.HashScheme != token.SchemeLegacy || got.Version != 1 {
		t.Errorf("token %+v", got)
	}
	if got := rec.Project.Project; got.Active || !got.DeactivatedAt.Equal(at) || !got.CreatedAt.Equal(at) || !got.UpdatedAt.Equal(p.UpdatedAt) || got.Version != 1 {
		t.Errorf("project %+v", got)
	}
	if c := rec.Project.Credentials; len(c) != 1 || c[0].Err != nil || c[0].Secret.Reveal() != "sk-provider-key-1234" {
		t.Errorf("credentials %+v", c)
	}
	entries, err := db.AuditEntries(ctx, storage.AuditFilter{})
	if err != nil || len(entries) != 1 || entries[0].ID != e.ID || !entries[0].Time.Equal(at) || len(entries[0].UserAgent) > 256 {
		t.Errorf("audit %+v, %v", entries, err)
	}

	// A key that comes later is announced, and the name of another project leaves
	// the rest of the transaction in force.
	var heard []token.Change
	defer db.OnChange(func(c token.Change) { heard = append(heard, c) })()
	other := *k
	other.ID, other.Provider = uuid.NewV5(p.ID, "other"), "anthropic"
	twin := *p
	twin.ID = uuid.Must(uuid.NewV4())
	for _, dry := range []bool{true, false} {
		err = db.Import(ctx, dry, func(tx *storage.ImportTx) error {
			if _, err := tx.AddProject(ctx, &twin); !errors.Is(err, storage.ErrConflict) {
				t.Errorf("a twin: %v", err)
			}
			added, err := tx.AddKey(ctx, &other, secret.NewValue("sk-ant-1234567890"), false)
			if !added {
				t.Errorf("a later key, dry %v: %v", dry, err)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if keys, err := db.Keys(ctx, p.ID); err != nil || len(keys) != 2 {
		t.Errorf("keys %+v, %v", keys, err)
	}
	if len(heard) != 1 || heard[0].Kind != token.ProjectChanged || heard[0].ID != p.ID {
		t.Errorf("announced %+v", heard)
	}

	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if err := db.Import(canceled, false, func(*storage.ImportTx) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: %v", err)
	}
}
