package storage

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
)

const (
	// transferRows and transferBytes bound what is written in one transaction, and
	// so what is held in memory.
	transferRows  = 500
	transferBytes = 4 << 20
	// tellEvery is how many rows are looked at between two words about progress.
	tellEvery = 1000
)

// CopyProgress is how far a copy has come.
type CopyProgress struct {
	Table   string
	Seen    int64 // rows of the source, of all tables
	Rows    int64 // that there are
	Written int64 // rows that differed or were missing
}

// CopiedTable is what became of one table.
type CopiedTable struct {
	Table    string
	Rows     int64  // of the source
	Checksum string // over all of them
	Written  int64  // rows that were missing or differed
	Deleted  int64  // rows that the source does not have
	Same     bool   // the target was read afterwards, and has the same rows
}

// CopyReport is what a copy, a backup or a restore did.
type CopyReport struct{ Tables []CopiedTable }

// Changed counts the rows that were written or deleted.
func (r *CopyReport) Changed() (n int64) {
	for _, t := range r.Tables {
		n += t.Written + t.Deleted
	}
	return n
}

// Differing are the tables that are not the same afterwards.
func (r *CopyReport) Differing() (names []string) {
	for _, t := range r.Tables {
		if !t.Same {
			names = append(names, t.Table)
		}
	}
	return names
}

// transfer makes the tables of one database equal to those of another. What is
// equal is not written, so that it may end at any point and be begun again.
type transfer struct {
	from     querier // at one moment of the source
	to       querier // what the target holds, apart from what is being written
	write    func(ctx context.Context, fn func(tx *Tx) error) error
	progress func(CopyProgress)
	// raise has versions of rows grow that the target has in another form: whoever
	// remembers a row that is newer than the source's must not go on believing it.
	raise bool

	at     CopyProgress
	report CopyReport
	plans  []tablePlan
}

func (t *transfer) run(ctx context.Context) error {
	if err := t.plan(ctx); err != nil {
		return err
	}
	for i := range t.plans {
		if p := &t.plans[i]; p.unique != "" {
			if err := t.freeNames(ctx, p); err != nil {
				return fmt.Errorf("preparing %s: %w", p.name, err)
			}
		}
	}
	for i := range t.plans {
		if err := t.upsert(ctx, i); err != nil {
			return fmt.Errorf("copying %s: %w", t.plans[i].name, err)
		}
	}
	for i := range slices.Backward(t.plans) { // those that others refer to last
		if !t.plans[i].extra {
			continue
		}
		if err := t.prune(ctx, i); err != nil {
			return fmt.Errorf("deleting from %s: %w", t.plans[i].name, err)
		}
	}
	return nil
}

// plan compares the columns and counts what there is to do.
func (t *transfer) plan(ctx context.Context) error {
	for _, table := range copiedTables {
		p := tablePlan{copiedTable: table, version: -1}
		var err error
		if p.columns, _, err = columnsOf(ctx, t.from, table.name); err != nil {
			return fmt.Errorf("reading the columns of %s: %w", table.name, err)
		}
		target, booleans, err := columnsOf(ctx, t.to, table.name)
		if err != nil {
			return fmt.Errorf("reading the target's columns of %s: %w", table.name, err)
		}
		if !slices.Equal(target, p.columns) {
			return fmt.Errorf("the columns of %s differ: the schema was changed by hand", table.name)
		}
		p.booleans = booleans
		if t.raise {
			p.version = slices.Index(p.columns, "version")
		}
		var rows int64
		if err := t.from.QueryRowContext(ctx, `SELECT COUNT(*) FROM `+table.name).Scan(&rows); err != nil {
			return fmt.Errorf("counting %s: %w", table.name, err)
		}
		t.at.Rows += rows
		t.plans = append(t.plans, p)
		t.report.Tables = append(t.report.Tables, CopiedTable{Table: table.name})
	}
	return nil
}

