package storage_test

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
	"github.com/sofatutor/caddy-llm-proxy/storage"
	"github.com/sofatutor/caddy-llm-proxy/storage/storetest"
)

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *storage.DB {
		return open(t, "sqlite", filepath.Join(t.TempDir(), "llm-proxy.db"))
	})
}

func TestPostgres(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *storage.DB { return open(t, "postgres", testdb.Postgres(t)) })
}

func open(t *testing.T, driver, dsn string) *storage.DB {
	t.Helper()
	keys, err := secret.NewKeyring(bytes.Repeat([]byte{1}, secret.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	db, err := storage.New(storage.Config{Driver: driver, DSN: dsn, Keyring: keys})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}
