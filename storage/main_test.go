package storage

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
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
	goleak.VerifyTestMain(m)
}

// child is this test binary as another process.
func child(role, path string) error {
	keys, err := secret.NewKeyring(testKey(1))
	if err != nil {
		return err
	}
	db, err := New(Config{Driver: "sqlite", DSN: path, Keyring: keys})
	if err != nil {
		return err
	}
	switch role {
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
		if _, err := db.dialect.lock(context.Background()); err != nil {
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

// newDB makes a DB that is not open.
func newDB(t testing.TB, path string, keys ...[]byte) *DB {
	t.Helper()
	db, err := New(Config{Driver: "sqlite", DSN: path, Keyring: testKeyring(t, keys...)})
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
		path = filepath.Join(t.TempDir(), "llm-proxy.db")
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
