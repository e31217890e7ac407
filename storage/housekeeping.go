package storage

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A lease is a row that says who does a piece of work for all nodes, and until
// when. It ends by itself, so that a node that is gone does not keep the others
// from it. Time is the database's, where it has a clock.

// TryLease takes the lease for as long as ttl from now if it is free, has ended, or
// is owner's already, and reports whether owner has it now.
func (db *DB) TryLease(ctx context.Context, name, owner string, ttl time.Duration) (bool, error) {
	if name == "" || owner == "" {
		return false, errors.New("the name of a lease or of its owner is empty")
	}
	var has bool
	err := db.Update(ctx, func(tx *Tx) error {
		now := db.dialect.clock(db.now())
		n, err := affected(tx.tx.ExecContext(ctx,
			`INSERT INTO leases (name, owner, expires_at) VALUES ($1, $2, `+now+` + $3)
			 ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at
			 WHERE leases.owner = excluded.owner OR leases.expires_at <= `+now,
			name, owner, ttl.Microseconds()))
		if err != nil {
			return fmt.Errorf("taking the lease %s: %w", name, tx.fail(err))
		}
		has = n == 1
		return nil
	})
	return has && err == nil, err
}

// ReleaseLease gives owner's lease back. One that somebody else has is left alone.
func (db *DB) ReleaseLease(ctx context.Context, name, owner string) error {
	return db.Update(ctx, func(tx *Tx) error {
		if _, err := tx.tx.ExecContext(ctx, `DELETE FROM leases WHERE name = $1 AND owner = $2`, name, owner); err != nil {
			return fmt.Errorf("releasing the lease %s: %w", name, tx.fail(err))
		}
		return nil
	})
}

// DeleteDeadTokens deletes up to limit tokens that expired or were revoked longer
// than age ago, and returns how many. It announces nothing: whoever remembers one
// of them refuses it already.
func (db *DB) DeleteDeadTokens(ctx context.Context, age time.Duration, limit int) (int64, error) {
	// The condition stands twice: between choosing a row and deleting it, it may have
	// been given a new life.
	return db.deleteOld(ctx, "tokens", `(expires_at < %[1]s OR (is_active = FALSE AND revoked_at < %[1]s))`, age, limit)
}

// DeleteOldAudit deletes up to limit audit entries older than age, and returns how many.
func (db *DB) DeleteOldAudit(ctx context.Context, age time.Duration, limit int) (int64, error) {
	return db.deleteOld(ctx, "audit_events", `created_at < %[1]s`, age, limit)
}

// deleteOld deletes rows that meet a condition on the moment age ago. That moment is
// the database's, so that a node whose clock is wrong deletes nothing early.
func (db *DB) deleteOld(ctx context.Context, table, condition string, age time.Duration, limit int) (deleted int64, err error) {
	if age <= 0 || limit <= 0 {
		return 0, fmt.Errorf("deleting old rows of %s: age and limit must be positive", table)
	}
	err = db.Update(ctx, func(tx *Tx) error {
		cutoff := "(" + db.dialect.clock(db.now()) + " - $1)"
		old := fmt.Sprintf(condition, cutoff)
		var err error
		deleted, err = affected(tx.tx.ExecContext(ctx,
			`DELETE FROM `+table+` WHERE id IN (SELECT id FROM `+table+` WHERE `+old+` LIMIT $2) AND `+old,
			age.Microseconds(), limit))
		if err != nil {
			return fmt.Errorf("deleting old rows of %s: %w", table, tx.fail(err))
		}
		return nil
	})
	return deleted, err
}
