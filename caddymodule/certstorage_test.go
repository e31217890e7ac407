package caddymodule

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"

	_ "github.com/caddyserver/caddy/v2/modules/caddypki"

	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// withStorage is a configuration that keeps its certificates with us.
func withStorage(cfg object, own object) object {
	storage := object{"module": "llm_proxy"}
	maps.Copy(storage, own)
	cfg["storage"] = storage
	return cfg
}

// tlsSite serves localhost with a certificate of the internal CA.
func tlsSite(app object, own object) object {
	cfg := withStorage(site(app, proxyConfig()), own)
	apps := cfg["apps"].(object)
	apps["http"].(object)["servers"].(object)["srv"].(object)["tls_connection_policies"] = []object{{}}
	apps["pki"] = object{"certificate_authorities": object{"local": object{"install_trust": false}}}
	apps["tls"] = object{
		"certificates": object{"automate": []string{"localhost"}},
		"automation":   object{"policies": []object{{"issuers": []object{{"module": "internal"}}}}},
	}
	return cfg
}

// postgresApp is an app with its database on a server.
func postgresApp(dsn string) object {
	return object{
		"database":         object{"driver": "postgres", "dsn": dsn},
		"encryption_keys":  []string{testKey(1)},
		"management_token": "management-token-of-the-test",
	}
}

// testKey is an encryption key as operators write it.
func testKey(b byte) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32)) }

// serial waits until the server has a certificate.
func serial(t *testing.T) string {
	t.Helper()
	address := server(t).Listeners()[0].Addr().String()
	var found string
	waitFor(t, "a certificate is served", func() bool {
		conn, err := tls.Dial("tcp", address, &tls.Config{ServerName: "localhost", InsecureSkipVerify: true})
		if err != nil {
			return false
		}
		defer conn.Close()
		found = conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
		return true
	})
	return found
}

func activeStorage(t *testing.T) certStorage {
	t.Helper()
	s, ok := caddy.ActiveContext().Storage().(certStorage)
	if !ok {
		t.Fatalf("the storage is a %T", caddy.ActiveContext().Storage())
	}
	return s
}

func stop(t *testing.T) {
	t.Helper()
	mustDo(t, caddy.Stop())
	waitFor(t, "giving every shared resource back", func() bool {
		held := 0
		shared.Range(func(any, any) bool { held++; return true })
		return held == 0
	})
}

