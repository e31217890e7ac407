package caddymodule

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/sofatutor/caddy-llm-proxy/internal/lease"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// certNode makes a storage as another node would have it, on the same database.
type certNode func(t *testing.T) certStorage

// onEveryStorage runs a test on certmagic's own storage, which says what is right,
// and on ours with each database.
func onEveryStorage(t *testing.T, test func(t *testing.T, s certmagic.Storage)) {
	t.Run("file_system", func(t *testing.T) { test(t, &certmagic.FileStorage{Path: t.TempDir()}) })
	onEveryDatabase(t, func(t *testing.T, node certNode) { test(t, node(t)) })
}

func onEveryDatabase(t *testing.T, test func(t *testing.T, node certNode)) {
	t.Run("sqlite", func(t *testing.T) {
		test(t, nodesOf(databaseConfig{driver: "sqlite", dsn: filepath.Join(t.TempDir(), "data", "llm-proxy.db")}))
	})
	t.Run("postgres", func(t *testing.T) {
		test(t, nodesOf(databaseConfig{driver: "postgres", dsn: testdb.Postgres(t), keys: [][]byte{bytes.Repeat([]byte{1}, 32)}}))
	})
}

// nodesOf makes nodes that share nothing but the database.
func nodesOf(cfg databaseConfig) certNode {
	return func(t *testing.T) certStorage {
		d := newDatabase(cfg, slog.New(slog.DiscardHandler))
		rt := runtimeOf(d)
		t.Cleanup(func() {
			rt.release()
			if users := rt.lease.Users(); users > 0 {
				t.Errorf("%d users are left", users)
			}
		})
		return certStorage{newCerts(rt, d.logger)}
	}
}

// runtimeOf is a runtime with a database of its own, outside the shared pool.
func runtimeOf(d *database) *runtime {
	rt := &runtime{db: d}
	rt.lease = lease.New(func() { _ = d.Destruct() })
	return rt
}

// The next three are certmagic's tests of its file storage.

func TestCertStorageStoreLoad(t *testing.T) {
	onEveryStorage(t, func(t *testing.T, s certmagic.Storage) {
		mustDo(t, s.Store(t.Context(), "foo", []byte("bar")))
		got, err := s.Load(t.Context(), "foo")
		if err != nil || string(got) != "bar" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func TestCertStorageStoreLoadRace(t *testing.T) {
	onEveryStorage(t, func(t *testing.T, s certmagic.Storage) {
		a, b := bytes.Repeat([]byte("a"), 4096*1024), bytes.Repeat([]byte("b"), 4096*1024)
		mustDo(t, s.Store(t.Context(), "foo", a))
		done := make(chan error, 1)
		go func() { done <- s.Store(t.Context(), "foo", b) }()
		got, err := s.Load(t.Context(), "foo")
		if err != nil || !bytes.Equal(got, a) && !bytes.Equal(got, b) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		mustDo(t, <-done)
	})
}

func TestCertStorageWriteLock(t *testing.T) {
	onEveryStorage(t, func(t *testing.T, s certmagic.Storage) {
		over, cancel := context.WithCancel(t.Context())
		cancel()
		for range 2 {
			mustDo(t, s.Lock(over, "foo"))
			if err := s.Lock(over, "foo"); err == nil {
				t.Error("locked twice")
			}
			mustDo(t, s.Unlock(over, "foo"))
		}
	})
}

// TestCertStorageSemantics goes through what certmagic's interfaces promise.
func TestCertStorageSemantics(t *testing.T) {
	onEveryStorage(t, func(t *testing.T, s certmagic.Storage) {
		ctx := t.Context()
		notExist := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %v, want fs.ErrNotExist", what, err)
			}
		}
		keys := certmagic.StorageKeys
		crt, key, meta := keys.SiteCert("ca", "*.example.com"), keys.SitePrivateKey("ca", "*.example.com"), keys.SiteMeta("ca", "*.example.com")
		site := keys.CertsSitePrefix("ca", "*.example.com")
		other := keys.SiteCert("ca", "*.example.com.net") // whose directory begins alike

		_, err := s.Load(ctx, crt)
		notExist("Load", err)
		_, err = s.Stat(ctx, crt)
		notExist("Stat", err)
		_, err = s.List(ctx, site, true)
		notExist("List", err)
		if s.Exists(ctx, crt) || s.Exists(ctx, site) {
			t.Error("it exists before it is stored")
		}
		mustDo(t, s.Delete(ctx, crt))

		for _, k := range []string{crt, key, meta, other} {
			mustDo(t, s.Store(ctx, k, []byte("of "+k)))
		}
		for _, k := range []string{crt, key, meta, other} {
			got, err := s.Load(ctx, k)
			if err != nil || string(got) != "of "+k || !s.Exists(ctx, k) {
				t.Errorf("%s holds %q, %v", k, got, err)
			}
			info, err := s.Stat(ctx, k)
			if err != nil || info.Key != k || !info.IsTerminal || info.Size != int64(len("of "+k)) || info.Modified.IsZero() {
				t.Errorf("%s: %+v, %v", k, info, err)
			}
		}
		if !s.Exists(ctx, "certificates") || !s.Exists(ctx, site) || s.Exists(ctx, "cert") || s.Exists(ctx, site[:len(site)-1]) {
			t.Error("directories exist by component")
		}
		if info, err := s.Stat(ctx, site); err != nil || info.IsTerminal || info.Key != site {
			t.Errorf("directory: %+v, %v", info, err)
		}

		list := func(dir string, recursive bool, want ...string) {
			t.Helper()
			got, err := s.List(ctx, dir, recursive)
			slices.Sort(got)
			slices.Sort(want)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("List(%q, %t) = %q, %v; want %q", dir, recursive, got, err, want)
			}
		}
		list("certificates", false, "certificates/ca")
		list("certificates/ca", false, site, path.Dir(other))
		list(site, false, crt, key, meta)
		list(site, true, crt, key, meta)
		list("certificates", true, "certificates/ca", site, crt, key, meta, path.Dir(other), other)
		list("", false, "certificates")
		list(crt, false)

		mustDo(t, s.Store(ctx, crt, []byte("renewed")))
		if got, err := s.Load(ctx, crt); err != nil || string(got) != "renewed" {
			t.Errorf("overwritten: %q, %v", got, err)
		}
		mustDo(t, s.Delete(ctx, key))
		_, err = s.Load(ctx, key)
		notExist("a deleted key", err)
		mustDo(t, s.Delete(ctx, site))
		mustDo(t, s.Delete(ctx, site))
		if s.Exists(ctx, site) || s.Exists(ctx, meta) || !s.Exists(ctx, other) {
			t.Error("Delete takes the subtree, and nothing beside it")
		}
		list("certificates/ca", false, path.Dir(other))
	})
}

