package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
)

// Rows of ledger are locked before rows of ledger_leases that belong to them are
// looked at, always in the order of their keys. So nobody changes a lease under us,
// nodes do not wait for each other, and what an earlier transaction of ours did, of
// which we have not heard, is over when we look.

// processStart has the monotonic clock, which nobody sets.
var processStart = time.Now()

// ledgerClock is the database's time as SQL. That of SQLite is this process's, which
// goes on evenly whatever becomes of the machine's time.
func (db *DB) ledgerClock() string {
	return db.dialect.clock(processStart.Add(time.Since(processStart)))
}

// errLedgerCondition cannot happen, as the rows are locked.
var errLedgerCondition = errors.New("a row of the ledger changed while it was locked, or a lease would exceed its limit")

// ledgerChange is a row while an operation is carried out.
type ledgerChange struct {
	key    ledger.Key
	exists bool
	before ledger.Row
	after  ledger.Row
	lease  ledger.Lease
	others int // processes with leases that have not ended
	grant  int64
}

// ApplyLedger implements [ledger.Store].
func (db *DB) ApplyLedger(ctx context.Context, holder uuid.UUID, ttl time.Duration, ops []ledger.Op, results []ledger.Result) (now int64, err error) {
	err = db.Update(ctx, func(tx *Tx) error {
		changes := make([]ledgerChange, len(ops))
		for i := range ops {
			changes[i].key = ops[i].Key
		}
		if now, err = tx.lockLedger(ctx, changes, ops); err != nil {
			return err
		}
		if err := tx.readLeases(ctx, holder, changes, now); err != nil {
			return err
		}
		for i := range changes {
			c := &changes[i]
			c.after = c.before
			results[i] = ops[i].Decide(&c.after, &c.lease, c.others, now, ttl)
			c.grant = results[i].Granted
		}
		if err := tx.writeLeases(ctx, holder, changes, now); err != nil {
			return err
		}
		return tx.writeLedger(ctx, changes, now)
	})
	if err != nil {
		return 0, fmt.Errorf("leasing from the ledger: %w", err)
	}
	return now, nil
}

