package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// Tx is a transaction made by [DB.Update]. It must not be used after the
// function it was given to returns, nor from several goroutines.
type Tx struct {
	db      *DB
	tx      *sql.Tx
	now     time.Time
	changes []token.Change
	audited []audit.Entry
	failed  error
}

// Transactions that the database takes back for the sake of others are run again,
// up to maxAttempts times in all, after a pause that grows from undonePause.
const (
	maxAttempts = 8
	undonePause = 2 * time.Millisecond
)

// Update runs fn in one transaction. It commits when fn returns nil, and rolls
// back when fn returns an error or panics, ctx ends, or a write in it failed,
// even if fn went on: PostgreSQL refuses everything after a failed statement,
// and all dialects behave alike. Calling Update inside fn deadlocks until ctx
// ends; reads of the DB inside fn see the state before it.
//
// fn may run more than once: PostgreSQL takes transactions back that are in each
// other's way, and a connection may turn out to be dead. Only the last run is
// committed, so fn must not keep anything of an earlier one.
func (db *DB) Update(ctx context.Context, fn func(tx *Tx) error) error {
	c, err := db.open()
	if err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		again, err := db.try(ctx, c, fn)
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case again == againOnce && attempt == 1:
		case again == againSoon && attempt < maxAttempts:
			pause := undonePause << attempt
			select {
			case <-ctx.Done():
				return err
			case <-time.After(pause/2 + rand.N(pause)):
			}
		default:
			return err
		}
	}
}

// again says whether a transaction that failed is worth another try.
type again uint8

const (
	againNever again = iota
	againOnce        // its connection was dead before it was committed
	againSoon        // the database took it back
)

func (db *DB) again(err error) again {
	switch {
	case err == nil:
		return againNever
	case db.dialect.undone(err):
		return againSoon
	case db.dialect.lost(err):
		return againOnce
	}
	return againNever
}

// try runs fn in a transaction once.
func (db *DB) try(ctx context.Context, c *conns, fn func(tx *Tx) error) (again, error) {
	sqlTx, err := c.writer.BeginTx(ctx, nil)
	if err != nil {
		return db.again(err), fmt.Errorf("beginning a transaction: %w", db.classify(err))
	}
	defer func() { _ = sqlTx.Rollback() }() // does nothing after a commit

	tx := &Tx{db: db, tx: sqlTx, now: db.now().UTC().Truncate(time.Microsecond)}
	err = fn(tx)
	if err == nil {
		err = tx.failed
	}
	if err == nil && len(tx.changes) > 0 {
		if err = db.dialect.announce(ctx, sqlTx, tx.changes); err != nil {
			err = tx.fail(err)
		}
	}
	if err != nil {
		return db.again(tx.failed), overtaken(ctx, err)
	}
	again, err := db.commit(ctx, tx)
	if err == nil {
		db.audits.announce(tx.audited)
	}
	return again, err
}

// commit commits and announces. Between the two no other commit may come that
// has something to announce, or listeners would see changes out of order.
func (db *DB) commit(ctx context.Context, tx *Tx) (again, error) {
	if len(tx.changes) > 0 {
		db.commitMu.Lock()
		defer db.commitMu.Unlock()
	}
	err := tx.tx.Commit()
	switch {
	case err == nil:
		db.listeners.announce(tx.changes)
		db.commits.announce(tx.changes)
		return againNever, nil
	case db.dialect.undone(err):
		return againSoon, fmt.Errorf("committing: %w", db.classify(err))
	case db.dialect.lost(err) && len(tx.changes) > 0:
		db.gap() // it may be committed, and nobody says so
	}
	return againNever, fmt.Errorf("committing: %w", db.classify(overtaken(ctx, err)))
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