// freeNames gives names up in the target that are going to be others': a row is
// called by its key until it is written or deleted.
func (t *transfer) freeNames(ctx context.Context, p *tablePlan) error {
	columns := append(slices.Clone(p.key), p.unique)
	name := len(p.key)
	statement := fmt.Sprintf(`UPDATE %s SET %s = CAST(%s AS TEXT)`, p.name, p.unique, p.key[0])
	if p.drops {
		statement = `DELETE FROM ` + p.name
	}
	var keys batch
	free := func() error { return t.eachKey(ctx, p, keys.take(), statement, nil) }
	err := pairRows(ctx, t.from, t.to, p.copiedTable, columns, func(key rowKey, source, target []any) error {
		if target == nil || source != nil && source[name] == target[name] || !p.drops && target[name] == key[0] {
			return nil
		}
		if keys.add(key) {
			return free()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return free()
}

// upsert writes what is missing or differs.
func (t *transfer) upsert(ctx context.Context, i int) error {
	p, done := &t.plans[i], &t.report.Tables[i]
	p.sum, p.masksum = newChecksum(), newChecksum()
	t.at.Table = p.name
	var todo batch
	flush := func() error {
		rows := todo.take()
		if len(rows) == 0 {
			return nil
		}
		err := t.write(ctx, func(tx *Tx) error { return p.write(ctx, tx, rows) })
		if err != nil {
			return err
		}
		done.Written += int64(len(rows))
		t.at.Written += int64(len(rows))
		t.tell()
		return nil
	}
	err := pairRows(ctx, t.from, t.to, p.copiedTable, p.columns, func(key rowKey, source, target []any) error {
		if source == nil {
			p.extra = true
			return nil
		}
		if err := checkRow(p, key, source); err != nil {
			return err
		}
		p.sum.add(source)
		if p.version >= 0 {
			p.masksum.add(p.masked(source))
		}
		t.at.Seen++
		if t.at.Seen%tellEvery == 0 {
			t.tell()
		}
		row, differs := p.merged(source, target)
		if differs && todo.add(row) {
			return flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := flush(); err != nil {
		return err
	}
	done.Rows, done.Checksum = p.sum.rows, p.sum.String()
	t.tell()
	return nil
}

// prune deletes what the source does not have.
func (t *transfer) prune(ctx context.Context, i int) error {
	p, done := &t.plans[i], &t.report.Tables[i]
	var keys batch
	remove := func() error {
		return t.eachKey(ctx, p, keys.take(), `DELETE FROM `+p.name, &done.Deleted)
	}
	err := pairRows(ctx, t.from, t.to, p.copiedTable, p.key, func(key rowKey, source, _ []any) error {
		if source == nil && keys.add(key) {
			return remove()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return remove()
}

// eachKey runs a statement, less its condition, on the rows with some keys.
func (t *transfer) eachKey(ctx context.Context, p *tablePlan, keys [][]any, statement string, count *int64) error {
	if len(keys) == 0 {
		return nil
	}
	rows := make([]rowKey, len(keys))
	for i, key := range keys {
		rows[i] = key
	}
	condition, args := p.where(rows)
	err := t.write(ctx, func(tx *Tx) error {
		if _, err := tx.tx.ExecContext(ctx, statement+` WHERE `+condition, args...); err != nil {
			return tx.fail(err)
		}
		return nil
	})
	if err == nil && count != nil {
		*count += int64(len(keys))
	}
	t.tell()
	return err
}

// renumber has the event log go on after what was copied, and after what its
// readers have read: a number that they are past would never be seen.
func (tx *Tx) renumber(ctx context.Context) error {
	for _, of := range []struct{ table, column, last string }{
		{"events", "seq", `SELECT MAX(n) FROM (SELECT MAX(seq) AS n FROM events UNION ALL SELECT MAX(position) FROM event_cursors) AS numbers`},
		{"event_dead", "id", `SELECT MAX(id) FROM event_dead`},
	} {
		var last sql.NullInt64
		err := tx.tx.QueryRowContext(ctx, of.last).Scan(&last)
		if err == nil {
			err = tx.db.dialect.numberAfter(ctx, tx.tx, of.table, of.column, last.Int64)
		}
		if err != nil {
			return fmt.Errorf("numbering %s: %w", of.table, tx.fail(err))
		}
	}
	return nil
}

// verify reads the target once more and compares it with what the source held.
func (t *transfer) verify(ctx context.Context, q querier) error {
	for i := range t.plans {
		p, done := &t.plans[i], &t.report.Tables[i]
		sum, err := sumTable(ctx, q, p.copiedTable, p.columns, p.version)
		if err != nil {
			return fmt.Errorf("checking %s: %w", p.name, err)
		}
		want := p.sum
		if p.version >= 0 {
			want = p.masksum
		}
		done.Same = sum.rows == want.rows && sum.String() == want.String()
	}
	return nil
}

func (t *transfer) tell() {
	if t.progress != nil {
		t.progress(t.at)
	}
}