// TestCertificateIsKept starts several times: apps are provisioned and started in
// random order, and all of them want the storage.
func TestCertificateIsKept(t *testing.T) {
	for name, app := range map[string]object{
		"sqlite":   sqliteApp(t.TempDir()),
		"postgres": postgresApp(testdb.Postgres(t)),
		"no app":   nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("XDG_DATA_HOME", t.TempDir()) // for the app's default
			var first string
			for range 3 {
				cfg := tlsSite(app, nil)
				if app == nil {
					delete(cfg["apps"].(object), "llm_proxy")
				}
				load(t, cfg)
				got := serial(t)
				if first == "" {
					first = got
				}
				if got != first {
					t.Fatalf("certificate %s, before it was %s", got, first)
				}
				s := activeStorage(t)
				if s.runtime.db != activeApp(t).runtime.db {
					t.Error("storage and app have a database each")
				}
				all, err := s.List(t.Context(), "", true)
				if err != nil {
					t.Fatal(err)
				}
				for _, want := range []string{"pki/authorities/local/root.key", "certificates/local/localhost/localhost.crt", "certificates/local/localhost/localhost.key"} {
					if !slices.Contains(all, want) {
						t.Errorf("%s is not among %q", want, all)
					}
				}
				// A reload issues nothing either, and keeps the database.
				db := s.runtime.db
				mustDo(t, reload(cfg))
				if got := serial(t); got != first || activeStorage(t).runtime.db != db {
					t.Errorf("certificate %s after a reload, before it was %s", got, first)
				}
				stop(t)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(caddyStorage, "certificates")); err == nil {
		t.Error("certificates are in Caddy's default storage")
	}
}

// TestCertStorageSettings says which database it is.
func TestCertStorageSettings(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	appPath := filepath.Join(dir, "llm-proxy.db")
	database := func(path string) object { return object{"driver": "sqlite", "dsn": path} }
	for _, tc := range []struct {
		name  string
		own   object
		fails string
		path  string
	}{
		{"the app's", nil, "", appPath},
		{"the app's by name", object{"database": database(appPath)}, "", appPath},
		{"the app's by name, with its keys", object{"database": database(appPath), "encryption_keys": []string{testKey(1), testKey(2)}}, "", appPath},
		{"its own", object{"database": database(filepath.Join(other, "c.db"))}, "", filepath.Join(other, "c.db")},
		{"its own, with a key", object{"database": database(filepath.Join(t.TempDir(), "c.db")), "encryption_keys": []string{testKey(3)}}, "", "c.db"},
		{"the app's, with a key", object{"encryption_keys": []string{testKey(1)}}, "storage llm_proxy > encryption_key", ""},
		{"the app's by name, with another key", object{"database": database(appPath), "encryption_keys": []string{testKey(3)}}, "the same database with other keys", ""},
		{"its own, unknown", object{"database": object{"driver": "mysql"}}, "storage llm_proxy > database", ""},
		{"a key that is none", object{"database": database(appPath), "encryption_keys": []string{"{env.NONE_SUCH_KEY}"}}, "storage llm_proxy > encryption_key", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			app := sqliteApp(dir)
			app["encryption_keys"] = []string{testKey(1), testKey(2)}
			cfg := withStorage(site(app, proxyConfig()), tc.own)
			if tc.fails != "" {
				err := reload(cfg)
				if err == nil || !strings.Contains(err.Error(), tc.fails) || strings.Contains(err.Error(), testKey(1)) || strings.Contains(err.Error(), testKey(3)) {
					t.Errorf("error %v, want one with %q", err, tc.fails)
				}
				mustDo(t, caddy.Stop())
				return
			}
			load(t, cfg)
			s := activeStorage(t)
			if got := s.runtime.db.cfg.dsn; !strings.HasSuffix(got, tc.path) {
				t.Errorf("the database is %s", got)
			}
			if (s.runtime.db == activeApp(t).runtime.db) != (tc.path == appPath) {
				t.Error("shared although it is another, or not shared although it is the same")
			}
			mustDo(t, s.Store(t.Context(), "a", []byte("b")))
		})
	}
}

// TestCertStorageSettingsOnPostgres: the app's database by name needs no key, and
// another one does.
func TestCertStorageSettingsOnPostgres(t *testing.T) {
	app := postgresApp(testdb.Postgres(t))
	own := object{"driver": "postgres", "dsn": app["database"].(object)["dsn"], "max_conns": 5}
	load(t, withStorage(site(app, proxyConfig()), object{"database": own}))
	s := activeStorage(t)
	mustDo(t, s.Store(t.Context(), "a", []byte("b")))
	if s.runtime.db != activeApp(t).runtime.db {
		t.Error("storage and app have a database each")
	}
	own["dsn"] = testdb.Postgres(t)
	err := reload(withStorage(site(app, proxyConfig()), object{"database": own}))
	if err == nil || !strings.Contains(err.Error(), "storage llm_proxy > encryption_key: must be set") {
		t.Errorf("without a key: %v", err)
	}
	own["max_conns"] = -1
	err = reload(withStorage(site(app, proxyConfig()), object{"database": own}))
	if err == nil || !strings.Contains(err.Error(), "storage llm_proxy > database: max_conns") {
		t.Errorf("with nonsense: %v", err)
	}
	delete(own, "max_conns")
	mustDo(t, reload(withStorage(site(app, proxyConfig()), object{"database": own, "encryption_keys": []string{testKey(2)}})))
	other := activeStorage(t)
	if got, err := other.Load(t.Context(), "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another database holds %q, %v", got, err)
	}
}

