package caddymodule

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/sofatutor/caddy-llm-proxy/storage"
)

const certStorageName = "llm_proxy"

var errStorageGone = errors.New("storage llm_proxy: the configuration that it belongs to is gone")

// certStorage is what certmagic is given, which logs it: it prints as a name.
type certStorage struct{ *certs }

func (certStorage) String() string   { return certStorageName }
func (certStorage) GoString() string { return certStorageName }

// certs keeps certmagic's values and locks in the database.
type certs struct {
	runtime *runtime
	logger  *slog.Logger
	lease   time.Duration // of locks

	mu    sync.Mutex
	locks map[string]*certLock
}

func newCerts(rt *runtime, logger *slog.Logger) *certs {
	return &certs{runtime: rt, logger: logger, lease: lockLease, locks: make(map[string]*certLock)}
}

// open returns the store, and keeps it open until release.
func (c *certs) open(ctx context.Context) (store storage.CertStore, release func(), err error) {
	release, ok := c.runtime.acquire()
	if !ok {
		return store, nil, errStorageGone
	}
	db, err := c.runtime.db.use(ctx)
	if err != nil {
		release()
		return store, nil, err
	}
	return db.Certs(), release, nil
}

// Store implements [certmagic.Storage].
func (c *certs) Store(ctx context.Context, key string, value []byte) error {
	store, release, err := c.open(ctx)
	if err != nil {
		return certError("store", key, err)
	}
	defer release()
	return certError("store", key, store.Store(ctx, key, value))
}

// Load implements [certmagic.Storage].
func (c *certs) Load(ctx context.Context, key string) ([]byte, error) {
	store, release, err := c.open(ctx)
	if err != nil {
		return nil, certError("load", key, err)
	}
	defer release()
	value, err := store.Load(ctx, key)
	return value, certError("load", key, err)
}

// Delete implements [certmagic.Storage].
func (c *certs) Delete(ctx context.Context, key string) error {
	store, release, err := c.open(ctx)
	if err != nil {
		return certError("delete", key, err)
	}
	defer release()
	return certError("delete", key, store.Delete(ctx, key))
}

// Exists implements [certmagic.Storage]. It has no way to say that it does not
// know.
func (c *certs) Exists(ctx context.Context, key string) bool {
	_, err := c.Stat(ctx, key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil {
		c.logger.Error("looking up a TLS resource; it is taken for missing", "error", err)
	}
	return err == nil
}

// List implements [certmagic.Storage].
func (c *certs) List(ctx context.Context, path string, recursive bool) ([]string, error) {
	store, release, err := c.open(ctx)
	if err != nil {
		return nil, certError("list", path, err)
	}
	defer release()
	names, err := store.List(ctx, path, recursive)
	return names, certError("list", path, err)
}

// Stat implements [certmagic.Storage].
func (c *certs) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	store, release, err := c.open(ctx)
	if err != nil {
		return certmagic.KeyInfo{}, certError("stat", key, err)
	}
	defer release()
	info, err := store.Stat(ctx, key)
	if err != nil {
		return certmagic.KeyInfo{}, certError("stat", key, err)
	}
	return certmagic.KeyInfo{Key: key, Modified: info.Modified, Size: info.Size, IsTerminal: !info.Directory}, nil
}

// certError makes of what is missing the error that certmagic looks for.
func certError(op, key string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, storage.ErrNotFound):
		return &fs.PathError{Op: op, Path: key, Err: fs.ErrNotExist}
	}
	return &fs.PathError{Op: op, Path: key, Err: err}
}

// Interface guards
var (
	_ certmagic.Storage          = certStorage{}
	_ certmagic.TryLocker        = certStorage{}
	_ certmagic.LockLeaseRenewer = certStorage{}
)
