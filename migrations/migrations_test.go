package migrations

import (
	"context"
	"database/sql"
	"errors"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testdb.Main(m)) }

// onEach runs a test on an empty database of every dialect.
func onEach(t *testing.T, test func(t *testing.T, db *sql.DB, dialect Dialect)) {
	for _, dialect := range []Dialect{SQLite, Postgres} {
		t.Run(string(dialect), func(t *testing.T) { test(t, open(t, dialect), dialect) })
	}
}

// open makes an empty database.
func open(t *testing.T, dialect Dialect) *sql.DB {
	t.Helper()
	driver, dsn := "sqlite", "file:"+filepath.ToSlash(filepath.Join(t.TempDir(), "x.db"))+"?_pragma=foreign_keys(1)&_txlock=immediate&_dqs=0"
	if dialect == Postgres {
		driver, dsn = "pgx", testdb.Postgres(t)+"&timezone=UTC"
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db
}

func newest(t *testing.T, dialect Dialect) int {
	t.Helper()
	v, err := Latest(dialect)
	if err != nil {
		t.Fatal(err)
	}
	return int(v)
}

func up(t *testing.T, db *sql.DB, dialect Dialect, want int) {
	t.Helper()
	if n, err := Up(t.Context(), db, dialect); err != nil || n != want {
		t.Fatalf("applied %d migrations, want %d: %v", n, want, err)
	}
}

// stepper applies one migration after the other.
type stepper struct {
	t *testing.T
	p *goose.Provider
}

func newStepper(t *testing.T, db *sql.DB, dialect Dialect) stepper {
	t.Helper()
	p, err := newProvider(db, dialect)
	if err != nil {
		t.Fatal(err)
	}
	return stepper{t, p}
}

// step returns the name of the migration that it applied.
func (s stepper) step() string {
	s.t.Helper()
	result, err := s.p.UpByOne(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return path.Base(result.Source.Path)
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
			VALUES ($1, 1, '', 'a', 'failure', '', '', '', '', '', '', '')`, []any{entry}},
		{`INSERT INTO secrets (name, sealed) VALUES ('n', $1)`, []any{[]byte("x")}},
		{`INSERT INTO cert_store (name, sealed, size, updated_at) VALUES ('a/b', $1, 1, 1)`, []any{[]byte("x")}},
		{`INSERT INTO cert_locks (name, owner, expires_at) VALUES ('n', 'o', 1)`, nil},
		{`INSERT INTO leases (name, owner, expires_at) VALUES ('n', 'o', 1)`, nil},
		{`INSERT INTO events (id, created_at, provider, model, status, outcome, payload) VALUES ($1, 1, '', '', 200, 'ok', '{}')`, []any{entry}},
		{`INSERT INTO event_terms (term, id) VALUES ('m:x', $1)`, []any{entry}},
		{`INSERT INTO event_cursors (name, position, updated_at) VALUES ('n', 0, 1)`, nil},
		{`INSERT INTO event_dead (sink, seq, payload, reason, attempts, created_at) VALUES ('n', 1, '{}', '', 1, 1)`, nil},
		{`INSERT INTO usage_hourly (hour, project_id, token_id, provider, model, end_user, requests, errors, cache_hits, input_tokens, cached_tokens,
			cache_write_tokens, output_tokens, reasoning_tokens, cost_nano_usd, unpriced, estimated) VALUES (0, $1, $2, '', '', '', 1, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0)`, []any{project, tok}},
		{`INSERT INTO meta (name, value) VALUES ('n', 'v')`, nil},
		{`INSERT INTO ledger (scope, scope_id, unit, period, period_start, limit_amount, version, updated_at) VALUES ('token', $1, 'requests', 'total', 0, 1, 1, 1)`, []any{tok}},
		{`INSERT INTO ledger_leases (scope, scope_id, unit, period, period_start, holder, granted, used, returned, expires_at, updated_at)
			VALUES ('token', $1, 'requests', 'total', 0, $2, 3, 1, 1, 1, 1)`, []any{tok, entry}},
	} {
		if _, err := db.Exec(insert.query, insert.args...); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUpDownUp(t *testing.T) { onEach(t, testUpDownUp) }

func testUpDownUp(t *testing.T, db *sql.DB, dialect Dialect) {
	latest := newest(t, dialect)
	up(t, db, dialect, latest)
	up(t, db, dialect, 0)
	full := schema(t, db, dialect)
	if len(full) < 5 {
		t.Fatalf("schema is %v", full)
	}
	fill(t, db)

	p, err := newProvider(db, dialect)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.DownTo(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if left := schema(t, db, dialect); len(left) > 0 {
		t.Errorf("left after all Downs: %v", left)
	}
	up(t, db, dialect, latest)
	if again := schema(t, db, dialect); !slices.Equal(again, full) {
		t.Errorf("schema after up, down, up:\n%s\nwant\n%s", strings.Join(again, "\n"), strings.Join(full, "\n"))
	}
	fill(t, db)
}

// TestSteps goes up one migration at a time, each time up, down and up again:
// nothing but the step's own tables changes, and older data stays.
func TestSteps(t *testing.T) { onEach(t, testSteps) }

func testSteps(t *testing.T, db *sql.DB, dialect Dialect) {
	p, err := newProvider(db, dialect)
	if err != nil {
		t.Fatal(err)
	}
	var before []string
	for range p.ListSources() {
		if _, err := p.UpByOne(t.Context()); err != nil {
			t.Fatal(err)
		}
		after := schema(t, db, dialect)
		if _, err := p.Down(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := schema(t, db, dialect); !slices.Equal(got, before) {
			t.Errorf("after a Down:\n%v\nwant\n%v", got, before)
		}
		if _, err := p.UpByOne(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := schema(t, db, dialect); !slices.Equal(got, after) {
			t.Errorf("after up, down, up:\n%v\nwant\n%v", got, after)
		}
		before = after
	}
	fill(t, db)
}

func TestStrictTables(t *testing.T) { onEach(t, testStrictTables) }

func testStrictTables(t *testing.T, db *sql.DB, dialect Dialect) {
	up(t, db, dialect, newest(t, dialect))
	fill(t, db)
	for _, query := range []string{
		`UPDATE projects SET is_active = 2`,
		`UPDATE projects SET created_at = 'today'`,
		`UPDATE projects SET id = 'x'`,
		`UPDATE projects SET version = 0`,
		`UPDATE provider_keys SET sealed = CAST('sk-plaintext' AS TEXT)`,
		`UPDATE provider_keys SET weight = 0`,
		`UPDATE provider_keys SET project_id = '01890000-0000-7000-8000-00000000ffff'`,
		`UPDATE tokens SET hash = CAST('sk-plaintext' AS TEXT)`,
		`UPDATE tokens SET policy = NULL`,
		`UPDATE audit_events SET outcome = 'maybe'`,
		`UPDATE audit_events SET occurrences = 0`,
		`UPDATE events SET id = 'x'`,
		`UPDATE events SET payload = NULL`,
		`UPDATE event_cursors SET position = -1`,
		`UPDATE event_dead SET requeued = 2`,
		`UPDATE ledger SET scope = 'everybody'`,
		`UPDATE ledger SET unit = 'eur'`,
		`UPDATE ledger SET period = 'hour'`,
		`UPDATE ledger SET leased = -1`,
		`UPDATE ledger SET spent = -1`,
		`UPDATE ledger_leases SET used = 3`,
		`UPDATE ledger_leases SET holder = 'x'`,
		`DELETE FROM projects`,
	} {
		if _, err := db.Exec(query); err == nil {
			t.Errorf("%s: not refused", query)
		}
	}
}

func TestNewer(t *testing.T) { onEach(t, testNewer) }

func testNewer(t *testing.T, db *sql.DB, dialect Dialect) {
	up(t, db, dialect, newest(t, dialect))
	if _, err := db.Exec(`INSERT INTO ` + Table + ` (version_id, is_applied) VALUES (77, TRUE)`); err != nil {
		t.Fatal(err)
	}
	before := schema(t, db, dialect)
	_, err := Up(t.Context(), db, dialect)
	newer := (*NewerSchemaError)(nil)
	if !errors.As(err, &newer) || *newer != (NewerSchemaError{Database: 77, Binary: int64(newest(t, dialect))}) {
		t.Errorf("newer database: %v", err)
	}
	if !slices.Equal(schema(t, db, dialect), before) {
		t.Error("a newer database was changed")
	}
}

func TestList(t *testing.T) { onEach(t, testList) }

func testList(t *testing.T, db *sql.DB, dialect Dialect) {
	check := func(db *sql.DB, want string) {
		t.Helper()
		list, err := List(t.Context(), db, dialect)
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
	latest := newest(t, dialect)
	check(nil, strings.Repeat("-", latest))
	check(db, strings.Repeat("-", latest))
	if left := schema(t, db, dialect); len(left) > 0 {
		t.Errorf("listing made %v", left)
	}
	p, err := newProvider(db, dialect)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	check(db, "++"+strings.Repeat("-", latest-2))
	up(t, db, dialect, latest-2)
	check(db, strings.Repeat("+", latest))
}

func TestErrors(t *testing.T) {
	if _, err := Up(t.Context(), open(t, SQLite), "oracle"); err == nil || !strings.Contains(err.Error(), "oracle") {
		t.Errorf("unknown dialect: %v", err)
	}
	onEach(t, func(t *testing.T, db *sql.DB, dialect Dialect) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Up(ctx, db, dialect); !errors.Is(err, context.Canceled) {
			t.Errorf("ended context: %v", err)
		}
		if _, err := db.Exec(`CREATE TABLE tokens (x TEXT)`); err != nil {
			t.Fatal(err)
		}
		if _, err := Up(t.Context(), db, dialect); err == nil || !strings.Contains(err.Error(), "00003_tokens.sql") {
			t.Errorf("failing migration: %v", err)
		}
		pending := (*PendingError)(nil)
		if err := Check(t.Context(), db, dialect); !errors.As(err, &pending) || pending.Database != 2 {
			t.Errorf("checking after it: %v", err)
		}
		if _, err := db.Exec(`DROP TABLE tokens`); err != nil {
			t.Fatal(err)
		}
		up(t, db, dialect, newest(t, dialect)-2)
		if err := Check(t.Context(), db, dialect); err != nil {
			t.Errorf("checking after all: %v", err)
		}
	})
	pending := (*PendingError)(nil)
	if err := Check(t.Context(), nil, Postgres); !errors.As(err, &pending) || pending.Database != 0 || pending.Binary != int64(newest(t, Postgres)) {
		t.Errorf("checking no database: %v", err)
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
