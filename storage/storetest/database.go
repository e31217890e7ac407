package storetest

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// File returns the path of a SQLite database of the newest schema that was never
// opened. Only the first of a test binary is migrated; the others are copies.
func File(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "sub", "llm-proxy.db")
	testdb.FileLike(tb, "newest schema", path, migrate)
	return path
}

// Postgres is [File] with PostgreSQL: it returns the database's URL.
func Postgres(tb testing.TB) string {
	tb.Helper()
	return testdb.PostgresLike(tb, "newest schema", migrate)
}

func migrate(dsn string) error {
	keys, err := secret.NewKeyring(make([]byte, secret.KeySize)) // which seals nothing
	if err != nil {
		return err
	}
	driver := "sqlite"
	if strings.HasPrefix(dsn, "postgres") {
		driver = "postgres"
	}
	db, err := storage.New(storage.Config{Driver: driver, DSN: dsn, Keyring: keys})
	if err != nil {
		return err
	}
	latest, err := db.LatestVersion()
	if err == nil {
		_, _, err = db.MigrateTo(context.Background(), latest)
	}
	return errors.Join(err, db.Close())
}
