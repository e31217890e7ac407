package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/migrations"
)

// dialect is all that differs between databases. Every query is written once,
// in the SQL that they share: $1 parameters, TRUE and FALSE, RETURNING, ON
// CONFLICT, row values, times as microseconds and ids as canonical UUIDs.
type dialect interface {
	migrations() migrations.Dialect

	// lock keeps other starters out while one migrates, until unlock or the
	// death of the process. The lock may belong to one connection, which then is
	// all of migrator; nil says that any will do.
	lock(ctx context.Context) (migrator *sql.DB, unlock func(), err error)

	// openWriter, openReader connect, making what is missing.
	openWriter(ctx context.Context) (*sql.DB, error)
	openReader(ctx context.Context) (*sql.DB, error)

	// openExisting connects for reading; nil when there is no database.
	openExisting(ctx context.Context) (*sql.DB, error)

	// openBulk is openExisting for reading whole tables, however long that takes.
	openBulk(ctx context.Context) (*sql.DB, error)

	// exclusive keeps all other writers of the tables out until tx ends, which may
	// take its time. Readers go on.
	exclusive(ctx context.Context, tx *sql.Tx, tables []string) error

	// rowsAtOnce is how many rows an INSERT should have.
	rowsAtOnce() int

	// snapshot writes the database, as it is at one moment, into an empty SQLite
	// file, or returns errNoSnapshot.
	snapshot(ctx context.Context, file string) error

	// hurry makes it so that closing the pools does not wait for a database
	// that does not answer. It is called once, before they are closed.
	hurry() (done func())

	// lockRow ends a SELECT that reads a row in order to write it.
	lockRow() string

	// clock is the time by the database's own clock, in microseconds, as SQL; a
	// database without one takes ours.
	clock(now time.Time) string

	isUniqueViolation(err error) bool
	isForeignKeyViolation(err error) bool

	// unreachable returns ErrUnreachable, or a closer description that is
	// also ErrUnreachable, for errors that may pass; else nil.
	unreachable(err error) error

	// undone reports that the database took a transaction back for the sake of
	// others; running it again may succeed at once.
	undone(err error) bool

	// lost reports that a connection broke while it was used, so that nobody
	// knows whether what was asked on it has been done.
	lost(err error) bool

	// announce tells other nodes of changes if and when tx commits.
	announce(ctx context.Context, tx *sql.Tx, changes []token.Change) error

	// announceRewrite tells other nodes of a change of everything if and when tx
	// commits; epochPoll is how often those look who are not told, else zero.
	announceRewrite(ctx context.Context, tx *sql.Tx) error
	epochPoll() time.Duration

	// hasNodes reports whether others may use the database at the same time, and
	// announcePurge tells those of a purge of the response cache if and when tx commits.
	hasNodes() bool
	announcePurge(ctx context.Context, tx *sql.Tx, text string) error

	eventDialect

	// idType is the type of ids, for parameters that do not show what they are for.
	idType() string

	// follow hears what other nodes announce, from before it returns until stop.
	follow(ctx context.Context, f follower) (stop func(), err error)
}

// errNoSnapshot says that the database is not a file that could be copied.
var errNoSnapshot = errors.New("the database cannot be written into a file as it is")

// follower is told what happens on other nodes and to the connection with them.
// Its functions must not block.
type follower struct {
	changed func(token.Change)
	purged  func(text string)
	gap     func()                     // announcements may have been missed
	clock   func(offset time.Duration) // how far the database's clock is ahead of ours
}

func newDialect(cfg *Config, logger *slog.Logger) (dialect, error) {
	switch cfg.Driver {
	case "sqlite":
		return newSQLite(cfg.DSN, logger)
	case "postgres":
		return newPostgres(cfg, logger)
	default:
		return nil, fmt.Errorf("unknown database driver %q: expected sqlite or postgres", cfg.Driver)
	}
}
