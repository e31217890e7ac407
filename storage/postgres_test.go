package storage

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// rawPostgres opens the database without this package's help.
func rawPostgres(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	raw, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	return raw
}

// patience is how long a test waits for what must happen, on a machine that has
// other things to do.
const patience = 2 * time.Minute

// eventually polls until ok is true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func TestPostgresSettings(t *testing.T) {
	dsn := newPostgresDSN(t)
	db := configure(t, Config{DSN: dsn, MaxConns: 8, StatementTimeout: 50 * time.Second, ApplicationName: "node-1"})
	if err := db.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := db.conns.Load()
	for _, pool := range []*sql.DB{c.writer, c.reader} {
		readOnly := "off"
		if pool == c.reader {
			readOnly = "on"
		}
		for setting, want := range map[string]string{
			"statement_timeout": "50s", "lock_timeout": "40s", "idle_in_transaction_session_timeout": "30s", "application_name": "node-1",
			"TimeZone": "UTC", "client_encoding": "UTF8", "default_transaction_read_only": readOnly, "transaction_isolation": "read committed",
		} {
			var got string
			if err := pool.QueryRow(`SELECT current_setting($1)`, setting).Scan(&got); err != nil || got != want {
				t.Errorf("%s is %q, want %q: %v", setting, got, want, err)
			}
		}
	}
	if w, r := c.writer.Stats().MaxOpenConnections, c.reader.Stats().MaxOpenConnections; w != 2 || r != 5 {
		t.Errorf("%d writers and %d readers of 8 connections", w, r)
	}
	if _, err := c.reader.Exec(`DELETE FROM secrets`); err == nil {
		t.Error("a reader wrote")
	}
	if offset := db.ClockOffset(); offset.Abs() > time.Minute || offset == 0 {
		t.Errorf("the clock of this machine is %s off", offset)
	}
	if offset := openDB(t, "").ClockOffset(); offset != 0 {
		t.Errorf("SQLite's clock is %s off", offset)
	}
}

// TestPostgresDSNDecides has settings in the DSN that the configuration leaves open.
func TestPostgresDSNDecides(t *testing.T) {
	db := openDB(t, newPostgresDSN(t)+"&statement_timeout=1234&application_name=mine")
	var timeout, name string
	err := db.conns.Load().reader.QueryRow(`SELECT current_setting('statement_timeout'), current_setting('application_name')`).Scan(&timeout, &name)
	if err != nil || timeout != "1234ms" || name != "mine" {
		t.Errorf("%s, %s, %v", timeout, name, err)
	}
}

// TestPostgresSecrets looks for the password wherever an error or the log may show it.
func TestPostgresSecrets(t *testing.T) {
	t.Parallel()
	s := testdb.StartPostgres(t)
	var log bytes.Buffer
	u, err := url.Parse(s.Database())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("postgres", "hunter2")
	check := func(what string, err error) {
		t.Helper()
		for _, text := range []string{fmt.Sprintf("%v %+v %#v", err, err, err), log.String()} {
			for _, part := range []string{"hunter2", "postgres://", "user=", "password="} {
				if strings.Contains(text, part) {
					t.Errorf("%s shows %q: %s", what, part, text)
				}
			}
		}
	}
	attempt := func(what string, change func(u *url.URL)) error {
		t.Helper()
		changed := *u
		change(&changed)
		db := configure(t, Config{DSN: changed.String(), Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		err := db.Open(t.Context())
		if err == nil {
			t.Errorf("%s: opened", what)
		}
		check(what, err)
		_, statusErr := db.MigrationStatus(t.Context())
		check(what+", status", statusErr)
		return err
	}
	if err := attempt("no such user", func(u *url.URL) { u.User = url.UserPassword("nobody", "hunter2") }); errors.Is(err, ErrUnreachable) {
		t.Errorf("a wrong user may pass: %v", err)
	}
	if err := attempt("no such database", func(u *url.URL) { u.Path = "/missing" }); errors.Is(err, ErrUnreachable) {
		t.Errorf("a missing database may pass: %v", err)
	}
	if err := attempt("no TLS", func(u *url.URL) { u.RawQuery = "sslmode=require" }); errors.Is(err, ErrUnreachable) {
		t.Errorf("a server without TLS may pass: %v", err)
	}
	if err := attempt("no such host", func(u *url.URL) { u.Host = "host.invalid:5432" }); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a name that is not known: %v", err)
	}
	s.Stop()
	if err := attempt("stopped", func(*url.URL) {}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("a stopped server: %v", err)
	}
	s.Start()
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err = newDB(t, u.String()).Open(ctx)
	check("paused", err)
	if !errors.Is(err, ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a server that hangs: %v", err)
	}
}

func TestPostgresRefusesOthers(t *testing.T) {
	t.Parallel()
	s := testdb.StartPostgres(t)
	t.Run("AnotherProgram", func(t *testing.T) {
		dsn := s.Database()
		raw := rawPostgres(t, dsn)
		mustExec(t, raw, `CREATE TABLE projects (id TEXT)`)
		err := newDB(t, dsn).Open(t.Context())
		if err == nil || errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "another program") {
			t.Error(err)
		}
		mustExec(t, raw, `CREATE SCHEMA ours`)
		if err := newDB(t, dsn+"&search_path=ours").Open(t.Context()); err != nil {
			t.Errorf("a schema of its own: %v", err)
		}
	})
	t.Run("Encoding", func(t *testing.T) {
		dsn := s.Database()
		mustExec(t, rawPostgres(t, dsn), `CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'`)
		u, _ := url.Parse(dsn)
		u.Path = "/latin"
		err := newDB(t, u.String()).Open(t.Context())
		if err == nil || errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "LATIN1") {
			t.Error(err)
		}
	})
}

