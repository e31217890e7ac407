package storage_test

import (
	"bytes"
	"os"
	osexec "os/exec"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
	"github.com/sofatutor/caddy-llm-proxy/storage"
	"github.com/sofatutor/caddy-llm-proxy/storage/storetest"
)

// zoneEnv is the time zone that a child process must find itself in.
const zoneEnv = "STORAGE_TEST_ZONE"

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *storage.DB { return open(t, "sqlite", storetest.File(t)) })
}

func TestPostgres(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *storage.DB { return open(t, "postgres", storetest.Postgres(t)) })
}

// TestZones runs the suite in other time zones, each in a process of its own: the
// zone is a variable of the whole process. What only many at once show is left out.
func TestZones(t *testing.T) {
	t.Parallel()
	if zone := os.Getenv(zoneEnv); zone != "" {
		if time.Local.String() != zone {
			t.Errorf("the time zone is %s, want %s", time.Local, zone)
		}
		return
	}
	for _, zone := range storetest.Zones {
		t.Run(zone, func(t *testing.T) {
			t.Parallel()
			cmd := osexec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run=^(TestSQLite|TestPostgres|TestZones)$",
				"-test.skip=^(TestSQLite|TestPostgres)$/^(Concurrency|Conflicts)$", "-rapid.checks=20")
			cmd.Env = append(os.Environ(), "TZ="+zone, zoneEnv+"="+zone, "TEST_POSTGRES_URL="+testdb.Postgres(t))
			out, err := cmd.CombinedOutput()
			if err != nil || bytes.Count(out, []byte("\n--- PASS: ")) != 3 {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
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
