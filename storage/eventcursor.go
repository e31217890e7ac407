package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
)

// exactBacklog is up to which number events that are pending are counted one by one.
const exactBacklog = 10000

// EventCursor is how far somebody has read the event log.
type EventCursor struct {
	Name      string
	Position  int64
	Lost      int64 // events that were deleted before they were read
	UpdatedAt time.Time
}

// EventCursors lists who reads the event log.
func (db *DB) EventCursors(ctx context.Context) ([]EventCursor, error) {
	c, err := db.open()
	if err != nil {
		return nil, err
	}
	rows, err := c.read.QueryContext(ctx, `SELECT name, position, lost, updated_at FROM event_cursors ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("listing the event log's readers: %w", db.classify(err))
	}
	list := []EventCursor{}
	err = eachRow(rows, func() error {
		var e EventCursor
		err := rows.Scan(&e.Name, &e.Position, &e.Lost, micros{&e.UpdatedAt})
		list = append(list, e)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing the event log's readers: %w", db.classify(err))
	}
	return list, nil
}

// OpenCursor returns a reader's position. A reader without one gets it: before the
// first event, or after the last. From then on events wait for it to be deleted.
func (db *DB) OpenCursor(ctx context.Context, name string, fromBeginning bool) (position int64, err error) {
	err = db.Update(ctx, func(tx *Tx) error {
		err := tx.tx.QueryRowContext(ctx, `SELECT position FROM event_cursors WHERE name = $1`, name).Scan(&position)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, sql.ErrNoRows):
			return tx.fail(err)
		}
		position = 0
		if !fromBeginning {
			horizon, err := db.dialect.eventHorizon(ctx, tx.tx)
			if err != nil {
				return tx.fail(err)
			}
			if err := tx.tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(seq), 0) FROM events WHERE seq <= $1`, horizon).Scan(&position); err != nil {
				return tx.fail(err)
			}
		}
		// Another node may have come first.
		err = tx.tx.QueryRowContext(ctx, `INSERT INTO event_cursors (name, position, updated_at) VALUES ($1, $2, $3)
			ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING position`, name, position, tx.now.UnixMicro()).Scan(&position)
		if err != nil {
			return tx.fail(err)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("opening the cursor of %s: %w", name, err)
	}
	return position, nil
}

// AdvanceCursor moves a cursor and keeps the dead letters of the way, all or
// nothing. It reports false, and does nothing, if the cursor is not at from.
func (db *DB) AdvanceCursor(ctx context.Context, name string, from, to int64, dead []delivery.DeadLetter) (moved bool, err error) {
	err = db.Update(ctx, func(tx *Tx) error {
		if moved, err = tx.moveCursor(ctx, name, from, to); err != nil || !moved {
			return err
		}
		for _, letter := range dead {
			if err := tx.addDead(ctx, name, letter); err != nil {
				return err
			}
		}
		return nil
	})
	return moved && err == nil, err
}

func (tx *Tx) moveCursor(ctx context.Context, name string, from, to int64) (bool, error) {
	n, err := affected(tx.tx.ExecContext(ctx, `UPDATE event_cursors SET position = $1, updated_at = $2 WHERE name = $3 AND position = $4`,
		to, tx.now.UnixMicro(), name, from))
	if err != nil {
		return false, fmt.Errorf("moving the cursor of %s: %w", name, tx.fail(err))
	}
	return n == 1, nil
}

// RewindCursor has a reader begin again with the first event whose request began at
// a time or later, and returns the new position. A reader that is not so far yet
// stays where it is.
func (db *DB) RewindCursor(ctx context.Context, name string, from time.Time) (position int64, err error) {
	err = db.Update(ctx, func(tx *Tx) error {
		position, err = tx.RewindCursor(ctx, name, from)
		return err
	})
	return position, err
}

// RewindCursor is the DB's, as part of a transaction.
func (tx *Tx) RewindCursor(ctx context.Context, name string, from time.Time) (position int64, err error) {
	err = tx.tx.QueryRowContext(ctx, `SELECT COALESCE(MIN(seq) - 1, (SELECT COALESCE(MAX(seq), 0) FROM events)) FROM events
		WHERE id >= $1 AND created_at >= $2`, idBound(from.Add(-idSlack)), from.UnixMicro()).Scan(&position)
	if err == nil {
		// Never forward: that would be to skip events.
		err = tx.tx.QueryRowContext(ctx, `UPDATE event_cursors SET position = CASE WHEN position < $1 THEN position ELSE $1 END, updated_at = $2
			WHERE name = $3 RETURNING position`, position, tx.now.UnixMicro(), name).Scan(&position)
	}
	if err != nil {
		return 0, fmt.Errorf("moving the cursor of %s: %w", name, tx.fail(err))
	}
	return position, nil
}

// DeleteCursor forgets a reader and its dead letters: nothing waits for it any more.
func (db *DB) DeleteCursor(ctx context.Context, name string) error {
	return db.Update(ctx, func(tx *Tx) error {
		for _, query := range []string{`DELETE FROM event_cursors WHERE name = $1`, `DELETE FROM event_dead WHERE sink = $1`} {
			if _, err := tx.tx.ExecContext(ctx, query, name); err != nil {
				return fmt.Errorf("deleting the cursor of %s: %w", name, tx.fail(err))
			}
		}
		return nil
	})
}

// Backlog is what a reader has still before it. Above some thousands the number of
// pending events may be too high, by those that never were.
func (db *DB) Backlog(ctx context.Context, name string) (delivery.Backlog, error) {
	var b delivery.Backlog
	c, err := db.open()
	if err != nil {
		return b, err
	}
	var last int64
	var oldest *time.Time
	err = c.read.QueryRowContext(ctx, `SELECT c.position, (SELECT COALESCE(MAX(seq), 0) FROM events),
			(SELECT COUNT(*) FROM (SELECT 1 FROM events WHERE seq > c.position LIMIT $2) AS head),
			(SELECT created_at FROM events WHERE seq > c.position ORDER BY seq LIMIT 1),
			(SELECT COUNT(*) FROM event_dead WHERE sink = c.name)
		FROM event_cursors c WHERE c.name = $1`, name, exactBacklog).Scan(&b.Position, &last, &b.Pending, nullMicros{&oldest}, &b.Dead)
	if err != nil {
		return b, fmt.Errorf("the backlog of %s: %w", name, db.classify(err))
	}
	if b.Pending == exactBacklog {
		b.Pending = last - b.Position
	}
	if oldest != nil {
		b.Oldest = *oldest
	}
	return b, nil
}

// idSlack is how far the time in a request's id may be from the one that its event
// has: both are taken when it begins, one after the other.
const idSlack = 10 * time.Second

// idBound is the lowest UUIDv7 of a time.
func idBound(t time.Time) uuid.UUID {
	var id uuid.UUID
	ms := min(max(t.UnixMilli(), 0), 1<<48-1)
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	return id
}
