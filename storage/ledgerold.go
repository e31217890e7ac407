package storage

import (
	"context"
	"fmt"
	"time"
)

// DeleteOldLedger deletes up to limit rows of the ledger that nobody will look at any
// more, and returns how many: of periods that ended longer than age ago, and of tokens
// and projects that are gone. Rows with leases stay until those are settled.
func (db *DB) DeleteOldLedger(ctx context.Context, age time.Duration, limit int) (deleted int64, err error) {
	if age <= 0 || limit <= 0 {
		return 0, fmt.Errorf("deleting old rows of the ledger: age and limit must be positive")
	}
	err = db.Update(ctx, func(tx *Tx) error {
		// A month is the longest period. The condition stands twice: between choosing a
		// row and deleting it, somebody may have leased from it.
		const old = `leased = 0 AND updated_at < %[1]s AND (
			period <> 'total' AND period_start < %[1]s - %[2]d
			OR scope = 'token' AND NOT EXISTS (SELECT 1 FROM tokens t WHERE t.id = scope_id)
			OR scope = 'project' AND NOT EXISTS (SELECT 1 FROM projects p WHERE p.id = scope_id))`
		condition := fmt.Sprintf(old, "("+db.ledgerClock()+" - $1)", (31 * 24 * time.Hour).Microseconds())
		deleted, err = affected(tx.tx.ExecContext(ctx, `DELETE FROM ledger WHERE (`+ledgerKeyList+`) IN
			(SELECT `+ledgerKeyList+` FROM ledger WHERE `+condition+` LIMIT $2) AND `+condition, age.Microseconds(), limit))
		if err != nil {
			return fmt.Errorf("deleting old rows of the ledger: %w", tx.fail(err))
		}
		return nil
	})
	return deleted, err
}
