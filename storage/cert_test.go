package storage

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

// certPEM stands for what Caddy stores.
var certPEM = map[string]string{
	"certificates/local/example.com/example.com.crt": "-----BEGIN CERTIFICATE-----\nMIICertificateCanary\n-----END CERTIFICATE-----\n",
	"certificates/local/example.com/example.com.key": "-----BEGIN EC PRIVATE KEY-----\nMHcKeyCanary\n-----END EC PRIVATE KEY-----\n",
	"acme/ca/users/a@example.com/a.json":             `{"contact":["mailto:AccountCanary"]}`,
}

func storeCerts(t *testing.T, db *DB) {
	t.Helper()
	for name, value := range certPEM {
		if err := db.Certs().Store(t.Context(), name, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCertsSealedInFile looks for what Caddy stores in the database's files.
func TestCertsSealedInFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "llm-proxy.db")
	db := openDB(t, path)
	storeCerts(t, db)
	look := func() {
		t.Helper()
		var all []byte
		for _, suffix := range []string{"", "-wal"} {
			data, err := os.ReadFile(path + suffix)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			all = append(all, data...)
		}
		if !bytes.Contains(all, []byte("example.com.key")) {
			t.Error("the files do not hold the names: this test looks in the wrong place")
		}
		for _, canary := range []string{"BEGIN", "PRIVATE KEY", "Canary", "mailto"} {
			if bytes.Contains(all, []byte(canary)) {
				t.Errorf("the files hold %q in clear", canary)
			}
		}
	}
	look()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	look()
}

// TestCertsSealed reads the rows.
func TestCertsSealed(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		db := openDB(t, dsn)
		storeCerts(t, db)
		for name, value := range certPEM {
			var sealed []byte
			var size int
			if err := db.conns.Load().writer.QueryRow(`SELECT sealed, size FROM cert_store WHERE name = $1`, name).Scan(&sealed, &size); err != nil {
				t.Fatal(err)
			}
			if size != len(value) || secret.EnvelopeKeyID(sealed) != db.keyring.KeyID() || bytes.Contains(sealed, []byte(value)) {
				t.Errorf("%s is stored as %q", name, sealed)
			}
		}
	})
}

// TestTamperedCerts changes a row: it alone becomes unreadable, and is not taken
// for missing, since a new CA would be made in its place.
func TestTamperedCerts(t *testing.T) {
	const name, other = "pki/authorities/local/root.key", "pki/authorities/local/root.crt"
	onBoth(t, func(t *testing.T, dsn string) {
		db := openDB(t, dsn)
		ring := db.keyring
		good := ring.Seal(certPlace(name), []byte("KeyCanary"))
		for what, sealed := range map[string][]byte{
			"OtherName":  ring.Seal(certPlace(other), []byte("KeyCanary")),
			"OtherTable": ring.Seal("secrets.sealed|"+name, []byte("KeyCanary")),
			"OtherKey":   testKeyring(t, testKey(9)).Seal(certPlace(name), []byte("KeyCanary")),
			"Plaintext":  []byte("KeyCanary"),
			"Empty":      {},
			"Truncated":  good[:len(good)-1],
			"BitFlipped": append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1),
		} {
			if err := db.Certs().Store(t.Context(), other, []byte("fine")); err != nil {
				t.Fatal(err)
			}
			if err := db.Certs().Store(t.Context(), name, []byte("KeyCanary")); err != nil {
				t.Fatal(err)
			}
			exec(t, db, `UPDATE cert_store SET sealed = $1 WHERE name = $2`, sealed, name)
			value, err := db.Certs().Load(t.Context(), name)
			var bad *damagedRowError
			if value != nil || !errors.As(err, &bad) || bad.id != name || errors.Is(err, ErrNotFound) || strings.Contains(err.Error(), "Canary") {
				t.Errorf("%s: %q, %v", what, value, err)
			}
			if unknown := (*secret.UnknownKeyError)(nil); errors.As(err, &unknown) != (what == "OtherKey") {
				t.Errorf("%s: %v", what, err)
			}
			if value, err := db.Certs().Load(t.Context(), other); err != nil || string(value) != "fine" {
				t.Errorf("%s: the other value is %q, %v", what, value, err)
			}
			exec(t, db, `UPDATE cert_store SET sealed = $1 WHERE name = $2`, good, name)
			if _, err := db.Certs().Load(t.Context(), name); err != nil {
				t.Errorf("put back: %v", err)
			}
		}
	})
}