// lockLedger reads and locks rows, and makes those that are missing.
func (tx *Tx) lockLedger(ctx context.Context, changes []ledgerChange, ops []ledger.Op) (now int64, err error) {
	if now, err = tx.readLedger(ctx, changes); err != nil || ops == nil {
		return now, err
	}
	var missing []int
	for i := range changes {
		if !changes[i].exists {
			missing = append(missing, i)
		}
	}
	if len(missing) == 0 {
		return now, nil
	}
	err = tx.db.eachChunk(ctx, tx.tx, len(missing), func(run *ledgerRun, from, to int) error {
		q := newLedgerQuery(tx.db)
		q.text(`INSERT INTO ledger (` + ledgerKeyList + `, limit_amount, version, updated_at) VALUES `)
		for n, i := range missing[from:to] {
			q.row(n, keyValues(&changes[i].key), ops[i].Limit, ops[i].Version, now)
		}
		q.text(` ON CONFLICT (` + ledgerKeyList + `) DO NOTHING`)
		_, err := run.exec(ctx, q)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("making rows of the ledger: %w", tx.fail(err))
	}
	return tx.readLedger(ctx, changes)
}

// readLedger reads and locks the rows that exist.
func (tx *Tx) readLedger(ctx context.Context, changes []ledgerChange) (now int64, err error) {
	now, err = tx.db.selectLedger(ctx, tx.tx, tx.db.dialect.lockRow(), len(changes), func(i int) *ledger.Key { return &changes[i].key },
		func(i int, row ledger.Row) { changes[i].exists, changes[i].before = true, row })
	if err != nil {
		return 0, fmt.Errorf("locking rows of the ledger: %w", tx.fail(err))
	}
	return now, nil
}

// selectLedger reads rows, and the database's time even if there are none.
func (db *DB) selectLedger(ctx context.Context, from querier, lock string, n int, key func(i int) *ledger.Key, found func(i int, row ledger.Row)) (now int64, err error) {
	clock := db.ledgerClock()
	err = db.eachChunk(ctx, from, n, func(run *ledgerRun, start, end int) error {
		q := newLedgerQuery(db)
		q.keys(end-start, func(i int) *ledger.Key { return key(start + i) })
		q.text(` SELECT k.n, l.limit_amount, l.version, l.spent, l.forfeited, l.leased, l.wanted_at, l.alerted, ` + clock +
			` FROM k JOIN ledger l ON ` + ledgerJoin("l", "k") + ` ORDER BY l.scope, l.scope_id, l.unit, l.period, l.period_start` + lock)
		rows, err := run.query(ctx, q)
		if err != nil {
			return err
		}
		return eachRow(rows, func() error {
			var i int
			var r ledger.Row
			err := rows.Scan(&i, &r.Limit, &r.Version, &r.Spent, &r.Forfeited, &r.Leased, &r.WantedAt, &r.Alerted, &now)
			if err == nil {
				found(start+i, r)
			}
			return err
		})
	})
	if err == nil && now == 0 {
		err = from.QueryRowContext(ctx, `SELECT `+clock).Scan(&now)
	}
	return now, err
}

// readLeases reads the leases of locked rows.
func (tx *Tx) readLeases(ctx context.Context, holder uuid.UUID, changes []ledgerChange, now int64) error {
	err := tx.db.eachChunk(ctx, tx.tx, len(changes), func(run *ledgerRun, from, to int) error {
		q := newLedgerQuery(tx.db)
		q.keys(to-from, func(i int) *ledger.Key { return &changes[from+i].key })
		q.text(` SELECT k.n, l.holder, l.granted, l.used, l.returned, l.expires_at FROM k JOIN ledger_leases l ON ` + ledgerJoin("l", "k"))
		rows, err := run.query(ctx, q)
		if err != nil {
			return err
		}
		return eachRow(rows, func() error {
			var i int
			var id uuid.UUID
			l := ledger.Lease{Exists: true}
			if err := rows.Scan(&i, &id, &l.Granted, &l.Used, &l.Returned, &l.ExpiresAt); err != nil {
				return err
			}
			switch c := &changes[from+i]; {
			case id == holder:
				c.lease = l
			case l.Part() > 0 && l.ExpiresAt > now:
				c.others++
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("reading leases: %w", tx.fail(err))
	}
	return nil
}

// writeLeases writes what operations have made of leases.
func (tx *Tx) writeLeases(ctx context.Context, holder uuid.UUID, changes []ledgerChange, now int64) error {
	var some []*ledgerChange
	for i := range changes {
		if changes[i].lease.Exists {
			some = append(some, &changes[i])
		}
	}
	err := tx.db.eachChunk(ctx, tx.tx, len(some), func(run *ledgerRun, from, to int) error {
		q := newLedgerQuery(tx.db)
		q.text(`INSERT INTO ledger_leases (` + ledgerKeyList + `, holder, granted, used, returned, expires_at, updated_at) VALUES `)
		for i, c := range some[from:to] {
			q.row(i, keyValues(&c.key), holder.String(), c.lease.Granted, c.lease.Used, c.lease.Returned, c.lease.ExpiresAt, now)
		}
		q.text(` ON CONFLICT (` + ledgerKeyList + `, holder) DO UPDATE SET granted = excluded.granted, used = excluded.used,
			returned = excluded.returned, expires_at = excluded.expires_at, updated_at = excluded.updated_at`)
		_, err := run.exec(ctx, q)
		return err
	})
	if err != nil {
		return fmt.Errorf("writing leases: %w", tx.fail(err))
	}
	return nil
}

// writeLedger writes what has changed of rows. That nothing is granted beyond the
// limit is the database's own condition.
func (tx *Tx) writeLedger(ctx context.Context, changes []ledgerChange, now int64) error {
	var some []*ledgerChange
	for i := range changes {
		if changes[i].before != changes[i].after {
			some = append(some, &changes[i])
		}
	}
	err := tx.db.eachChunk(ctx, tx.tx, len(some), func(run *ledgerRun, from, to int) error {
		q := newLedgerQuery(tx.db)
		q.keysWith(to-from, func(i int) *ledger.Key { return &some[from+i].key }, func(i int) []int64 {
			a, b := &some[from+i].after, &some[from+i].before
			return []int64{a.Limit, a.Version, a.Spent - b.Spent, a.Forfeited - b.Forfeited, a.Leased - b.Leased, a.WantedAt, a.Alerted, some[from+i].grant}
		}, "limit_amount", "version", "spent", "forfeited", "leased", "wanted_at", "alerted", "granted")
		q.text(` UPDATE ledger SET limit_amount = k.limit_amount, version = k.version, spent = ledger.spent + k.spent,
			forfeited = ledger.forfeited + k.forfeited, leased = ledger.leased + k.leased, wanted_at = k.wanted_at, alerted = k.alerted, updated_at = `)
		q.value(now)
		q.text(` FROM k WHERE ` + ledgerJoin("ledger", "k") + ` AND (k.granted = 0 OR
			ledger.spent + k.spent + ledger.forfeited + k.forfeited + ledger.leased + k.leased <= k.limit_amount)`)
		n, err := affected(run.exec(ctx, q))
		if err == nil && n != int64(to-from) {
			err = errLedgerCondition
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("writing to the ledger: %w", tx.fail(err))
	}
	return nil
}

// LedgerRows implements [ledger.Store].
func (db *DB) LedgerRows(ctx context.Context, keys []ledger.Key) (list []*ledger.Row, now int64, err error) {
	c, err := db.open()
	if err != nil {
		return nil, 0, err
	}
	list = make([]*ledger.Row, len(keys))
	now, err = db.selectLedger(ctx, c.read, "", len(keys), func(i int) *ledger.Key { return &keys[i] }, func(i int, row ledger.Row) { list[i] = &row })
	if err != nil {
		return nil, 0, fmt.Errorf("reading the ledger: %w", db.classify(err))
	}
	return list, now, nil
}
