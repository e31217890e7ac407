package storage_test

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/storage"
	"github.com/sofatutor/caddy-llm-proxy/storage/storetest"
)

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *storage.DB {
		keys, err := secret.NewKeyring(bytes.Repeat([]byte{1}, secret.KeySize))
		if err != nil {
			t.Fatal(err)
		}
		db, err := storage.New(storage.Config{
			Driver:  "sqlite",
			DSN:     filepath.Join(t.TempDir(), "llm-proxy.db"),
			Keyring: keys,
		})
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
	})
}
