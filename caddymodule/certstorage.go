package caddymodule

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/certmagic"
)

// CertStorage is the storage module `llm_proxy`: certificates, their private keys,
// ACME accounts and locks are kept in the database of the llm_proxy app, so that all
// nodes share them. Every value is sealed with the database's encryption key.
//
// Caddy reads its storage before it starts any app, so the database is opened,
// and migrated, when it is first asked for something.
type CertStorage struct {
	// The database. Default: that of the llm_proxy app, or, when there is none,
	// the app's default. Commands such as `caddy storage export` do not see the
	// app and need it here. If it is the app's, the app's other settings of it hold.
	Database *Database `json:"database,omitempty"`

	// The keys that seal what is in Database, as the app's encryption_keys. Default:
	// those of the app if it uses the same database, else the one beside it.
	EncryptionKeys []string `json:"encryption_keys,omitempty"`

	certs *certs
}

// CaddyModule returns the Caddy module information.
func (*CertStorage) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.storage.llm_proxy", New: func() caddy.Module { return new(CertStorage) }}
}

// Provision finds out which database it is. It has no effect outside the process.
func (s *CertStorage) Provision(ctx caddy.Context) error {
	logger := ctx.Slogger()
	cfg, err := s.databaseConfig(ctx, logger)
	if err != nil {
		return err
	}
	rt, err := newRuntime(cfg, logger)
	if err != nil {
		return err
	}
	s.certs = newCerts(rt, logger)
	lingering.once.Do(func() { caddy.OnExit(func(context.Context) { lingering.end() }) })
	return nil
}

// databaseConfig is that of the app, unless it has its own.
func (s *CertStorage) databaseConfig(ctx caddy.Context, logger *slog.Logger) (databaseConfig, error) {
	var shared *databaseConfig
	switch app, err := ctx.AppIfConfigured("llm_proxy"); {
	case err == nil:
		app, ok := app.(*App)
		if !ok || app.runtime == nil {
			return databaseConfig{}, errors.New("storage llm_proxy: the llm_proxy app is not usable yet; a storage module cannot be part of it")
		}
		shared = &app.runtime.cfg
	case !errors.Is(err, caddy.ErrNotConfigured):
		return databaseConfig{}, err
	}
	switch {
	case s.Database != nil:
	case shared != nil && len(s.EncryptionKeys) > 0:
		return databaseConfig{}, errors.New("storage llm_proxy > encryption_key: the database is that of the llm_proxy option, and so are its keys; set encryption_key there, or a database here as well")
	case shared != nil:
		return *shared, nil
	case !hasConfig(ctx):
		return databaseConfig{}, errors.New("storage llm_proxy > database: this command reads nothing but the storage option, so the database must be named in it: storage llm_proxy { database … }")
	}
	same := shared != nil && s.Database.is(*shared)
	if same && len(s.EncryptionKeys) == 0 {
		return *shared, nil
	}
	own := App{Database: s.Database, EncryptionKeys: s.EncryptionKeys, logger: logger}
	cfg, err := own.databaseConfig()
	switch {
	case err != nil:
		return databaseConfig{}, fmt.Errorf("storage %w", err)
	case !same:
		cfg.fixedKeys = cfg.keys // storage has no start at which to adopt others
		return cfg, nil
	case !slices.EqualFunc(cfg.keys, shared.keys, bytes.Equal):
		return databaseConfig{}, errors.New("storage llm_proxy > encryption_key: the llm_proxy option names the same database with other keys; leave encryption_key out here, or make them the same, in the same order")
	}
	return *shared, nil
}

// is reports whether the database is the one of a configuration, whatever else
// differs.
func (db *Database) is(other databaseConfig) bool {
	cfg := databaseConfig{driver: cmp.Or(db.Driver, driverSQLite)}
	return db.apply(&cfg) == nil && cfg.driver == other.driver && cfg.dsn == other.dsn
}

// hasConfig reports whether there is a configuration: Caddy's storage commands
// load this module alone, and then even to ask the context for one panics.
func hasConfig(ctx caddy.Context) (has bool) {
	defer func() {
		if recover() != nil {
			has = false
		}
	}()
	_ = ctx.Storage()
	return true
}

// CertMagicStorage implements [caddy.StorageConverter].
func (s *CertStorage) CertMagicStorage() (certmagic.Storage, error) {
	if s.certs == nil {
		return nil, errors.New("storage llm_proxy is not provisioned")
	}
	return certStorage{s.certs}, nil
}

// Cleanup lets go of the database. What still holds a lock keeps it open until
// the lock is released. When the process exits, certmagic releases locks after
// this, so it stays open until then.
func (s *CertStorage) Cleanup() error {
	switch {
	case s.certs == nil:
	case exiting():
		s.certs.stop()
		lingering.add(s.certs.runtime)
	default:
		s.certs.runtime.release()
	}
	s.certs = nil
	return nil
}

// String keeps the settings out of logs.
func (s CertStorage) String() string { return certStorageName }

// GoString is [CertStorage.String].
func (s CertStorage) GoString() string { return certStorageName }

// UnmarshalCaddyfile reads the global option:
//
//	storage llm_proxy [{
//		database <kind> …
//		encryption_key <key> [<older keys...>]
//	}]
func (s *CertStorage) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.Errf("unexpected %q; expected nothing, or a block with database and encryption_key", d.Val())
	}
	seen := make(once)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := seen.add(d, d.Val()); err != nil {
			return err
		}
		var err error
		switch d.Val() {
		case "database":
			s.Database, err = parseDatabase(d)
		case "encryption_key":
			s.EncryptionKeys, err = parseEncryptionKeys(d)
		default:
			err = unknownOption(d, "database, encryption_key")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// exiting is replaced by tests.
var exiting = caddy.Exiting

// lingering are the runtimes that outlive their configuration because the
// process exits.
var lingering runtimes

type runtimes struct {
	once sync.Once
	mu   sync.Mutex
	list []*runtime
}

func (r *runtimes) add(rt *runtime) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, rt)
}

// end lets go of them all.
func (r *runtimes) end() {
	r.mu.Lock()
	list := r.list
	r.list = nil
	r.mu.Unlock()
	for _, rt := range list {
		rt.release()
	}
}

// Interface guards
var (
	_ caddy.StorageConverter = (*CertStorage)(nil)
	_ caddy.Provisioner      = (*CertStorage)(nil)
	_ caddy.CleanerUpper     = (*CertStorage)(nil)
	_ caddyfile.Unmarshaler  = (*CertStorage)(nil)
)