// TestCertStorageLocks holds for one storage as for two of one database.
func TestCertStorageLocks(t *testing.T) {
	onEveryStorage(t, func(t *testing.T, s certmagic.Storage) {
		try := s.(certmagic.TryLocker)
		mustDo(t, s.Lock(t.Context(), "n"))
		if ok, err := try.TryLock(t.Context(), "other"); err != nil || !ok {
			t.Error(ok, err)
		}
		mustDo(t, s.Unlock(t.Context(), "other"))
		if ok, err := try.TryLock(t.Context(), "n"); err != nil || ok {
			t.Error(ok, err)
		}
		got := make(chan error, 1)
		go func() { got <- s.Lock(t.Context(), "n") }()
		mustDo(t, s.Unlock(t.Context(), "n"))
		mustDo(t, <-got)
		mustDo(t, s.Unlock(t.Context(), "n"))
		if _, ours := s.(certStorage); ours { // the file system has no file to remove then
			mustDo(t, s.Unlock(t.Context(), "n"))
		}
		if ok, err := try.TryLock(t.Context(), "n"); err != nil || !ok {
			t.Error(ok, err)
		}
		mustDo(t, s.Unlock(t.Context(), "n"))
	})
}

// TestCertStorageContext: what has no time left is not done.
func TestCertStorageContext(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, node certNode) {
		s := node(t)
		over, cancel := context.WithCancel(t.Context())
		cancel()
		for range 2 { // before and after the database is open
			if err := s.Store(over, "a", nil); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			if _, err := s.Load(over, "a"); !errors.Is(err, context.Canceled) || errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
			if s.Exists(over, "b") {
				t.Error("it is known to exist")
			}
			mustDo(t, s.Store(t.Context(), "b", nil))
		}
	})
}

// TestCertStoragePrintsAsName: certmagic logs the storage.
func TestCertStoragePrintsAsName(t *testing.T) {
	s := nodesOf(databaseConfig{driver: "sqlite", dsn: filepath.Join(t.TempDir(), "secret-path.db"), keys: [][]byte{bytes.Repeat([]byte("k"), 32)}})(t)
	module := CertStorage{Database: &Database{DSN: "secret-path"}, EncryptionKeys: []string{"secret-key"}, certs: s.certs}
	for _, v := range []any{s, &s, module, &module} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			if got := fmt.Sprintf(verb, v); got != "llm_proxy" {
				t.Errorf("%T prints with %s as %.100s", v, verb, got)
			}
		}
	}
}

// TestCertStorageErrorsHoldNoValues: what is stored is in no error.
func TestCertStorageErrorsHoldNoValues(t *testing.T) {
	s := nodesOf(databaseConfig{driver: "sqlite", dsn: filepath.Join(t.TempDir(), "llm-proxy.db")})(t)
	canary := bytes.Repeat([]byte("canary"), 2<<20)
	for _, err := range []error{s.Store(t.Context(), "big", canary), s.Store(t.Context(), "../up", canary[:12]), s.Store(t.Context(), "", canary[:12])} {
		if err == nil || strings.Contains(err.Error(), "canary") || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%.200v", err)
		}
	}
}

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// soon is a context for what should not take long.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}
