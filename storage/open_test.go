package storage

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/migrations"
)

const starters = 10

func TestNewRefuses(t *testing.T) {
	for _, cfg := range []Config{
		{Driver: "sqlite", DSN: "x.db"}, // no keyring
		{Driver: "sqlite", DSN: "", Keyring: testKeyring(t)},
		{Driver: "sqlite", DSN: ":memory:", Keyring: testKeyring(t)},
		{Driver: "sqlite", DSN: "file:x.db?mode=memory", Keyring: testKeyring(t)},
		{Driver: "sqlite", DSN: "postgres://user:hunter2@host/db", Keyring: testKeyring(t)},
		{Driver: "sqlite", DSN: "x\x00.db", Keyring: testKeyring(t)},
		{Driver: "mysql", DSN: "user:hunter2@host/db", Keyring: testKeyring(t)},
		{Driver: "postgres", DSN: "postgres://user:hunter2@host/db"}, // no keyring
		{Driver: "postgres", DSN: " ", Keyring: testKeyring(t)},
		{Driver: "postgres", DSN: "postgres://user:hunter2@host:port/db", Keyring: testKeyring(t)},
		{Driver: "postgres", DSN: "postgres://user:hunter2/@host/db", Keyring: testKeyring(t)},
		{Driver: "postgres", DSN: "postgres://user:hunter2%@host/db", Keyring: testKeyring(t)},
		{Driver: "postgres", DSN: "host=x password='hunter2", Keyring: testKeyring(t)},
		{Driver: "postgres", DSN: "host=x password=hunter2 sslmode=nonsense", Keyring: testKeyring(t)},
		{Driver: "postgres", DSN: "postgres://user:hunter2@host/db?sslrootcert=/no/such/file&sslmode=verify-full", Keyring: testKeyring(t)},
		{Driver: "postgres", DSN: "postgres://user:hunter2@host/db", Keyring: testKeyring(t), MaxConns: 3},
		{Driver: "postgres", DSN: "postgres://user:hunter2@host/db", Keyring: testKeyring(t), MaxConns: -1},
		{Driver: "postgres", DSN: "postgres://user:hunter2@host/db", Keyring: testKeyring(t), StatementTimeout: -1},
	} {
		db, err := New(cfg)
		if err == nil {
			t.Errorf("%s %q was accepted", cfg.Driver, cfg.DSN)
			db.Close()
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("error shows the password: %v", err)
		}
	}
}

func TestNewDoesNoIO(t *testing.T) {
	dir := t.TempDir()
	db := newDB(t, filepath.Join(dir, "sub", "llm-proxy.db"))
	if list, err := db.MigrationStatus(t.Context()); err != nil || len(list) == 0 || list[0].Applied {
		t.Errorf("status of no database is %v, %v", list, err)
	}
	if _, err := db.LoadToken(t.Context(), [16]byte{}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("reading before Open: %v", err)
	}
	if db.Pepper() != nil {
		t.Error("a pepper before Open")
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("%s was made", entries[0].Name())
	}
}

func TestOpenSpecialPaths(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a b", "q?mode=memory", "100%", "%41", "#hash", "a&b=c;d", "ünïcødé 漢字", "quo'te\"", "+plus", "..dots", "_pragma=x", "new\nline"} {
		path := filepath.Join(t.TempDir(), name, name+".db")
		db := openDB(t, path)
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		pepper := db.Pepper()
		db.Close()
		if again := openDB(t, path); string(again.Pepper()) != string(pepper) {
			t.Errorf("%q: reopened another database", name)
		}
		entries, err := os.ReadDir(filepath.Dir(path))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), name+".db") {
				t.Errorf("%q: stray file %q", name, e.Name())
			}
		}
	}
}

