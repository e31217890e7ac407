package storage

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// undeliveredAges is how many times longer events are kept that somebody has not
// read yet.
const undeliveredAges = 4

// DeleteOldEvents deletes up to limit events older than age, the first ones of the
// log first, and returns how many. Events that one of the log's readers has not read
// are kept for four times that age; when they go nevertheless, they are counted in
// the reader's cursor and logged. Sums stay.
//
// Ages are by the database's clock, so that a node whose clock is wrong deletes
// nothing early.
func (db *DB) DeleteOldEvents(ctx context.Context, age time.Duration, limit int) (deleted int64, err error) {
	if age <= 0 || limit <= 0 {
		return 0, errors.New("deleting old events: age and limit must be positive")
	}
	var lost map[string]int64
	err = db.Update(ctx, func(tx *Tx) error {
		deleted, lost, err = tx.deleteOldEvents(ctx, age, limit)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("deleting old events: %w", err)
	}
	for name, n := range lost {
		db.logger.Error("events were deleted that were waiting to be read for too long", "reader", name, "lost", n)
	}
	return deleted, nil
}

func (tx *Tx) deleteOldEvents(ctx context.Context, age time.Duration, limit int) (int64, map[string]int64, error) {
	// The head of the log alone: what is behind it is younger, or will be the head.
	now := tx.db.dialect.clock(tx.db.now())
	rows, err := tx.tx.QueryContext(ctx, `SELECT seq, created_at < `+now+` - $2 FROM (SELECT seq, created_at FROM events ORDER BY seq LIMIT $3) AS head
		WHERE created_at < `+now+` - $1 ORDER BY seq`, age.Microseconds(), undeliveredAges*age.Microseconds(), limit)
	if err != nil {
		return 0, nil, tx.fail(err)
	}
	type old struct {
		seq  int64
		very bool
	}
	var olds []old
	err = eachRow(rows, func() error {
		var o old
		err := rows.Scan(&o.seq, &o.very)
		olds = append(olds, o)
		return err
	})
	if err != nil {
		return 0, nil, tx.fail(err)
	}
	if len(olds) == 0 {
		return 0, nil, nil
	}
	positions := map[string]int64{}
	lowest := int64(-1)
	rows, err = tx.tx.QueryContext(ctx, `SELECT name, position FROM event_cursors ORDER BY name`+tx.db.dialect.lockRow())
	if err != nil {
		return 0, nil, tx.fail(err)
	}
	err = eachRow(rows, func() error {
		var name string
		var position int64
		err := rows.Scan(&name, &position)
		positions[name] = position
		if lowest < 0 || position < lowest {
			lowest = position
		}
		return err
	})
	if err != nil {
		return 0, nil, tx.fail(err)
	}
	// One range: the last number that may go, and all before it that are old.
	last, n := int64(-1), int64(0)
	lost := map[string]int64{}
	for _, o := range olds {
		if lowest >= 0 && o.seq > lowest && !o.very {
			break
		}
		last = o.seq
		n++
		for name, position := range positions {
			if o.seq > position {
				lost[name]++
			}
		}
	}
	if n == 0 {
		return 0, nil, nil
	}
	for name, count := range lost {
		if _, err := tx.tx.ExecContext(ctx, `UPDATE event_cursors SET lost = lost + $1 WHERE name = $2`, count, name); err != nil {
			return 0, nil, tx.fail(err)
		}
	}
	return n, lost, tx.deleteEvents(ctx, last, `created_at < `+now+` - $2`, age.Microseconds())
}

// deleteEvents deletes events up to a number that meet a condition on $2, and their
// terms.
func (tx *Tx) deleteEvents(ctx context.Context, last int64, condition string, arg any) error {
	from := ` FROM events WHERE seq <= $1 AND ` + condition
	for prefix, column := range map[string]string{termToken: "token_id", termProject: "project_id", termModel: "model", termStatus: "status"} {
		_, err := tx.tx.ExecContext(ctx, `DELETE FROM event_terms WHERE (term, id) IN (SELECT '`+prefix+`' || CAST(`+column+` AS TEXT), id`+from+`)`, last, arg)
		if err != nil {
			return fmt.Errorf("deleting events' terms: %w", tx.fail(err))
		}
	}
	if _, err := tx.tx.ExecContext(ctx, `DELETE`+from, last, arg); err != nil {
		return tx.fail(err)
	}
	return nil
}
