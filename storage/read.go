package storage

import (
	"context"
	"database/sql"
)

// rereader asks once more when a connection turns out to be dead: the server was
// restarted, say, since it was last used. Reading twice does no harm.
type rereader struct {
	pool querier
	lost func(error) bool
}

// again reports whether the query that failed with err is worth another try.
func (r rereader) again(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() == nil && r.lost(err)
}

// QueryContext is that of [sql.DB].
func (r rereader) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	rows, err := r.pool.QueryContext(ctx, query, args...)
	if r.again(ctx, err) {
		return r.pool.QueryContext(ctx, query, args...)
	}
	return rows, err
}

// QueryRowContext is that of [sql.DB].
func (r rereader) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	row := r.pool.QueryRowContext(ctx, query, args...)
	if r.again(ctx, row.Err()) {
		return r.pool.QueryRowContext(ctx, query, args...)
	}
	return row
}

// query runs a prepared query.
func (r rereader) query(ctx context.Context, stmt *sql.Stmt, args ...any) (*sql.Rows, error) {
	rows, err := stmt.QueryContext(ctx, args...)
	if r.again(ctx, err) {
		return stmt.QueryContext(ctx, args...)
	}
	return rows, err
}