func TestOpenAgainAfterError(t *testing.T) {
	dir := t.TempDir()
	obstacle := filepath.Join(dir, "data")
	if err := os.WriteFile(obstacle, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	db := newDB(t, filepath.Join(obstacle, "llm-proxy.db"))
	for range 2 {
		if err := db.Open(t.Context()); !errors.Is(err, ErrUnreachable) {
			t.Fatalf("opening below a file: %v", err)
		}
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	if err := db.Open(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOpenRefusesOtherFiles(t *testing.T) {
	t.Run("NoDatabase", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x.db")
		if err := os.WriteFile(path, []byte(strings.Repeat("not a database ", 100)), 0o600); err != nil {
			t.Fatal(err)
		}
		err := newDB(t, path).Open(t.Context())
		if err == nil || errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "not a SQLite database") {
			t.Error(err)
		}
	})
	t.Run("AnotherProgram", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "x.db")
		raw := rawDB(t, path)
		mustExec(t, raw, `CREATE TABLE projects (id TEXT)`)
		err := newDB(t, path).Open(t.Context())
		if err == nil || errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "another program") {
			t.Error(err)
		}
		var tables int
		if err := raw.QueryRow(`SELECT COUNT(*) FROM sqlite_schema`).Scan(&tables); err != nil || tables != 1 {
			t.Errorf("%d tables, %v", tables, err)
		}
	})
}

// TestOpenRefusesNewer has the database of a later version, which is left alone.
func TestOpenRefusesNewer(t *testing.T) { onNone(t, testOpenRefusesNewer) }

func testOpenRefusesNewer(t *testing.T, path string) {
	db := openDB(t, path)
	exec(t, db, `INSERT INTO `+migrations.Table+` (version_id, is_applied) VALUES (999, TRUE)`)
	db.Close()
	latest, _ := migrations.Latest(migrations.SQLite)
	for _, noMigrate := range []bool{false, true} {
		again := configure(t, Config{DSN: path, NoMigrate: noMigrate})
		err := again.Open(t.Context())
		newer := (*NewerSchemaError)(nil)
		if !errors.As(err, &newer) || *newer != (NewerSchemaError{Database: 999, Binary: latest}) || errors.Is(err, ErrUnreachable) {
			t.Fatal(err)
		}
		for _, part := range []string{"999", fmt.Sprint(latest)} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%v does not name %s", err, part)
			}
		}
		list, err := again.MigrationStatus(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if last := list[len(list)-1]; last.Version != 999 || last.Name != migrations.Unknown || !last.Applied {
			t.Errorf("last migration is %+v", last)
		}
	}
}

// TestNoMigrate refuses what would have to be migrated, and makes nothing.
func TestNoMigrate(t *testing.T) { onNone(t, testNoMigrate) }

func testNoMigrate(t *testing.T, path string) {
	latest, _ := migrations.Latest(migrations.SQLite)
	refused := func(version int64) {
		t.Helper()
		err := configure(t, Config{DSN: path, NoMigrate: true}).Open(t.Context())
		pending := (*PendingError)(nil)
		if !errors.As(err, &pending) || *pending != (PendingError{Database: version, Binary: latest}) || errors.Is(err, ErrUnreachable) {
			t.Fatal(err)
		}
	}
	refused(0)
	if _, err := os.Stat(path); err == nil {
		t.Error("a database was made")
	}
	db := openDB(t, path)
	if err := configure(t, Config{DSN: path, NoMigrate: true}).Open(t.Context()); err != nil {
		t.Errorf("a migrated database: %v", err)
	}
	exec(t, db, `DELETE FROM `+migrations.Table+` WHERE version_id = $1`, latest)
	refused(latest - 1)
}

// TestOpenTogether starts ten at once on one empty database, in one process.
func TestOpenTogether(t *testing.T) { onNone(t, testOpenTogether) }

func testOpenTogether(t *testing.T, path string) {
	var wg sync.WaitGroup
	peppers := make([]string, starters)
	for i := range starters {
		db := newDB(t, path)
		wg.Go(func() {
			if err := db.Open(t.Context()); err != nil {
				t.Error(err)
			}
			peppers[i] = string(db.Pepper())
		})
	}
	wg.Wait()
	for _, pepper := range peppers {
		if pepper != peppers[0] {
			t.Error("starters have different peppers")
		}
	}
	checkMigratedOnce(t, path)
}

