package storage

import (
	"context"
	"fmt"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

const maxDeadReason = 2048

func (tx *Tx) addDead(ctx context.Context, sink string, d delivery.DeadLetter) error {
	_, err := tx.tx.ExecContext(ctx, `INSERT INTO event_dead (sink, seq, payload, reason, attempts, created_at) VALUES ($1, $2, $3, $4, $5, $6)`,
		sink, d.Seq, string(d.Event.AppendJSON(nil)), clip(cleanText(d.Reason), maxDeadReason), d.Attempts, tx.deadTime(d))
	if err != nil {
		return fmt.Errorf("keeping a dead letter of %s: %w", sink, tx.fail(err))
	}
	return nil
}

func (tx *Tx) deadTime(d delivery.DeadLetter) int64 {
	if d.Time.IsZero() {
		return tx.now.UnixMicro()
	}
	return d.Time.UnixMicro()
}

// TakeRequeued returns up to limit dead letters of a sink that are to be delivered
// again, oldest first.
func (db *DB) TakeRequeued(ctx context.Context, sink string, limit int) ([]delivery.DeadLetter, error) {
	w := &where{conditions: []string{"requeued = TRUE"}}
	w.equals("sink", sink)
	return db.deadLetters(ctx, w, limit)
}

// DeadLetters returns up to limit dead letters with higher ids than after, oldest
// first: of a sink, or of all when it is "".
func (db *DB) DeadLetters(ctx context.Context, sink string, after int64, limit int) ([]delivery.DeadLetter, error) {
	w := &where{}
	w.add("id > ?", after)
	if sink != "" {
		w.equals("sink", sink)
	}
	return db.deadLetters(ctx, w, limit)
}

func (db *DB) deadLetters(ctx context.Context, w *where, limit int) ([]delivery.DeadLetter, error) {
	c, err := db.open()
	if err != nil {
		return nil, err
	}
	rows, err := c.read.QueryContext(ctx, `SELECT id, sink, seq, payload, reason, attempts, created_at FROM event_dead`+w.String()+` ORDER BY id LIMIT `+w.param(limit), w.args...)
	if err != nil {
		return nil, fmt.Errorf("listing dead letters: %w", db.classify(err))
	}
	list := []delivery.DeadLetter{}
	err = eachRow(rows, func() error {
		var d delivery.DeadLetter
		var payload []byte
		if err := rows.Scan(&d.ID, &d.Sink, &d.Seq, &payload, &d.Reason, &d.Attempts, micros{&d.Time}); err != nil {
			return err
		}
		e, err := event.Decode(payload)
		if err != nil {
			db.logger.Error("database row left out of a list", "error", &damagedRowError{"event_dead", fmt.Sprint(d.ID), err})
			return nil
		}
		d.Event = *e
		list = append(list, d)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing dead letters: %w", db.classify(err))
	}
	return list, nil
}

// SettleRequeued deletes letters that were delivered, and keeps those that failed
// again, with their new reasons, until somebody requeues them again.
func (db *DB) SettleRequeued(ctx context.Context, sink string, delivered []int64, failed []delivery.DeadLetter) error {
	return db.Update(ctx, func(tx *Tx) error {
		for _, id := range delivered {
			if _, err := tx.tx.ExecContext(ctx, `DELETE FROM event_dead WHERE id = $1 AND sink = $2`, id, sink); err != nil {
				return fmt.Errorf("deleting a dead letter of %s: %w", sink, tx.fail(err))
			}
		}
		for _, d := range failed {
			_, err := tx.tx.ExecContext(ctx, `UPDATE event_dead SET requeued = FALSE, reason = $1, attempts = $2, created_at = $3 WHERE id = $4 AND sink = $5`,
				clip(cleanText(d.Reason), maxDeadReason), d.Attempts, tx.deadTime(d), d.ID, sink)
			if err != nil {
				return fmt.Errorf("keeping a dead letter of %s: %w", sink, tx.fail(err))
			}
		}
		return nil
	})
}

// RequeueDead has dead letters of a sink delivered again, all of them when no ids are
// given, and returns how many.
func (db *DB) RequeueDead(ctx context.Context, sink string, ids ...int64) (n int64, err error) {
	err = db.Update(ctx, func(tx *Tx) error {
		n, err = tx.RequeueDead(ctx, sink, ids...)
		return err
	})
	return n, err
}

// RequeueDead is the DB's, as part of a transaction.
func (tx *Tx) RequeueDead(ctx context.Context, sink string, ids ...int64) (int64, error) {
	return tx.eachDead(ctx, "requeueing", `UPDATE event_dead SET requeued = TRUE WHERE sink = $1`, sink, ids)
}

// DeleteDead deletes dead letters of a sink, all of them when no ids are given, and
// returns how many.
func (db *DB) DeleteDead(ctx context.Context, sink string, ids ...int64) (n int64, err error) {
	err = db.Update(ctx, func(tx *Tx) error {
		n, err = tx.eachDead(ctx, "deleting", `DELETE FROM event_dead WHERE sink = $1`, sink, ids)
		return err
	})
	return n, err
}

func (tx *Tx) eachDead(ctx context.Context, what, query, sink string, ids []int64) (n int64, err error) {
	run := func(query string, args ...any) error {
		some, err := affected(tx.tx.ExecContext(ctx, query, args...))
		n += some
		if err != nil {
			return fmt.Errorf("%s dead letters of %s: %w", what, sink, tx.fail(err))
		}
		return nil
	}
	if len(ids) == 0 {
		err = run(query, sink)
		return n, err
	}
	for _, id := range ids {
		if err := run(query+` AND id = $2`, sink, id); err != nil {
			return 0, err
		}
	}
	return n, nil
}
