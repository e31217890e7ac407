package storage

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"

	"github.com/sofatutor/caddy-llm-proxy/migrations"
)

// dialect is all that differs between databases. Every query is written once,
// in the SQL that they share: $1 parameters, TRUE and FALSE, RETURNING, ON
// CONFLICT, row values, times as microseconds and ids as canonical UUIDs.
type dialect interface {
	migrations() migrations.Dialect

	// lock keeps other starters out while one migrates, until unlock or the
	// death of the process.
	lock(ctx context.Context) (unlock func(), err error)

	// openWriter, openReader connect, making what is missing.
	openWriter(ctx context.Context) (*sql.DB, error)
	openReader(ctx context.Context) (*sql.DB, error)

	// openExisting connects for reading; nil when there is no database.
	openExisting(ctx context.Context) (*sql.DB, error)

	// lockRow ends a SELECT that reads a row in order to write it.
	lockRow() string

	isUniqueViolation(err error) bool
	isForeignKeyViolation(err error) bool

	// unreachable returns ErrUnreachable, or a closer description that is
	// also ErrUnreachable, for errors that may pass; else nil.
	unreachable(err error) error
}

func newDialect(driver, dsn string, logger *slog.Logger) (dialect, error) {
	switch driver {
	case "sqlite":
		return newSQLite(dsn, logger)
	default:
		return nil, fmt.Errorf("unknown database driver %q: expected sqlite", driver)
	}
}
