package migrations

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	_ "modernc.org/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openSQLite(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(filepath.Join(t.TempDir(), "x.db"))+"?_pragma=foreign_keys(1)&_txlock=immediate&_dqs=0")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db
}

func up(t *testing.T, db *sql.DB, want int) {
	t.Helper()
	if n, err := Up(t.Context(), db, SQLite); err != nil || n != want {
		t.Fatalf("applied %d migrations, want %d: %v", n, want, err)
	}
}

// schema is every table and index, as its statement.
func schema(t *testing.T, db *sql.DB) []string {
	t.Helper()
	rows, err := db.Query(`SELECT name || ': ' || sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT IN ($1, 'sqlite_sequence') ORDER BY name`, Table)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// fill puts a row into every table.
func fill(t *testing.T, db *sql.DB) {
	t.Helper()
	const project, key, tok, entry = "01890000-0000-7000-8000-000000000001", "01890000-0000-7000-8000-000000000002",
		"01890000-0000-7000-8000-000000000003", "01890000-0000-7000-8000-000000000004"
	for _, insert := range []struct {
		query string
		args  []any
	}{
		{`INSERT INTO projects (id, name, name_folded, is_active, version, created_at, updated_at) VALUES ($1, 'P', 'p', TRUE, 1, 1, 1)`, []any{project}},
		{`INSERT INTO provider_keys (id, project_id, provider, sealed, last4, is_active, created_at, updated_at) VALUES ($1, $2, 'openai', $3, '', TRUE, 1, 1)`, []any{key, project, []byte("x")}},
		{`INSERT INTO tokens (id, project_id, name_folded, is_active, hash, hash_scheme, version, created_at, updated_at) VALUES ($1, $2, '', TRUE, $3, 's', 1, 1, 1)`, []any{tok, project, []byte("x")}},
		{`INSERT INTO audit_events (id, created_at, actor, action, outcome, target_type, client_ip, request_id, method, path, user_agent, reason)
			VALUES ($1, 1, '', 'a', 'success', '', '', '', '', '', '', '')`, []any{entry}},
		{`INSERT INTO secrets (name, sealed) VALUES ('n', $1)`, []any{[]byte("x")}},
	} {
		if _, err := db.Exec(insert.query, insert.args...); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUpDownUp(t *testing.T) {
	db := openSQLite(t)
	latest, err := Latest(SQLite)
	if err != nil {
		t.Fatal(err)
	}
	up(t, db, int(latest))
	up(t, db, 0)
	full := schema(t, db)
	if len(full) < 5 {
		t.Fatalf("schema is %v", full)
	}
	fill(t, db)

	p, err := newProvider(db, SQLite)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.DownTo(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if left := schema(t, db); len(left) > 0 {
		t.Errorf("left after all Downs: %v", left)
	}
	up(t, db, int(latest))
	if again := schema(t, db); !slices.Equal(again, full) {
		t.Errorf("schema after up, down, up:\n%s\nwant\n%s", strings.Join(again, "\n"), strings.Join(full, "\n"))
	}
	fill(t, db)
}

// TestSteps goes up one migration at a time, each time up, down and up again:
// nothing but the step's own tables changes, and older data stays.
func TestSteps(t *testing.T) {
	db := openSQLite(t)
	p, err := newProvider(db, SQLite)
	if err != nil {
		t.Fatal(err)
	}
	var before []string
	for range p.ListSources() {
		if _, err := p.UpByOne(t.Context()); err != nil {
			t.Fatal(err)
		}
		after := schema(t, db)
		if _, err := p.Down(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := schema(t, db); !slices.Equal(got, before) {
			t.Errorf("after a Down:\n%v\nwant\n%v", got, before)
		}
		if _, err := p.UpByOne(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := schema(t, db); !slices.Equal(got, after) {
			t.Errorf("after up, down, up:\n%v\nwant\n%v", got, after)
		}
		before = after
	}
	fill(t, db)
}

func TestStrictTables(t *testing.T) {
	db := openSQLite(t)
	up(t, db, 5)
	fill(t, db)
	for _, query := range []string{
		`UPDATE projects SET is_active = 2`,
		`UPDATE projects SET created_at = 'today'`,
		`UPDATE projects SET id = 'x'`,
		`UPDATE projects SET version = 0`,
		`UPDATE provider_keys SET sealed = 'sk-plaintext'`,
		`UPDATE provider_keys SET weight = 0`,
		`UPDATE provider_keys SET project_id = '01890000-0000-7000-8000-00000000ffff'`,
		`UPDATE tokens SET hash = 'sk-plaintext'`,
		`UPDATE tokens SET policy = NULL`,
		`UPDATE audit_events SET outcome = 'maybe'`,
		`DELETE FROM projects`,
	} {
		if _, err := db.Exec(query); err == nil {
			t.Errorf("%s: not refused", query)
		}
	}
}

func TestNewer(t *testing.T) {
	db := openSQLite(t)
	up(t, db, 5)
	if _, err := db.Exec(`INSERT INTO ` + Table + ` (version_id, is_applied) VALUES (77, TRUE)`); err != nil {
		t.Fatal(err)
	}
	before := schema(t, db)
	_, err := Up(t.Context(), db, SQLite)
	newer := (*NewerSchemaError)(nil)
	if !errors.As(err, &newer) || *newer != (NewerSchemaError{Database: 77, Binary: 5}) {
		t.Errorf("newer database: %v", err)
	}
	if !slices.Equal(schema(t, db), before) {
		t.Error("a newer database was changed")
	}
}

func TestList(t *testing.T) {
	db := openSQLite(t)
	check := func(db *sql.DB, want string) {
		t.Helper()
		list, err := List(t.Context(), db, SQLite)
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for i, m := range list {
			if i > 0 && m.Version <= list[i-1].Version || m.Name == "" || m.Applied == m.AppliedAt.IsZero() {
				t.Errorf("odd entry %+v", m)
			}
			got.WriteByte("-+"[map[bool]int{true: 1}[m.Applied]])
		}
		if got.String() != want {
			t.Errorf("status is %s, want %s", &got, want)
		}
	}
	check(nil, "-----")
	check(db, "-----")
	if left := schema(t, db); len(left) > 0 {
		t.Errorf("listing made %v", left)
	}
	p, err := newProvider(db, SQLite)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	check(db, "++---")
	up(t, db, 3)
	check(db, "+++++")
}

func TestErrors(t *testing.T) {
	if _, err := Up(t.Context(), openSQLite(t), "oracle"); err == nil || !strings.Contains(err.Error(), "oracle") {
		t.Errorf("unknown dialect: %v", err)
	}
	db := openSQLite(t)
	if _, err := db.Exec(`CREATE TABLE tokens (x)`); err != nil {
		t.Fatal(err)
	}
	if _, err := Up(t.Context(), db, SQLite); err == nil || !strings.Contains(err.Error(), "00003_tokens.sql") {
		t.Errorf("failing migration: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Up(ctx, openSQLite(t), SQLite); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}

// TestFiles holds every file to the format: numbered without gaps, with a Down.
func TestFiles(t *testing.T) {
	for dialect := range dialects {
		entries, err := files.ReadDir(string(dialect))
		if err != nil {
			t.Fatal(err)
		}
		p, err := newProvider(nil, dialect)
		if err != nil {
			t.Fatal(err)
		}
		for i, source := range p.ListSources() {
			if source.Version != int64(i+1) {
				t.Errorf("%s: version %d at place %d", dialect, source.Version, i+1)
			}
		}
		for _, e := range entries {
			text, err := files.ReadFile(string(dialect) + "/" + e.Name())
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(string(text), "-- +goose Up\n") || strings.Count(string(text), "\n-- +goose Down\n") != 1 {
				t.Errorf("%s lacks Up or Down", e.Name())
			}
		}
	}
}
