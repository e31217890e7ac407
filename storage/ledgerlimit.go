package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
)

func isNoRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }

// setLimits has limits hold in the ledger from the moment of the transaction that
// sets them: a node that does not know yet leases no more than they allow. The rows of
// the current and of the next period are made if they are missing, or such a node
// would make them with the limit that it knows.
func (tx *Tx) setLimits(ctx context.Context, scope ledger.Scope, id uuid.UUID, version int64, l *project.Limits) error {
	limits := ledger.Limits(nil, scope, id, version, l)
	slices.Reverse(limits) // rows are locked in the order of their keys: nano_usd, then requests
	if len(limits) == 0 {
		return nil
	}
	var now int64
	if err := tx.tx.QueryRowContext(ctx, `SELECT `+tx.db.ledgerClock()).Scan(&now); err != nil {
		return fmt.Errorf("the limits of %s %s: %w", scope, id, tx.fail(err))
	}
	at := time.UnixMicro(now)
	for i := range limits {
		l := &limits[i]
		// If the period changes, nodes that do not know yet go on with the old one.
		day, _ := ledger.Span(project.Day, at)
		week, _ := ledger.Span(project.Week, at)
		month, _ := ledger.Span(project.Month, at)
		_, err := tx.tx.ExecContext(ctx, `UPDATE ledger SET limit_amount = $1, version = $2, updated_at = $3, alerted = CASE WHEN limit_amount < $1 THEN 0 ELSE alerted END
			WHERE scope = $4 AND scope_id = $5 AND unit = $6
			AND period_start >= CASE period WHEN 'day' THEN $7 WHEN 'week' THEN $8 WHEN 'month' THEN $9 ELSE CAST(0 AS BIGINT) END`,
			l.Amount, version, now, scope.String(), id, l.Unit.String(), day.UnixMicro(), week.UnixMicro(), month.UnixMicro())
		if err != nil {
			return fmt.Errorf("the limits of %s %s: %w", scope, id, tx.fail(err))
		}
		start, end := ledger.Span(l.Period, at)
		q := newLedgerQuery(tx.db)
		q.text(`INSERT INTO ledger (` + ledgerKeyList + `, limit_amount, version, updated_at) VALUES `)
		key := ledger.Key{Account: l.Account, Start: start.UnixMicro()}
		q.row(0, keyValues(&key), l.Amount, version, now)
		if !end.IsZero() {
			key.Start = end.UnixMicro()
			q.row(1, keyValues(&key), l.Amount, version, now)
		}
		q.text(` ON CONFLICT (` + ledgerKeyList + `) DO NOTHING`)
		if _, err := tx.tx.ExecContext(ctx, q.String(), q.args...); err != nil {
			return fmt.Errorf("the limits of %s %s: %w", scope, id, tx.fail(err))
		}
	}
	return nil
}
