package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/gofrs/uuid/v5"
)

// Rows of the table meta: what a database knows of itself. They are not copied.
const (
	metaIdentity = "identity" // random, made with the table: tells this database from others
	metaEpoch    = "epoch"    // random, another one whenever the database was rewritten; none before the first time
	metaCopy     = "copy"     // a copy into this database is not finished: the identity of its source
	metaOrigin   = "origin"   // a finished copy that nobody has used yet: the identity of its source
)

// ErrUnfinished says that the database holds a part of another one's data.
var ErrUnfinished = errors.New("it holds an unfinished copy of another database: run `caddy llm-proxy copy` again to the end, restore a backup into it, or delete it")

// readMeta is a value of the table meta; "" when there is none.
func readMeta(ctx context.Context, q querier, name string) (value string, err error) {
	err = q.QueryRowContext(ctx, `SELECT value FROM meta WHERE name = $1`, name).Scan(&value)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("reading what the database knows of itself (%s): %w", name, err)
	}
	return value, nil
}

// refuseUnfinished keeps us from serving half of the tokens.
func refuseUnfinished(ctx context.Context, q querier) error {
	source, err := readMeta(ctx, q, metaCopy)
	if err == nil && source != "" {
		err = ErrUnfinished
	}
	return err
}

// setMeta writes a value of the table meta.
func (tx *Tx) setMeta(ctx context.Context, name, value string) error {
	_, err := tx.tx.ExecContext(ctx, `INSERT INTO meta (name, value) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
	if err != nil {
		return fmt.Errorf("noting what became of the database (%s): %w", name, tx.fail(err))
	}
	return nil
}

func (tx *Tx) dropMeta(ctx context.Context, name string) error {
	if _, err := tx.tx.ExecContext(ctx, `DELETE FROM meta WHERE name = $1`, name); err != nil {
		return fmt.Errorf("noting what became of the database (%s): %w", name, tx.fail(err))
	}
	return nil
}

// rewritten tells whoever has the database open that anything in it may have
// changed, the pepper too, if and when the transaction commits.
func (tx *Tx) rewritten(ctx context.Context) error {
	epoch, err := uuid.NewV4()
	if err != nil {
		return fmt.Errorf("making an epoch: %w", err)
	}
	if err := tx.setMeta(ctx, metaEpoch, epoch.String()); err != nil {
		return err
	}
	if err := tx.db.dialect.announceRewrite(ctx, tx.tx); err != nil {
		return tx.fail(err)
	}
	return nil
}

// claim notes that a copy is in use: what is written from now on is in no other
// database, so that copying into it again would lose that.
func claim(ctx context.Context, pool *sql.DB) error {
	origin, err := readMeta(ctx, pool, metaOrigin)
	if err != nil || origin == "" {
		return err
	}
	if _, err := pool.ExecContext(ctx, `DELETE FROM meta WHERE name = $1`, metaOrigin); err != nil {
		return fmt.Errorf("noting that the database is in use: %w", err)
	}
	return nil
}