// TestOpenProcesses does it with ten processes.
func TestOpenProcesses(t *testing.T) { onNone(t, testOpenProcesses) }

func testOpenProcesses(t *testing.T, path string) {
	start := make([]func(), starters)
	outputs := make([]*bufio.Reader, starters)
	finish := make([]func() error, starters)
	for i := range starters {
		cmd, stdin, stdout := startChild(t, "open", path)
		start[i], outputs[i], finish[i] = func() { stdin.Close() }, stdout, cmd.Wait
		if line, err := stdout.ReadString('\n'); line != "ready\n" {
			t.Fatalf("child %d said %q, %v", i, line, err)
		}
	}
	for _, fn := range start {
		fn()
	}
	var first string
	for i := range starters {
		pepper, err := outputs[i].ReadString('\n')
		if err != nil || (first != "" && pepper != first) {
			t.Errorf("child %d opened another database: %v", i, err)
		}
		first = pepper
		if err := finish[i](); err != nil {
			t.Errorf("child %d: %v", i, err)
		}
	}
	checkMigratedOnce(t, path)
}

// TestLockEndsWithItsHolder kills the process that holds the lock.
func TestLockEndsWithItsHolder(t *testing.T) { onNone(t, testLockEndsWithItsHolder) }

func testLockEndsWithItsHolder(t *testing.T, path string) {
	cmd, _, stdout := startChild(t, "lock", path)
	if line, err := stdout.ReadString('\n'); line != "locked\n" {
		t.Fatalf("child said %q, %v", line, err)
	}
	db := newDB(t, path)
	eventually(t, "who waits says for what", func() bool { // unless time is over in the middle of asking
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		err := db.Open(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrUnreachable) {
			t.Fatalf("opening a locked database: %v", err)
		}
		return strings.Contains(err.Error(), "waiting for another")
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("child ended by itself")
	}
	if err := db.Open(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestCloseEndsOpen closes while Open waits for the lock.
func TestCloseEndsOpen(t *testing.T) { onNone(t, testCloseEndsOpen) }

func testCloseEndsOpen(t *testing.T, path string) {
	holder := newDB(t, path)
	_, unlock, err := holder.dialect.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	db := newDB(t, path)
	opened := make(chan error)
	go func() { opened <- db.Open(context.Background()) }()
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	if err := <-opened; err == nil {
		t.Error("opened after Close")
	}
}

func checkMigratedOnce(t *testing.T, path string) {
	t.Helper()
	var rows, versions int64
	err := rawDB(t, path).QueryRow(`SELECT COUNT(*), COUNT(DISTINCT version_id) FROM `+migrations.Table).Scan(&rows, &versions)
	latest, _ := migrations.Latest(migrations.Dialect(driverOf(path)))
	if err != nil || rows != versions || rows != latest+1 { // goose's row for version 0
		t.Errorf("%d rows for %d of %d versions: %v", rows, versions, latest, err)
	}
}

// startChild runs this test binary as another process.
func startChild(t *testing.T, role, path string) (*osexec.Cmd, io.Closer, *bufio.Reader) {
	t.Helper()
	cmd := osexec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childRole+"="+role, childPath+"="+path)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, stdin, bufio.NewReader(stdout)
}

// rawDB opens the file without this package's help, and without waiting.
func rawDB(t testing.TB, path string) *sql.DB {
	t.Helper()
	if driverOf(path) == "postgres" {
		return rawPostgres(t, path)
	}
	dsn := strings.Replace((&sqliteDB{path: path}).dsn("immediate", "busy_timeout(0)"), "mode=rw", "mode=rwc", 1)
	raw, err := sql.Open("sqlite", dsn)
	if err != nil {
		t.Fatal(err)
	}
	raw.SetMaxOpenConns(1)
	t.Cleanup(func() { raw.Close() })
	return raw
}

func mustExec(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.Exec(query, args...); err != nil {
		t.Fatal(err)
	}
}
