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

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/migrations"
)

// Config says which database and how its secrets are sealed.
type Config struct {
	Driver  string          // "sqlite" or "postgres"
	DSN     string          // SQLite: the file's path; PostgreSQL: URL, or key=value pairs
	Keyring *secret.Keyring // seals provider keys, the pepper and what Caddy keeps for TLS
	Logger  *slog.Logger    // nil: discard

	// NoMigrate has Open refuse a database whose schema is older than the binary
	// with [*PendingError] instead of migrating it.
	NoMigrate bool

	// AnyKeys has Open go on without the pepper when rows, its own included, need
	// encryption keys that are not configured. It is for those who look after keys:
	// no token can be checked.
	AnyKeys bool

	// PostgreSQL only:
	MaxConns         int           // connections, all in all; 0: 16, and at least 4
	StatementTimeout time.Duration // bound of one statement but a migration's; 0: what the DSN says, or 5 s
	ApplicationName  string        // as the server's views show it; "": what the DSN says, or llm-proxy
}

// DB is a database, open or not yet. It is safe for concurrent use.
type DB struct {
	dialect   dialect
	keyring   *secret.Keyring
	logger    *slog.Logger
	now       func() time.Time
	noMigrate bool
	anyKeys   bool
	partial   bool // Open does not mind an unfinished copy

	// closing ends when Close begins, so that an Open that waits for another
	// process gives up.
	closing context.Context
	close   context.CancelFunc

	openMu sync.Mutex // held by Open and Close
	conns  atomic.Pointer[conns]

	rolling   chan struct{} // holds one while events are rolled up
	commitMu  sync.Mutex    // commit and announcement are one step, see Update
	listeners listeners
	commits   listeners // of this DB alone
	gaps      listenersOf[struct{}]
	purges    listenersOf[string]
	audits    listenersOf[audit.Entry]
	offset    atomic.Pointer[time.Duration] // of the database's clock from evenly; nil: not measured
}

// conns is everything that exists only while the database is open.
type conns struct {
	writer, reader *sql.DB
	read           rereader // of reader
	loadToken      *sql.Stmt
	loadProject    *sql.Stmt
	appends        *eventStmts
	pepper         atomic.Pointer[[]byte] // another one after a rewrite
	unfollow       func()
	epoch          *epochWatch
	hurry          func() (done func())
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
	d, err := newDialect(&cfg, logger)
	if err != nil {
		return nil, err
	}
	db := &DB{dialect: d, keyring: new(secret.Keyring), logger: logger, now: time.Now, noMigrate: cfg.NoMigrate, anyKeys: cfg.AnyKeys, rolling: make(chan struct{}, 1)}
	db.keyring.Replace(cfg.Keyring) // a copy: see UseKeys
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
	c := &conns{hurry: db.dialect.hurry, appends: new(eventStmts)}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if db.noMigrate {
		if err := db.checkSchema(ctx); err != nil {
			return nil, err
		}
	}
	migrator, unlock, err := db.dialect.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()

	if c.writer, err = db.dialect.openWriter(ctx); err != nil {
		return nil, err
	}
	if migrator == nil {
		migrator = c.writer
	}
	if err := db.migrate(ctx, migrator); err != nil {
		return nil, err
	}
	if !db.partial {
		if err := refuseUnfinished(ctx, c.writer); err != nil {
			return nil, err
		}
	}
	epoch, err := db.newEpochWatch(ctx, c)
	if err != nil {
		return nil, err
	}
	if !db.anyKeys {
		if err := checkKeys(ctx, c.writer, db.keyring); err != nil {
			return nil, err
		}
		pepper, err := db.openPepper(ctx, c.writer)
		if err != nil {
			return nil, err
		}
		c.pepper.Store(&pepper)
		if err := claim(ctx, c.writer); err != nil {
			return nil, err
		}
	}
	if c.reader, err = db.dialect.openReader(ctx); err != nil {
		return nil, err
	}
	c.read = rereader{c.reader, db.dialect.lost}
	if c.loadToken, err = c.reader.PrepareContext(ctx, loadTokenSQL); err != nil {
		return nil, fmt.Errorf("preparing the token query: %w", err)
	}
	if c.loadProject, err = c.reader.PrepareContext(ctx, loadProjectSQL); err != nil {
		return nil, fmt.Errorf("preparing the project query: %w", err)
	}
	c.unfollow, err = db.dialect.follow(ctx, follower{
		changed: func(change token.Change) { db.listeners.announce([]token.Change{change}) },
		purged:  func(text string) { db.purges.announce([]string{text}) },
		gap:     func() { db.gap(); epoch.soon() },
		clock:   func(offset time.Duration) { db.offset.Store(&offset) },
	})
	if err != nil {
		return nil, err
	}
	epoch.start(ctx)
	c.epoch = epoch
	return c, nil
}

