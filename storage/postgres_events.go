package storage

import (
	"context"
	"database/sql"
	"strconv"
)

// Who appends events holds a shared advisory lock, until its transaction ends, whose
// key is the last number that was given away before: all its own are higher. So
// the lowest key that anybody holds is a number below which nothing appears any
// more, if none is held the last number given away. Locks end after what was
// committed is visible.
//
// Unlike the lowest open transaction of the server (pg_snapshot_xmin), it is not
// held back by dumps, other databases or transactions that append nothing; unlike
// an exclusive lock, nodes do not wait for each other, and a frozen one delays
// readers only, until the server ends its transaction.
//
// The upper 16 bits of a key are the schema's, so that several of ours in one
// database do not hold each other up.
const (
	eventLockSpace = `(16384 | (hashtext(current_schema()) & 16383))::bigint`
	lastEvent      = `(SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM events_seq_seq)`
)

func (p *postgresDB) joinEvents(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock_shared((`+eventLockSpace+` << 48) | `+lastEvent+`)`)
	return err
}

// eventHorizon asks for the last number first: who gets a higher one between the
// two queries, and is not seen in the second, does not matter then.
func (p *postgresDB) eventHorizon(ctx context.Context, q querier) (int64, error) {
	var last int64
	if err := q.QueryRowContext(ctx, `SELECT `+lastEvent).Scan(&last); err != nil {
		return 0, err
	}
	var lowest sql.NullInt64
	err := q.QueryRowContext(ctx, `SELECT MIN(((classid::bigint & 65535) << 32) | objid::bigint) FROM pg_locks
		WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >> 16 = `+eventLockSpace+`
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&lowest)
	if err != nil {
		return 0, err
	}
	if lowest.Valid {
		return min(last, lowest.Int64), nil
	}
	return last, nil
}

func (p *postgresDB) numberAfter(ctx context.Context, tx *sql.Tx, table, column string, last int64) error {
	if last < 1 {
		return nil
	}
	sequence := table + "_" + column + "_seq"
	_, err := tx.ExecContext(ctx, `SELECT setval('`+sequence+`', GREATEST($1::bigint, (SELECT last_value FROM `+sequence+`)))`, last)
	return err
}

// enterTerms sends all rows in two parameters.
func (p *postgresDB) enterTerms(ctx context.Context, tx *sql.Tx, terms, ids []string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO event_terms (term, id) SELECT * FROM unnest($1::text[], $2::uuid[]) ON CONFLICT (term, id) DO NOTHING`, terms, ids)
	return err
}

func (p *postgresDB) eventParam(n int) string { return "$" + strconv.Itoa(n) }
