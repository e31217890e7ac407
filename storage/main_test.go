package storage

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// Environment of a child process: what to do, and with which database.
const (
	childRole = "STORAGE_TEST_ROLE"
	childPath = "STORAGE_TEST_PATH"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		if err := child(role, os.Getenv(childPath)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given { // many tests wait for a server most of the time
		if err := flag.Set("test.parallel", "4"); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(testdb.Main(m))
}

// child is this test binary as another process.
func child(role, path string) error {
	switch role {
	case "copy", "backup", "restore":
		return transferChild(role, path)
	}
	keys, err := secret.NewKeyring(testKey(1))
	if err != nil {
		return err
	}
	db, err := New(Config{Driver: driverOf(path), DSN: path, Keyring: keys})
	if err != nil {
		return err
	}
	switch role {
	case "roll up":
		return rollUpChild(db)
	case "rotate", "rotate inside":
		return rotateChild(path, role == "rotate inside")
	case "open": // once standard input ends
		fmt.Println("ready")
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			return err
		}
		if err := db.Open(context.Background()); err != nil {
			return err
		}
		fmt.Printf("%x\n", db.Pepper())
		return db.Close()
	case "lock": // and hold it to death
		if _, _, err := db.dialect.lock(context.Background()); err != nil {
			return err
		}
		fmt.Println("locked")
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}
	return fmt.Errorf("unknown role %q", role)
}

func testKey(n byte) []byte { return bytes.Repeat([]byte{n}, secret.KeySize) }

func testKeyring(t testing.TB, keys ...[]byte) *secret.Keyring {
	t.Helper()
	if len(keys) == 0 {
		keys = [][]byte{testKey(1)}
	}
	k, err := secret.NewKeyring(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// driverOf tells a URL from a path.
func driverOf(dsn string) string {
	if strings.HasPrefix(dsn, "postgres://") {
		return "postgres"
	}
	return "sqlite"
}

// onBoth runs a test on a database of each kind that holds no data yet.
func onBoth(t *testing.T, test func(t *testing.T, dsn string)) {
	onKinds(t, test, newFile, newPostgresDSN)
}

// inTurn is onBoth for tests that need ids in the order in which they are made:
// these are in order only if nobody else makes some at the same moment.
func inTurn(t *testing.T, test func(t *testing.T, dsn string)) {
	t.Run("sqlite", func(t *testing.T) { test(t, newFile(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, newPostgresDSN(t)) })
}

// onNone runs a test where there is nothing yet: no file, an empty database.
func onNone(t *testing.T, test func(t *testing.T, dsn string)) {
	onKinds(t, test, noFile, func(t testing.TB) string { return nothing(t, "postgres") })
}

func onKinds(t *testing.T, test func(t *testing.T, dsn string), file, postgres func(t testing.TB) string) {
	for name, dsn := range map[string]func(t testing.TB) string{"sqlite": file, "postgres": postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, dsn(t))
		})
	}
}

// noFile is the path of a file that is not there.
func noFile(t testing.TB) string { return filepath.Join(t.TempDir(), "sub", "llm-proxy.db") }

// newFile and newPostgresDSN make databases of the newest schema; migrating each by
// itself would take longer than most tests.
func newFile(t testing.TB) string {
	t.Helper()
	path := noFile(t)
	testdb.FileLike(t, "newest schema", path, migrateAll)
	return path
}

func newPostgresDSN(t testing.TB) string {
	t.Helper()
	return testdb.PostgresLike(t, "newest schema", migrateAll)
}

func migrateAll(dsn string) error {
	keys, err := secret.NewKeyring(testKey(1))
	if err != nil {
		return err
	}
	db, err := New(Config{Driver: driverOf(dsn), DSN: dsn, Keyring: keys})
	if err != nil {
		return err
	}
	latest, err := db.LatestVersion()
	if err == nil {
		_, _, err = db.MigrateTo(context.Background(), latest)
	}
	return errors.Join(err, db.Close())
}

// newDB makes a DB that is not open.
func newDB(t testing.TB, dsn string, keys ...[]byte) *DB {
	t.Helper()
	return configure(t, Config{DSN: dsn, Keyring: testKeyring(t, keys...)})
}

// configure makes a DB that is not open, and fills what every test has alike.
func configure(t testing.TB, cfg Config) *DB {
	t.Helper()
	cfg.Driver = driverOf(cfg.DSN)
	if cfg.Keyring == nil {
		cfg.Keyring = testKeyring(t)
	}
	db, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// openDB makes an open DB; without a path, on a file of its own.
func openDB(t testing.TB, path string, keys ...[]byte) *DB {
	t.Helper()
	if path == "" {
		path = newFile(t)
	}
	db := newDB(t, path, keys...)
	if err := db.Open(context.Background()); err != nil {
		t.Fatal(err)
	}
	return db
}

// exec changes the database behind the program's back.
func exec(t testing.TB, db *DB, query string, args ...any) {
	t.Helper()
	if _, err := db.conns.Load().writer.ExecContext(context.Background(), query, args...); err != nil {
		t.Fatal(err)
	}
}
