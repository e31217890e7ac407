package storage

import (
	"context"
	"database/sql"
	"fmt"
)

// ledgerChunks are the numbers of rows of one statement: few, so that each is
// prepared once.
var ledgerChunks = [...]int{100, 20, 5, 1}

// ledgerRun is a statement that is repeated for many rows. With one row at a time, as
// SQLite has it, preparing it takes longer than running it; PostgreSQL's driver keeps
// prepared what it has seen.
type ledgerRun struct {
	from     querier
	prepares bool
	text     string
	stmt     *sql.Stmt
}

// eachChunk calls f for one part of n rows after the other, each with one statement.
func (db *DB) eachChunk(ctx context.Context, from querier, n int, f func(run *ledgerRun, from, to int) error) error {
	atOnce := db.dialect.rowsAtOnce()
	tx, _ := from.(*sql.Tx)
	run := &ledgerRun{from: from, prepares: tx != nil && atOnce < ledgerChunks[len(ledgerChunks)-2] && n > 1}
	defer run.close()
	for at := 0; at < n; {
		size := 1
		for _, c := range ledgerChunks {
			if c <= n-at && c <= atOnce {
				size = c
				break
			}
		}
		if err := f(run, at, at+size); err != nil {
			return err
		}
		at += size
	}
	return nil
}

func (r *ledgerRun) prepare(ctx context.Context, text string) error {
	if r.stmt != nil && r.text == text {
		return nil
	}
	r.close()
	var err error
	if r.stmt, err = r.from.(*sql.Tx).PrepareContext(ctx, text); err != nil {
		return fmt.Errorf("preparing: %w", err)
	}
	r.text = text
	return nil
}

func (r *ledgerRun) close() {
	if r.stmt != nil {
		r.stmt.Close()
		r.stmt = nil
	}
}

func (r *ledgerRun) query(ctx context.Context, q *ledgerQuery) (*sql.Rows, error) {
	if !r.prepares {
		return r.from.QueryContext(ctx, q.String(), q.args...)
	}
	if err := r.prepare(ctx, q.String()); err != nil {
		return nil, err
	}
	return r.stmt.QueryContext(ctx, q.args...)
}

func (r *ledgerRun) exec(ctx context.Context, q *ledgerQuery) (sql.Result, error) {
	if !r.prepares {
		return r.from.(*sql.Tx).ExecContext(ctx, q.String(), q.args...)
	}
	if err := r.prepare(ctx, q.String()); err != nil {
		return nil, err
	}
	return r.stmt.ExecContext(ctx, q.args...)
}
