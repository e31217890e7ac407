package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// A lock is a row with its owner and the end of its lease. Whoever holds one
// extends it; when the holder is gone, the lease ends and the lock is anybody's.
// Time is the database's, so that nodes need not agree on it. Owners are chosen by
// the caller, a new one for each acquisition.

// TryLock takes the lock for as long as ttl if it is free, its lease has ended,
// or it is owner's already, and reports whether owner has it now. A lease is never
// shortened.
func (s CertStore) TryLock(ctx context.Context, name, owner string, ttl time.Duration) (bool, error) {
	if err := checkLock(name, owner); err != nil {
		return false, fmt.Errorf("locking: %w", err)
	}
	var locked bool
	err := s.db.Update(ctx, func(tx *Tx) error {
		now := s.db.dialect.clock(s.db.now())
		n, err := affected(tx.tx.ExecContext(ctx,
			`INSERT INTO cert_locks (name, owner, expires_at) VALUES ($1, $2, `+now+` + $3)
			 ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, expires_at = CASE
				WHEN cert_locks.owner = excluded.owner AND cert_locks.expires_at > excluded.expires_at THEN cert_locks.expires_at
				ELSE excluded.expires_at END
			 WHERE cert_locks.owner = excluded.owner OR cert_locks.expires_at <= `+now,
			name, owner, ttl.Microseconds()))
		if err != nil {
			return fmt.Errorf("locking %s: %w", name, tx.fail(err))
		}
		locked = n == 1
		return nil
	})
	return locked && err == nil, err
}

// RenewLock makes owner's lease last for ttl from now, if it would end sooner.
// It reports whether the lock is still owner's; one that is not is left alone. A
// lease that has ended is renewed as long as nobody else has taken the lock.
func (s CertStore) RenewLock(ctx context.Context, name, owner string, ttl time.Duration) (bool, error) {
	if err := checkLock(name, owner); err != nil {
		return false, fmt.Errorf("renewing a lock: %w", err)
	}
	var held bool
	err := s.db.Update(ctx, func(tx *Tx) error {
		until := s.db.dialect.clock(s.db.now()) + ` + $3`
		n, err := affected(tx.tx.ExecContext(ctx,
			`UPDATE cert_locks SET expires_at = CASE WHEN expires_at > `+until+` THEN expires_at ELSE `+until+` END
			 WHERE name = $1 AND owner = $2`,
			name, owner, ttl.Microseconds()))
		if err != nil {
			return fmt.Errorf("renewing the lock %s: %w", name, tx.fail(err))
		}
		held = n == 1
		return nil
	})
	return held && err == nil, err
}

// Unlock gives owner's lock back, and reports whether it still was owner's. One
// that somebody else has taken meanwhile is left alone.
func (s CertStore) Unlock(ctx context.Context, name, owner string) (bool, error) {
	if err := checkLock(name, owner); err != nil {
		return false, fmt.Errorf("unlocking: %w", err)
	}
	var held bool
	err := s.db.Update(ctx, func(tx *Tx) error {
		n, err := affected(tx.tx.ExecContext(ctx, `DELETE FROM cert_locks WHERE name = $1 AND owner = $2`, name, owner))
		if err != nil {
			return fmt.Errorf("unlocking %s: %w", name, tx.fail(err))
		}
		held = n == 1
		return nil
	})
	return held && err == nil, err
}

func checkLock(name, owner string) error {
	if name == "" || owner == "" {
		return errors.New("the name of a lock or of its owner is empty")
	}
	if len(name) > MaxCertName {
		return fmt.Errorf("the name has %d bytes, more than %d", len(name), MaxCertName)
	}
	return errors.Join(checkText("the name", name), checkText("the owner's name", owner))
}

// affected is how many rows a statement changed.
func affected(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}
