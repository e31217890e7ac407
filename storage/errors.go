package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/sofatutor/caddy-llm-proxy/migrations"
)

// Errors to be told apart with [errors.Is].
var (
	// ErrNotFound says that there is no such row.
	ErrNotFound = errors.New("not found")

	// ErrConflict says that a value that must be unique exists already.
	ErrConflict = errors.New("exists already")

	// ErrUnreachable says that the database cannot be reached or cannot work at the
	// moment; the same call may succeed later.
	ErrUnreachable = errors.New("database unavailable")

	// ErrBusy is an [ErrUnreachable]: another process keeps the database locked.
	ErrBusy = fmt.Errorf("%w: locked by another process", ErrUnreachable)

	// ErrFull is an [ErrUnreachable]: there is no space left for the database.
	ErrFull = fmt.Errorf("%w: no space left", ErrUnreachable)

	errNotOpen = fmt.Errorf("%w: not open yet", ErrUnreachable)
	errClosed  = errors.New("database is closed")
)

// NewerSchemaError says that the database was migrated by a newer binary.
type NewerSchemaError = migrations.NewerSchemaError

// PendingError says that the database was not migrated as far as this binary needs.
type PendingError = migrations.PendingError

// classify adds the sentinel that an error of the driver stands for.
func (db *DB) classify(err error) error {
	for _, known := range []error{ErrNotFound, ErrConflict, ErrUnreachable, errClosed, context.Canceled} {
		if errors.Is(err, known) {
			return err
		}
	}
	switch {
	case errors.Is(err, sql.ErrNoRows), db.dialect.isForeignKeyViolation(err):
		return ErrNotFound
	case errors.Is(err, sql.ErrConnDone), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	case db.dialect.isUniqueViolation(err):
		return fmt.Errorf("%w: %w", ErrConflict, err)
	}
	if kind := db.dialect.unreachable(err); kind != nil {
		return fmt.Errorf("%w: %w", kind, err)
	}
	if db.closing.Err() != nil { // package sql says so in an error of its own, without a name
		return fmt.Errorf("%w: %w", errClosed, err)
	}
	return err
}

// damagedRowError says that one row holds what this program never wrote. Only
// reads of that row fail.
type damagedRowError struct {
	table, id string
	err       error
}

func (e *damagedRowError) Error() string {
	return fmt.Sprintf("row %s of %s is damaged: %v", e.id, e.table, e.err)
}

func (e *damagedRowError) Unwrap() error { return e.err }