// TestPostgresTimeouts has a row locked and a statement that takes too long.
func TestPostgresTimeouts(t *testing.T) {
	t.Parallel()
	dsn := newPostgresDSN(t)
	db := configure(t, Config{DSN: dsn, StatementTimeout: 2 * time.Second})
	if err := db.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	f := makeSealed(t, db, "a")
	holder, err := rawPostgres(t, dsn).Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Rollback()
	if _, err := holder.Exec(`SELECT 1 FROM projects FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	err = db.Update(t.Context(), func(tx *Tx) error {
		_, err := tx.Project(t.Context(), f.project.ID)
		return err
	})
	if !errors.Is(err, ErrBusy) || !errors.Is(err, ErrUnreachable) {
		t.Errorf("a locked row: %v", err)
	}
	if _, err := db.LoadToken(t.Context(), f.token.ID); err != nil {
		t.Errorf("reading a locked row: %v", err)
	}
	_, err = db.conns.Load().reader.Exec(`SELECT pg_sleep(60)`)
	if err = db.classify(err); !errors.Is(err, ErrUnreachable) || errors.Is(err, ErrBusy) {
		t.Errorf("a slow statement: %v", err)
	}
}

// TestPostgresPoolsAreApart has every writer wait while requests are recognised.
func TestPostgresPoolsAreApart(t *testing.T) {
	dsn := newPostgresDSN(t)
	db := openDB(t, dsn)
	f := makeSealed(t, db, "a")
	holder, err := rawPostgres(t, dsn).Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(`SELECT 1 FROM projects FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	var writing sync.WaitGroup
	for range postgresMaxConns {
		writing.Go(func() {
			err := db.Update(t.Context(), func(tx *Tx) error {
				p, err := tx.Project(t.Context(), f.project.ID)
				if err != nil {
					return err
				}
				return tx.UpdateProject(t.Context(), p)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	c := db.conns.Load()
	eventually(t, "all writers wait", func() bool { return c.writer.Stats().WaitCount > 0 })
	for range 10 {
		if _, err := db.LoadToken(t.Context(), f.token.ID); err != nil {
			t.Error(err)
		}
	}
	if err := holder.Rollback(); err != nil {
		t.Fatal(err)
	}
	writing.Wait()
	got, err := db.Project(t.Context(), f.project.ID)
	if err != nil || got.Version != f.project.Version+postgresMaxConns+2 {
		t.Errorf("version %d, %v", got.Version, err)
	}
	var connections int
	err = rawPostgres(t, dsn).QueryRow(`SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = $1 AND datname = current_database()`, postgresApplication).Scan(&connections)
	if err != nil || connections > postgresMaxConns {
		t.Errorf("%d connections of at most %d: %v", connections, postgresMaxConns, err)
	}
}

// TestDeadlockIsRunAgain has two transactions take two rows in opposite order.
func TestDeadlockIsRunAgain(t *testing.T) {
	dsn := newPostgresDSN(t)
	mustExec(t, rawPostgres(t, dsn), `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = ''20ms''', current_database()); END $$`)
	db := openDB(t, dsn)
	a, b := makeSealed(t, db, "a"), makeSealed(t, db, "b")
	var runs sync.WaitGroup
	runs.Add(2) // both hold one row before either asks for the other
	var mu sync.Mutex
	total := 0
	var writing sync.WaitGroup
	for _, order := range [][]*sealedFixture{{a, b}, {b, a}} {
		writing.Go(func() {
			first := true
			err := db.Update(t.Context(), func(tx *Tx) error {
				mu.Lock()
				total++
				mu.Unlock()
				for i, f := range order {
					p, err := tx.Project(t.Context(), f.project.ID)
					if err != nil {
						return err
					}
					if err := tx.UpdateProject(t.Context(), p); err != nil {
						return err
					}
					if i == 0 && first {
						first = false
						runs.Done()
						runs.Wait()
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	writing.Wait()
	if total < 3 {
		t.Errorf("%d runs: nothing was run again", total)
	}
	for _, f := range []*sealedFixture{a, b} {
		if p, err := db.Project(t.Context(), f.project.ID); err != nil || p.Version != f.project.Version+4 {
			t.Errorf("version %d, want %d: %v", p.Version, f.project.Version+4, err)
		}
	}
}

// TestUndoneEndlessly gives up.
func TestUndoneEndlessly(t *testing.T) {
	db := openDB(t, newPostgresDSN(t))
	exec(t, db, `CREATE FUNCTION refuse() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN RAISE SQLSTATE '40001'; END $$`)
	exec(t, db, `CREATE TRIGGER refuse BEFORE INSERT ON projects FOR EACH ROW EXECUTE FUNCTION refuse()`)
	runs := 0
	err := db.Update(t.Context(), func(tx *Tx) error {
		runs++
		_ = tx.CreateProject(t.Context(), &project.Project{Name: "x"})
		return errors.New("something else")
	})
	if runs != maxAttempts || err == nil {
		t.Errorf("%d runs: %v", runs, err)
	}
}

// TestPostgresPlans keeps the request path on the primary key and lists on
// their indexes, without sorting.
func TestPostgresPlans(t *testing.T) {
	db := openDB(t, newPostgresDSN(t))
	tokens := `SELECT ` + tokenColumns + ` FROM tokens t`
	const order = ` ORDER BY t.created_at DESC, t.id DESC LIMIT 10`
	const id = `'01890000-0000-7000-8000-000000000001'`
	for query, want := range map[string]string{
		strings.ReplaceAll(loadTokenSQL, "$1", id):   "using tokens_pkey",
		strings.ReplaceAll(loadProjectSQL, "$1", id): "using projects_pkey",
		tokens + order: "Backward using tokens_created",
		tokens + ` WHERE (t.created_at, t.id) < (1, ` + id + `)` + order:                               "Backward using tokens_created",
		tokens + ` WHERE t.project_id = ` + id + ` AND (t.created_at, t.id) < (1, ` + id + `)` + order: "Backward using tokens_project",
	} {
		conn, err := db.conns.Load().reader.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// Empty tables are always scanned whole, unless that is forbidden.
		if _, err := conn.ExecContext(t.Context(), `SET enable_seqscan = off; SET enable_bitmapscan = off`); err != nil {
			t.Fatal(err)
		}
		rows, err := conn.QueryContext(t.Context(), "EXPLAIN "+query)
		if err != nil {
			t.Fatal(err)
		}
		var plan []string
		err = eachRow(rows, func() error {
			plan = append(plan, "")
			return rows.Scan(&plan[len(plan)-1])
		})
		if err != nil {
			t.Fatal(err)
		}
		sorted := strings.Contains(plan[0], "Sort") && !strings.Contains(query, "provider_keys") // keys are sorted, being few
		if all := strings.Join(plan, "\n"); !strings.Contains(all, want) || sorted {
			t.Errorf("%s\nplan: %s", query, all)
		}
		conn.Close()
	}
}
