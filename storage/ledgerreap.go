package storage

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
)

// endedLease is a lease whose holder has not renewed it.
type endedLease struct {
	ledger.Key
	holder uuid.UUID
	ledger.Lease
}

const ledgerLeaseColumns = `l.scope, l.scope_id, l.unit, l.period, l.period_start, l.holder, l.granted, l.used, l.returned, l.expires_at`

// ReapLedger implements [ledger.Store].
func (db *DB) ReapLedger(ctx context.Context, grace time.Duration, limit int) (forfeits []ledger.Forfeit, err error) {
	c, err := db.open()
	if err != nil {
		return nil, err
	}
	// Seldom is there any, and then the one writer of a file is not kept from its work.
	ended, err := db.endedLeases(ctx, c.read, grace, limit)
	if err != nil {
		return nil, fmt.Errorf("looking for leases that have ended: %w", db.classify(err))
	}
	var empty bool
	err = c.read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM ledger_leases WHERE `+emptyLease+` AND expires_at < `+db.ledgerClock()+` - $1)`,
		grace.Microseconds()).Scan(&empty)
	if err != nil {
		return nil, fmt.Errorf("looking for leases that have ended: %w", db.classify(err))
	}
	if len(ended) == 0 && !empty {
		return nil, nil
	}
	slices.SortFunc(ended, func(a, b endedLease) int { return a.Key.Compare(&b.Key) })
	err = db.Update(ctx, func(tx *Tx) error {
		if forfeits, err = tx.reapLedger(ctx, ended, grace); err != nil {
			return err
		}
		return tx.deleteEmptyLeases(ctx, grace)
	})
	if err != nil {
		return nil, fmt.Errorf("ending leases of the ledger: %w", err)
	}
	return forfeits, nil
}

// emptyLease is a lease that has nothing left.
const emptyLease = `granted = used + returned`

// deleteEmptyLeases locks no rows of the ledger, since none changes. A holder that
// writes its lease meanwhile writes all of it, or renews it first.
func (tx *Tx) deleteEmptyLeases(ctx context.Context, grace time.Duration) error {
	_, err := tx.tx.ExecContext(ctx, `DELETE FROM ledger_leases WHERE `+emptyLease+` AND expires_at < `+tx.db.ledgerClock()+` - $1`, grace.Microseconds())
	if err != nil {
		return fmt.Errorf("deleting leases that have nothing left: %w", tx.fail(err))
	}
	return nil
}

func (db *DB) endedLeases(ctx context.Context, from querier, grace time.Duration, limit int) ([]endedLease, error) {
	rows, err := from.QueryContext(ctx, `SELECT `+ledgerLeaseColumns+` FROM ledger_leases l
		WHERE NOT (`+emptyLease+`) AND l.expires_at < `+db.ledgerClock()+` - $1 ORDER BY l.expires_at LIMIT $2`, grace.Microseconds(), limit)
	if err != nil {
		return nil, err
	}
	var list []endedLease
	err = eachRow(rows, func() error {
		var l endedLease
		var scope, unit, period string
		err := rows.Scan(&scope, &l.ID, &unit, &period, &l.Start, &l.holder, &l.Granted, &l.Used, &l.Returned, &l.ExpiresAt)
		if err != nil {
			return err
		}
		l.Period = project.Period(period)
		if l.Scope, l.Unit, err = ledger.Parse(scope, unit); err == nil {
			list = append(list, l)
		}
		return err
	})
	return list, err
}

// reapLedger locks the rows of leases that had ended, and ends those that still have.
func (tx *Tx) reapLedger(ctx context.Context, ended []endedLease, grace time.Duration) ([]ledger.Forfeit, error) {
	var changes []ledgerChange
	for i := range ended {
		if i == 0 || ended[i].Key != ended[i-1].Key {
			changes = append(changes, ledgerChange{key: ended[i].Key})
		}
	}
	now, err := tx.lockLedger(ctx, changes, nil)
	if err != nil {
		return nil, err
	}
	for i := range changes {
		changes[i].after = changes[i].before
	}
	var forfeits []ledger.Forfeit
	for _, e := range ended {
		l := &ledger.Lease{Exists: true}
		err := tx.tx.QueryRowContext(ctx, `DELETE FROM ledger_leases
			WHERE scope = $1 AND scope_id = $2 AND unit = $3 AND period = $4 AND period_start = $5 AND holder = $6 AND expires_at < $7
			RETURNING granted, used, returned`, append(keyValues(&e.Key), e.holder, now-grace.Microseconds())...).Scan(&l.Granted, &l.Used, &l.Returned)
		switch {
		case isNoRows(err): // renewed, or somebody else was quicker
			continue
		case err != nil:
			return nil, fmt.Errorf("ending the lease of %s: %w", e.holder, tx.fail(err))
		}
		at, _ := slices.BinarySearchFunc(changes, e.Key, func(c ledgerChange, k ledger.Key) int { return c.key.Compare(&k) })
		c := &changes[at]
		if !c.exists { // nobody knows the account any more
			continue
		}
		if lost := l.Reap(&c.after, 0); lost > 0 {
			forfeits = append(forfeits, ledger.Forfeit{Key: e.Key, Holder: e.holder, Amount: lost})
		}
	}
	return forfeits, tx.writeLedger(ctx, changes, now)
}
