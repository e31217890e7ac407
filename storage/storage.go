// Package storage opens the database and serves the reads and writes that the
// domain packages ask for, with one set of SQL for every dialect.
//
// It can be imported, but its Go API follows this program's needs and may change
// in any release. The guarantees are those of the conformance suite in storetest.
//
// Reads go to a pool of connections that cannot write. Writes go through
// [DB.Update], one transaction at a time on SQLite, and what changed is announced
// to the listeners of [DB.OnChange] once it is committed.
package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/migrations"
)

// Config says which database and how its secrets are sealed.
type Config struct {
	Driver  string          // "sqlite"
	DSN     string          // SQLite: the file's path
	Keyring *secret.Keyring // seals provider keys and the pepper
	Logger  *slog.Logger    // nil: discard
}

// DB is a database, open or not yet. It is safe for concurrent use.
type DB struct {
	dialect dialect
	keyring *secret.Keyring
	logger  *slog.Logger
	now     func() time.Time

	// closing ends when Close begins, so that an Open that waits for another
	// process gives up.
	closing context.Context
	close   context.CancelFunc

	openMu sync.Mutex // held by Open and Close
	conns  atomic.Pointer[conns]

	commitMu  sync.Mutex // commit and announcement are one step, see Update
	listeners listeners
}

// conns is everything that exists only while the database is open.
type conns struct {
	writer, reader *sql.DB
	loadToken      *sql.Stmt
	loadProject    *sql.Stmt
	pepper         []byte
}

// New checks the configuration. It does no I/O: no file is made and no
// connection opened before [DB.Open].
func New(cfg Config) (*DB, error) {
	if cfg.Keyring == nil {
		return nil, errors.New("database needs an encryption key")
	}
	logger := cfg.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	d, err := newDialect(cfg.Driver, cfg.DSN, logger)
	if err != nil {
		return nil, err
	}
	db := &DB{dialect: d, keyring: cfg.Keyring, logger: logger, now: time.Now}
	db.closing, db.close = context.WithCancel(context.Background())
	return db, nil
}

// Open connects, migrates the schema and loads the pepper, all under a lock that
// other starters of the same database wait for. It does nothing when the database
// is open already, and may be called again after an error: one that is
// [ErrUnreachable] may go away by itself. After [DB.Close] it fails.
func (db *DB) Open(ctx context.Context) error {
	db.openMu.Lock()
	defer db.openMu.Unlock()
	if db.closing.Err() != nil {
		return errClosed
	}
	if db.conns.Load() != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(db.closing, cancel)()

	c, err := db.connect(ctx)
	if err != nil {
		return fmt.Errorf("opening the database: %w", db.classify(err))
	}
	db.conns.Store(c)
	return nil
}

// connect builds all of conns or nothing.
func (db *DB) connect(ctx context.Context) (_ *conns, err error) {
	c := &conns{}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	unlock, err := db.dialect.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()

	if c.writer, err = db.dialect.openWriter(ctx); err != nil {
		return nil, err
	}
	applied, err := migrations.Up(ctx, c.writer, db.dialect.migrations())
	if err != nil {
		return nil, err
	}
	if applied > 0 {
		db.logger.Info("database migrated", "applied", applied)
	}
	if c.pepper, err = db.openPepper(ctx, c.writer); err != nil {
		return nil, err
	}
	if c.reader, err = db.dialect.openReader(ctx); err != nil {
		return nil, err
	}
	if c.loadToken, err = c.reader.PrepareContext(ctx, loadTokenSQL); err != nil {
		return nil, fmt.Errorf("preparing the token query: %w", err)
	}
	if c.loadProject, err = c.reader.PrepareContext(ctx, loadProjectSQL); err != nil {
		return nil, fmt.Errorf("preparing the project query: %w", err)
	}
	return c, nil
}

// Close releases every connection, after the statements that are running. It may
// be called at any time and more than once.
func (db *DB) Close() error {
	db.close()
	db.openMu.Lock()
	defer db.openMu.Unlock()
	if c := db.conns.Swap(nil); c != nil {
		return c.close()
	}
	return nil
}

// close ends the reader first: the last connection to leave a SQLite database
// writes its log back into the file, which readers may not do.
func (c *conns) close() error {
	var errs []error
	for _, stmt := range []*sql.Stmt{c.loadToken, c.loadProject} {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	for _, pool := range []*sql.DB{c.reader, c.writer} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("closing the database: %w", err)
	}
	return nil
}

// open returns the connections, or why there are none.
func (db *DB) open() (*conns, error) {
	if c := db.conns.Load(); c != nil {
		return c, nil
	}
	if db.closing.Err() != nil {
		return nil, errClosed
	}
	return nil, errNotOpen
}

// Ping asks the database for a sign of life.
func (db *DB) Ping(ctx context.Context) error {
	c, err := db.open()
	if err != nil {
		return err
	}
	var one int
	if err := c.reader.QueryRowContext(ctx, `SELECT 1`).Scan(&one); err != nil {
		return fmt.Errorf("pinging the database: %w", db.classify(err))
	}
	return nil
}

// Pepper is the random key that token hashes are made with. It is nil before
// [DB.Open] succeeds and must not be modified.
func (db *DB) Pepper() []byte {
	if c := db.conns.Load(); c != nil {
		return c.pepper
	}
	return nil
}

// OnChange calls listener for every committed change, in commit order and before
// the writer's [DB.Update] returns. The listener must not block or call Update.
// remove ends that; a call that is under way may still finish after it returns.
func (db *DB) OnChange(listener func(token.Change)) (remove func()) {
	return db.listeners.add(listener)
}

// MigrationStatus lists the migrations that this binary and the database know.
// It changes nothing and works on a database that was never opened, is older or
// newer than the binary, or does not exist.
func (db *DB) MigrationStatus(ctx context.Context) ([]migrations.Status, error) {
	var pool *sql.DB
	if c := db.conns.Load(); c != nil {
		pool = c.reader
	} else {
		p, err := db.dialect.openExisting(ctx)
		if err != nil {
			return nil, fmt.Errorf("reading the migration status: %w", db.classify(err))
		}
		if p != nil {
			defer p.Close()
		}
		pool = p
	}
	list, err := migrations.List(ctx, pool, db.dialect.migrations())
	if err != nil {
		return nil, fmt.Errorf("reading the migration status: %w", db.classify(err))
	}
	return list, nil
}

// String names the kind of database and nothing else of it.
func (db *DB) String() string { return "storage.DB(" + string(db.dialect.migrations()) + ")" }

// GoString is [DB.String]: Caddy prints pooled values with %#v when a reference
// count goes wrong, and the pepper must not be in that.
func (db *DB) GoString() string { return db.String() }
