package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// Tx is a transaction made by [DB.Update]. It must not be used after the
// function it was given to returns, nor from several goroutines.
type Tx struct {
	db      *DB
	tx      *sql.Tx
	now     time.Time
	changes []token.Change
	failed  error
}

// Update runs fn in one transaction. It commits when fn returns nil, and rolls
// back when fn returns an error or panics, ctx ends, or a write in it failed,
// even if fn went on: PostgreSQL refuses everything after a failed statement,
// and all dialects behave alike. Calling Update inside fn deadlocks until ctx
// ends; reads of the DB inside fn see the state before it.
func (db *DB) Update(ctx context.Context, fn func(tx *Tx) error) error {
	c, err := db.open()
	if err != nil {
		return err
	}
	sqlTx, err := c.writer.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("beginning a transaction: %w", db.classify(err))
	}
	defer func() { _ = sqlTx.Rollback() }() // does nothing after a commit

	tx := &Tx{db: db, tx: sqlTx, now: db.now().UTC().Truncate(time.Microsecond)}
	err = fn(tx)
	if err == nil {
		err = tx.failed
	}
	if err != nil {
		return overtaken(ctx, err)
	}

	// Between a commit and its announcement no other commit may come, or
	// listeners would see changes out of order.
	db.commitMu.Lock()
	defer db.commitMu.Unlock()
	if err := sqlTx.Commit(); err != nil {
		return fmt.Errorf("committing: %w", db.classify(overtaken(ctx, err)))
	}
	db.listeners.announce(tx.changes)
	return nil
}

// overtaken says why a transaction was over before its user was done with it:
// package sql rolls back when ctx ends.
func overtaken(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil && errors.Is(err, sql.ErrTxDone) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// Now is the time of the transaction, UTC, to the microsecond. Every row it
// writes carries it.
func (tx *Tx) Now() time.Time { return tx.now }

// fail classifies the error of a statement and dooms the transaction, unless
// the statement merely found nothing.
func (tx *Tx) fail(err error) error {
	nothing := errors.Is(err, sql.ErrNoRows) || errors.Is(err, ErrNotFound)
	err = tx.db.classify(err)
	if !nothing && tx.failed == nil {
		tx.failed = err
	}
	return err
}

func (tx *Tx) changed(c token.Change) { tx.changes = append(tx.changes, c) }

// bumpProject raises the project's version, so that everybody who remembers it
// or one of its keys or tokens loads it again. Coming first, it also locks the
// project against concurrent transactions.
func (tx *Tx) bumpProject(ctx context.Context, id uuid.UUID) (version int64, err error) {
	err = tx.tx.QueryRowContext(ctx,
		`UPDATE projects SET version = version + 1, updated_at = $1 WHERE id = $2 RETURNING version`,
		tx.now.UnixMicro(), id).Scan(&version)
	if err != nil {
		return 0, fmt.Errorf("project %s: %w", id, tx.fail(err))
	}
	return version, nil
}
