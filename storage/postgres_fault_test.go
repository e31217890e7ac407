package storage

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/migrations"
)

// warmUp has every reader and writer connect.
func warmUp(t *testing.T, db *DB, f *sealedFixture) {
	t.Helper()
	c := db.conns.Load()
	var held sync.WaitGroup
	held.Add(c.writer.Stats().MaxOpenConnections)
	var wg sync.WaitGroup
	for range c.writer.Stats().MaxOpenConnections {
		wg.Go(func() {
			err := db.Update(t.Context(), func(*Tx) error {
				held.Done()
				held.Wait()
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	for range 10 * c.reader.Stats().MaxOpenConnections {
		wg.Go(func() {
			if _, err := db.LoadToken(t.Context(), f.token.ID); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestPostgresRestart restarts the server between two calls: nobody notices,
// although every connection of the pools is dead.
func TestPostgresRestart(t *testing.T) {
	t.Parallel()
	s := testdb.StartPostgres(t)
	db := openDB(t, s.Database())
	f := makeSealed(t, db, "a")
	for name, restart := range map[string]func(){"stopped": s.Stop, "killed": s.Kill} {
		calls := map[string]func() error{
			"LoadToken": func() error { _, err := db.LoadToken(t.Context(), f.token.ID); return err },
			"Project":   func() error { _, err := db.Project(t.Context(), f.project.ID); return err },
			"Projects":  func() error { _, err := db.Projects(t.Context(), ProjectFilter{}); return err },
			"Ping":      func() error { return db.Ping(t.Context()) },
			"Update": func() error {
				return db.Update(t.Context(), func(tx *Tx) error { return tx.UpdateToken(t.Context(), &f.token) })
			},
		}
		for first := range calls {
			if name == "killed" && first != "LoadToken" && first != "Update" {
				continue
			}
			warmUp(t, db, f)
			restart()
			if err := calls[first](); !errors.Is(err, ErrUnreachable) {
				t.Errorf("%s on a server that was %s: %v", first, name, err)
			}
			s.Start()
			for _, call := range []string{first, "LoadToken", "Update", "Projects"} {
				if err := calls[call](); err != nil {
					t.Errorf("%s, called first after the server was %s: %s: %v", first, name, call, err)
				}
			}
		}
	}
}

// TestPostgresRestartUnseen is the same without a failed call in between.
func TestPostgresRestartUnseen(t *testing.T) {
	t.Parallel()
	s := testdb.StartPostgres(t)
	db := openDB(t, s.Database())
	f := makeSealed(t, db, "a")
	for _, restart := range []func(){s.Stop, s.Kill} {
		warmUp(t, db, f)
		restart()
		s.Start()
		warmUp(t, db, f)
	}
}

// TestConnectionLostInATransaction runs the transaction again, unless it was
// being committed: then it tells that it does not know.
func TestConnectionLostInATransaction(t *testing.T) {
	t.Parallel()
	dsn := newPostgresDSN(t)
	db := openDB(t, dsn)
	f := makeSealed(t, db, "a")
	raw := rawPostgres(t, dsn)
	gaps, changes := 0, 0
	t.Cleanup(db.OnGap(func() { gaps++ }))
	t.Cleanup(db.OnChange(func(token.Change) { changes++ }))

	runs := 0
	rename := func(name string, before func(tx *Tx) error) error {
		return db.Update(t.Context(), func(tx *Tx) error {
			runs++
			p, err := tx.Project(t.Context(), f.project.ID)
			if err != nil {
				return err
			}
			if err := before(tx); err != nil {
				return err
			}
			p.Name = name
			return tx.UpdateProject(t.Context(), p)
		})
	}
	terminate := func(tx *Tx) error {
		var pid int
		if err := tx.tx.QueryRow(`SELECT pg_backend_pid()`).Scan(&pid); err != nil {
			return err
		}
		_, err := raw.Exec(`SELECT pg_terminate_backend($1)`, pid)
		return err
	}
	err := rename("b", func(tx *Tx) error {
		if runs > 1 {
			return nil
		}
		return terminate(tx)
	})
	if err != nil || runs != 2 || gaps != 0 || changes != 1 {
		t.Errorf("terminated once: %d runs, %d gaps, %d changes, %v", runs, gaps, changes, err)
	}
	runs = 0
	if err := rename("c", terminate); !errors.Is(err, ErrUnreachable) || runs != 2 || gaps != 0 {
		t.Errorf("terminated always: %d runs, %d gaps, %v", runs, gaps, err)
	}

	// A deferred trigger makes the commit take long enough to be cut off.
	exec(t, db, `CREATE FUNCTION linger() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END $$`)
	exec(t, db, `CREATE CONSTRAINT TRIGGER linger AFTER UPDATE ON projects DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION linger()`)
	holder, err := raw.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Rollback()
	if _, err := holder.Exec(`SELECT pg_advisory_xact_lock(42)`); err != nil {
		t.Fatal(err)
	}
	runs, changes = 0, 0
	result := make(chan error)
	go func() { result <- rename("d", func(*Tx) error { return nil }) }()
	eventually(t, "the commit waits", func() bool {
		var n int
		err := raw.QueryRow(`SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event = 'advisory' AND query ILIKE 'commit%' AND datname = current_database()`).Scan(&n)
		return err == nil && n == 1
	})
	_, err = raw.Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()`)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, ErrUnreachable) || runs != 1 || gaps != 1 || changes != 0 {
		t.Errorf("lost while committing: %d runs, %d gaps, %d changes, %v", runs, gaps, changes, err)
	}
}

// TestPostgresHangs freezes the server: calls without a deadline of their own end
// all the same, closing does not wait, and everything works when it goes on.
func TestPostgresHangs(t *testing.T) {
	t.Parallel()
	s := testdb.StartPostgres(t)
	dsn := s.Database()
	db, closed := openDB(t, dsn), openDB(t, dsn)
	f := makeSealed(t, db, "a")
	warmUp(t, db, f)
	s.Pause()
	if err := closed.Close(); err != nil { // it returns, that is the point
		t.Logf("closing: %v", err)
	}
	if _, err := db.LoadToken(t.Context(), f.token.ID); !errors.Is(err, ErrUnreachable) {
		t.Errorf("loading: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := db.LoadToken(ctx, f.token.ID); !errors.Is(err, ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("loading with a deadline: %v", err)
	}
	s.Resume()
	warmUp(t, db, f)
}

// TestKilledWhileMigrating kills the process in the middle of a migration: it
// leaves nothing of that one, and the next start goes on from there.
func TestKilledWhileMigrating(t *testing.T) {
	t.Parallel()
	dsn := testdb.Postgres(t)
	raw := rawPostgres(t, dsn)
	// The migration that makes audit_events stops after that, in its transaction.
	mustExec(t, raw, `CREATE FUNCTION linger() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
		IF to_regclass('audit_events') IS NOT NULL THEN PERFORM pg_sleep(600); END IF; END $$`)
	mustExec(t, raw, `CREATE EVENT TRIGGER linger ON ddl_command_end EXECUTE FUNCTION linger()`)
	cmd, stdin, stdout := startChild(t, "open", dsn)
	if line, err := stdout.ReadString('\n'); line != "ready\n" {
		t.Fatalf("child said %q, %v", line, err)
	}
	stdin.Close()
	sleepers := func() (n int) {
		err := raw.QueryRow(`SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	eventually(t, "the migration is in its middle", func() bool { return sleepers() == 1 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = bufio.NewReader(stdout).ReadString('\n')
	_ = cmd.Wait()
	mustExec(t, raw, `DROP EVENT TRIGGER linger`)

	db := openDB(t, dsn) // waits until the server has noticed
	if n := sleepers(); n != 0 {
		t.Errorf("%d migrations still run", n)
	}
	checkMigratedOnce(t, dsn)
	p := &project.Project{Name: "p"}
	if err := db.Update(t.Context(), func(tx *Tx) error { return tx.CreateProject(t.Context(), p) }); err != nil {
		t.Error(err)
	}
}

// TestFailedMigration leaves those before it applied, and none of its own.
func TestFailedMigration(t *testing.T) {
	dsn := testdb.Postgres(t)
	raw := rawPostgres(t, dsn)
	mustExec(t, raw, `CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
		IF to_regclass('audit_events') IS NOT NULL THEN RAISE 'no'; END IF; END $$`)
	mustExec(t, raw, `CREATE EVENT TRIGGER refuse ON ddl_command_end EXECUTE FUNCTION refuse()`)
	db := newDB(t, dsn)
	if err := db.Open(t.Context()); err == nil || errors.Is(err, ErrUnreachable) {
		t.Fatal(err)
	}
	var tables, version int
	err := raw.QueryRow(`SELECT (SELECT COUNT(*) FROM pg_tables WHERE tablename = 'audit_events'), (SELECT MAX(version_id) FROM `+migrations.Table+`)`).Scan(&tables, &version)
	if err != nil || tables != 0 || version != 3 {
		t.Errorf("%d tables, version %d, %v", tables, version, err)
	}
	mustExec(t, raw, `DROP EVENT TRIGGER refuse`)
	if err := db.Open(t.Context()); err != nil {
		t.Error(err)
	}
	checkMigratedOnce(t, dsn)
}

// TestLockConnectionLost ends the connection that holds the lock: nothing goes on
// without it.
func TestLockConnectionLost(t *testing.T) {
	dsn := testdb.Postgres(t)
	db := newDB(t, dsn)
	pool, unlock, err := db.dialect.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	var pid int
	if err := pool.QueryRow(`SELECT pg_backend_pid()`).Scan(&pid); err != nil {
		t.Fatal(err)
	}
	mustExec(t, rawPostgres(t, dsn), `SELECT pg_terminate_backend($1)`, pid)
	var last error
	eventually(t, "the loss shows", func() bool {
		_, last = pool.Exec(`SELECT 1`)
		return errors.Is(last, errLockLost)
	})
	if _, err := migrations.Up(t.Context(), pool, migrations.Postgres); !errors.Is(err, ErrUnreachable) {
		t.Errorf("migrating without the lock: %v", err)
	}
	if fmt.Sprint(last) == "" {
		t.Error("no reason")
	}
}