// TestCertsUnderOlderKey adds a key in front: what was stored stays readable, and
// what is stored now needs the new key alone.
func TestCertsUnderOlderKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "llm-proxy.db")
	db := openDB(t, path)
	storeCerts(t, db)
	db.Close()
	db = openDB(t, path, testKey(2), testKey(1))
	for name, value := range certPEM {
		if got, err := db.Certs().Load(t.Context(), name); err != nil || string(got) != value {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	storeCerts(t, db)
	rows, err := db.conns.Load().writer.Query(`SELECT sealed FROM cert_store`)
	if err != nil {
		t.Fatal(err)
	}
	err = eachRow(rows, func() error {
		var sealed []byte
		err := rows.Scan(&sealed)
		if id := secret.EnvelopeKeyID(sealed); id != testKeyring(t, testKey(2)).KeyID() {
			t.Errorf("sealed under key %s", id)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCertLockClock turns this process's clock: SQLite's locks go by it,
// PostgreSQL's do not.
func TestCertLockClock(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		db, later := openDB(t, dsn), openDB(t, dsn)
		later.now = func() time.Time { return time.Now().Add(time.Hour) }
		if ok, err := db.Certs().TryLock(t.Context(), "n", "one", time.Minute); err != nil || !ok {
			t.Fatal(ok, err)
		}
		taken, err := later.Certs().TryLock(t.Context(), "n", "two", time.Minute)
		if err != nil || taken != (driverOf(dsn) == "sqlite") {
			t.Errorf("a node whose clock is ahead by an hour takes the lock: %t, %v", taken, err)
		}
	})
}

// TestCertLocksOfTwoNodes has two databases opened from the same place.
func TestCertLocksOfTwoNodes(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		one, two := openDB(t, dsn), openDB(t, dsn)
		for i, tc := range []struct {
			db    *DB
			owner string
			want  bool
		}{{one, "one", true}, {two, "two", false}, {two, "one", true}, {one, "two", false}} {
			if got, err := tc.db.Certs().TryLock(t.Context(), "n", tc.owner, time.Hour); err != nil || got != tc.want {
				t.Errorf("%d: %t, %v", i, got, err)
			}
		}
		if held, err := two.Certs().Unlock(t.Context(), "n", "one"); err != nil || !held {
			t.Error(held, err)
		}
	})
}

func TestCertsBeforeOpenAndAfterClose(t *testing.T) {
	db := newDB(t, filepath.Join(t.TempDir(), "llm-proxy.db"))
	for _, want := range []error{ErrUnreachable, errClosed} {
		certs := db.Certs()
		_, loadErr := certs.Load(t.Context(), "a")
		_, statErr := certs.Stat(t.Context(), "")
		_, listErr := certs.List(t.Context(), "", true)
		_, lockErr := certs.TryLock(t.Context(), "a", "o", time.Hour)
		for what, err := range map[string]error{"Store": certs.Store(t.Context(), "a", nil), "Load": loadErr, "Stat": statErr, "List": listErr, "TryLock": lockErr} {
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCertPlans: a directory is found by the index, however many others there are.
func TestCertPlans(t *testing.T) {
	var subtree where
	below(&subtree, "certificates/a")
	query := `SELECT name FROM cert_store` + subtree.String()

	db := openDB(t, "")
	var id, parent, unused int
	var plan string
	if err := db.conns.Load().writer.QueryRow(`EXPLAIN QUERY PLAN `+query, subtree.args...).Scan(&id, &parent, &unused, &plan); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(plan, "USING") || !strings.Contains(plan, "(name>? AND name<?)") {
		t.Errorf("SQLite: %s", plan)
	}

	db = openDB(t, newPostgresDSN(t))
	exec(t, db, `INSERT INTO cert_store (name, sealed, size, updated_at) SELECT 'certificates/' || n, ''::bytea, 0, 0 FROM generate_series(1, 20000) n`)
	exec(t, db, `ANALYZE cert_store`)
	if err := db.conns.Load().writer.QueryRow(`EXPLAIN (FORMAT JSON) `+query, subtree.args...).Scan(&plan); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(plan, "Index Cond") || strings.Contains(plan, "Seq Scan") {
		t.Errorf("PostgreSQL: %s", plan)
	}
}