// migrate brings the schema to this binary's version, or checks that it is there.
func (db *DB) migrate(ctx context.Context, pool *sql.DB) error {
	if db.noMigrate { // again, since another binary may have held the lock
		return migrations.Check(ctx, pool, db.dialect.migrations())
	}
	applied, err := migrations.Up(ctx, pool, db.dialect.migrations())
	if err != nil {
		return err
	}
	if applied > 0 {
		db.logger.Info("database migrated", "applied", applied)
	}
	return nil
}

// checkSchema is for a start that must not migrate: it makes nothing, not even
// an empty database.
func (db *DB) checkSchema(ctx context.Context) error {
	pool, err := db.dialect.openExisting(ctx)
	if err != nil {
		return err
	}
	if pool != nil {
		defer pool.Close()
	}
	return migrations.Check(ctx, pool, db.dialect.migrations())
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
	done := c.hurry()
	defer done()
	if c.unfollow != nil {
		c.unfollow()
	}
	if c.epoch != nil {
		c.epoch.stop()
	}
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
	if err := c.read.QueryRowContext(ctx, `SELECT 1`).Scan(&one); err != nil {
		return fmt.Errorf("pinging the database: %w", db.classify(err))
	}
	return nil
}

// Pepper is the random key that token hashes are made with. It is nil before
// [DB.Open] succeeds, another one when the database was replaced by that of another
// installation, which is a gap, and must not be modified.
func (db *DB) Pepper() []byte {
	if c := db.conns.Load(); c != nil {
		if pepper := c.pepper.Load(); pepper != nil {
			return *pepper
		}
	}
	return nil
}

// OnChange calls listener for every committed change: for this DB's own in commit
// order and before the writer's [DB.Update] returns, for those of other nodes
// when they are heard of. Two calls may come at once. The listener must not block
// or call Update. remove ends that; a call that is under way may still finish
// after it returns.
func (db *DB) OnChange(listener func(token.Change)) (remove func()) {
	return db.listeners.add(listener)
}

// OnCommit calls listener for every change that this DB has committed itself,
// after those of OnChange.
func (db *DB) OnCommit(listener func(token.Change)) (remove func()) {
	return db.commits.add(listener)
}

// OnGap calls listener when changes may have been missed: the connection that
// other nodes' changes come by was lost and is there again, the connection
// broke while a change of our own was being committed, or the database was
// rewritten as a whole. Nothing that was read
// before can be relied on then. What is true of OnChange's listener is true of
// this one.
func (db *DB) OnGap(listener func()) (remove func()) {
	return db.gaps.add(func(struct{}) { listener() })
}

func (db *DB) gap() { db.gaps.announce([]struct{}{{}}) }

// ClockOffset is how far the database's clock is ahead of this machine's, measured
// by [DB.Open] and every few seconds after it; between two measurements as well, when
// this machine's clock is set. SQLite has no clock of its own: there it is how far
// this machine's has been set back since the process began, as what was dated before
// is not from the future.
func (db *DB) ClockOffset() time.Duration {
	now := time.Now()
	setBack := evenly(now).Sub(now.Round(0))
	if measured := db.offset.Load(); measured != nil {
		return *measured + setBack
	}
	return max(0, setBack.Truncate(time.Second))
}

// evenly is a moment by a clock that nobody sets: when the process began, and what
// has passed since.
func evenly(at time.Time) time.Time { return processStart.Round(0).Add(at.Sub(processStart)) }

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