// TestCertStorageCommand: `caddy storage` loads the module without a configuration.
func TestCertStorageCommand(t *testing.T) {
	loadAlone := func(own object) (certmagic.Storage, error) {
		data, err := json.Marshal(own)
		mustDo(t, err)
		ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
		t.Cleanup(cancel)
		module, err := ctx.LoadModuleByID("caddy.storage.llm_proxy", data)
		if err != nil {
			return nil, err
		}
		return module.(caddy.StorageConverter).CertMagicStorage()
	}
	if _, err := loadAlone(object{}); err == nil || !strings.Contains(err.Error(), "the database must be named") {
		t.Errorf("without a database: %v", err)
	}
	dir := t.TempDir()
	s, err := loadAlone(object{"database": object{"dsn": filepath.Join(dir, "llm-proxy.db")}})
	mustDo(t, err)
	mustDo(t, s.Store(t.Context(), "a/b", []byte("c")))
	again, err := loadAlone(object{"database": object{"dsn": filepath.Join(dir, "llm-proxy.db")}})
	mustDo(t, err)
	if got, err := again.Load(t.Context(), "a/b"); err != nil || string(got) != "c" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := new(CertStorage).CertMagicStorage(); err == nil {
		t.Error("a storage that was not provisioned")
	}
}

// TestValidateOpensNoStorage: validation makes nothing.
func TestValidateOpensNoStorage(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_DATA_HOME", dir)
	for _, own := range []object{nil, {"database": object{"dsn": filepath.Join(dir, "own", "llm-proxy.db")}}} {
		data, err := json.Marshal(withStorage(site(sqliteApp(filepath.Join(dir, "app")), proxyConfig()), own))
		mustDo(t, err)
		var cfg caddy.Config
		mustDo(t, json.Unmarshal(data, &cfg))
		mustDo(t, caddy.Validate(&cfg))
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) > 0 {
			t.Fatalf("left behind: %v, error %v", entries, err)
		}
	}
}

// TestFirstUseWaits: the database comes while somebody wants it; whoever has no
// time to wait for it is let go, and says nothing of what exists.
func TestFirstUseWaits(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	mustDo(t, os.WriteFile(dir, nil, 0o600)) // a file where the directory should be
	s := nodesOf(databaseConfig{driver: "sqlite", dsn: filepath.Join(dir, "llm-proxy.db"), keys: [][]byte{bytes.Repeat([]byte{1}, 32)}})(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Load(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the time to wait: %v", err)
	}
	stored := make(chan error, 4)
	for range cap(stored) {
		go func() { stored <- s.Store(soon(t), "a", nil) }()
	}
	mustDo(t, os.Remove(dir))
	for range cap(stored) {
		mustDo(t, <-stored)
	}
}

// TestFirstUseAndStart come at the same time, and each finds the database open.
func TestFirstUseAndStart(t *testing.T) {
	for _, driver := range []string{"sqlite", "postgres"} {
		t.Run(driver, func(t *testing.T) {
			cfg := databaseConfig{driver: driver, dsn: filepath.Join(t.TempDir(), "llm-proxy.db"), keys: [][]byte{bytes.Repeat([]byte{1}, 32)}}
			if driver == "postgres" {
				cfg.dsn = testdb.Postgres(t)
			}
			s := nodesOf(cfg)(t)
			done := make(chan error, 9)
			go func() { done <- s.runtime.db.start() }()
			for range cap(done) - 1 {
				go func() { done <- s.Store(soon(t), "a", nil) }()
			}
			for range cap(done) {
				mustDo(t, <-done)
			}
			mustDo(t, s.runtime.db.start())
		})
	}
}

// TestFirstUseFails says what is wrong, at once and each time.
func TestFirstUseFails(t *testing.T) {
	s := nodesOf(databaseConfig{driver: "sqlite", dsn: filepath.Join(notADatabase(t), "llm-proxy.db")})(t)
	for range 2 {
		if _, err := s.Load(soon(t), "a"); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "not a SQLite database") {
			t.Error(err)
		}
		if ok, err := s.TryLock(soon(t), "a"); ok || err == nil {
			t.Error(ok, err)
		}
	}
}
