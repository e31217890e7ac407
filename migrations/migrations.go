// Package migrations holds the database schema as embedded goose SQL files, one
// directory per dialect, and applies them.
//
// The caller owns the connection and the lock that keeps several starters from
// migrating at once; see package storage.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// Table is where applied versions are recorded. The name is our own, so that
// another program's goose in the same database is left alone.
const Table = "llm_proxy_migrations"

//go:embed sqlite/*.sql postgres/*.sql
var files embed.FS

// Dialect names one of the databases that there are migrations for; it is also
// the directory that holds them.
type Dialect string

// The dialects that there are.
const (
	SQLite   Dialect = "sqlite"
	Postgres Dialect = "postgres"
)

// dialects holds what differs between databases. A new one is a directory, its
// name in the embed directive, and an entry here.
var dialects = map[Dialect]struct {
	goose       goose.Dialect
	countTables string // how many tables are called $1
}{
	SQLite: {
		goose:       goose.DialectSQLite3,
		countTables: `SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = $1`,
	},
	Postgres: {
		goose:       goose.DialectPostgres,
		countTables: `SELECT COUNT(*) FROM pg_catalog.pg_tables WHERE schemaname = current_schema() AND tablename = $1`,
	},
}

// NewerSchemaError says that the database was migrated by a newer binary. Its
// schema may hold restrictions that this binary does not know, so it is refused.
type NewerSchemaError struct {
	Database int64 // schema version found in the database
	Binary   int64 // newest version this binary knows
}

func (e *NewerSchemaError) Error() string {
	return fmt.Sprintf("database schema is version %d, newer than version %d of this binary: run the newer binary, or restore a backup made before the upgrade",
		e.Database, e.Binary)
}

// PendingError says that the database was not migrated as far as the binary needs.
type PendingError struct {
	Database int64 // schema version found in the database
	Binary   int64 // version that this binary needs
}

func (e *PendingError) Error() string {
	return fmt.Sprintf("database schema is version %d, and this binary needs version %d: migrate it first, or let the start do it",
		e.Database, e.Binary)
}

// Latest is the newest version that this binary holds for the dialect.
func Latest(dialect Dialect) (int64, error) {
	p, err := newProvider(nil, dialect)
	if err != nil {
		return 0, err
	}
	return latest(p), nil
}

// Up applies every pending migration, each in a transaction of its own, and
// returns how many there were. A database newer than the binary is left alone:
// [*NewerSchemaError].
func Up(ctx context.Context, db *sql.DB, dialect Dialect) (applied int, err error) {
	p, err := newProvider(db, dialect)
	if err != nil {
		return 0, err
	}
	current, err := version(ctx, db, dialect)
	if err != nil {
		return 0, err
	}
	if newest := latest(p); current > newest {
		return 0, &NewerSchemaError{Database: current, Binary: newest}
	}
	results, err := p.Up(ctx)
	if err != nil {
		return 0, upError(err)
	}
	return len(results), nil
}

// Check reports whether the database has exactly the schema of this binary,
// changing nothing: [*PendingError] when it is older, [*NewerSchemaError] when it
// is newer. A nil db stands for a database that does not exist yet.
func Check(ctx context.Context, db *sql.DB, dialect Dialect) error {
	list, err := List(ctx, db, dialect)
	if err != nil {
		return err
	}
	var current, newest int64
	pending := false
	for _, m := range list {
		if m.Name != Unknown {
			newest = max(newest, m.Version)
		}
		if m.Applied {
			current = max(current, m.Version)
		}
		pending = pending || !m.Applied
	}
	switch {
	case current > newest:
		return &NewerSchemaError{Database: current, Binary: newest}
	case pending:
		return &PendingError{Database: current, Binary: newest}
	}
	return nil
}

// upError names the migration that failed.
func upError(err error) error {
	var partial *goose.PartialError
	if errors.As(err, &partial) && partial.Failed != nil && partial.Failed.Source != nil {
		return fmt.Errorf("applying migration %s: %w", partial.Failed.Source.Path, partial.Err)
	}
	return fmt.Errorf("applying migrations: %w", err)
}

// newProvider makes goose's runner. The global registry stays off: another
// plugin in the same process may have registered migrations there.
func newProvider(db *sql.DB, dialect Dialect) (*goose.Provider, error) {
	d, ok := dialects[dialect]
	if !ok {
		return nil, fmt.Errorf("no migrations for database dialect %q", dialect)
	}
	dir, err := fs.Sub(files, string(dialect))
	if err != nil {
		return nil, fmt.Errorf("reading embedded migrations: %w", err)
	}
	if db == nil {
		db = new(sql.DB) // goose refuses nil; listing sources never touches it
	}
	p, err := goose.NewProvider(d.goose, db, dir,
		goose.WithDisableGlobalRegistry(true),
		goose.WithTableName(Table),
		goose.WithLogger(goose.NopLogger()),
	)
	if err != nil {
		return nil, fmt.Errorf("reading embedded migrations: %w", err)
	}
	return p, nil
}

func latest(p *goose.Provider) int64 {
	sources := p.ListSources() // ascending
	return sources[len(sources)-1].Version
}

// version is the highest version in the database, zero when it has none. Unlike
// goose's own it never creates the version table, so that looking is harmless.
func version(ctx context.Context, db *sql.DB, dialect Dialect) (int64, error) {
	store, exists, err := openStore(ctx, db, dialect)
	if err != nil || !exists {
		return 0, err
	}
	v, err := store.GetLatestVersion(ctx, db)
	if errors.Is(err, database.ErrVersionNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the schema version: %w", err)
	}
	return v, nil
}

// openStore reaches the version table and tells whether it exists.
func openStore(ctx context.Context, db *sql.DB, dialect Dialect) (database.Store, bool, error) {
	d := dialects[dialect]
	store, err := database.NewStore(d.goose, Table)
	if err != nil {
		return nil, false, fmt.Errorf("reading the schema version: %w", err)
	}
	var tables int
	if err := db.QueryRowContext(ctx, d.countTables, Table).Scan(&tables); err != nil {
		return nil, false, fmt.Errorf("reading the schema version: %w", err)
	}
	return store, tables > 0, nil
}
