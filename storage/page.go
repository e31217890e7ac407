package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/gofrs/uuid/v5"
)

// Cursor is the place in a list after which a page begins: the creation time and
// id of the last row seen. The zero Cursor is the start.
type Cursor struct {
	CreatedAt time.Time
	ID        uuid.UUID
}

// IsZero reports whether the cursor is the start of the list.
func (c Cursor) IsZero() bool { return c.CreatedAt.IsZero() && c.ID.IsNil() }

// listing is a query for rows of type T, newest first.
type listing[T any] struct {
	query  string // SELECT … FROM …
	alias  string // of the table whose created_at and id give the order
	where  func() *where
	after  Cursor
	limit  int // zero: all
	scan   func(*sql.Rows) (T, error)
	cursor func(*T) Cursor
}

// run returns up to limit rows. Damaged rows are logged and left out, so that
// one of them does not hide the others; the gap is filled from further down,
// because a short page tells the caller that it is the last one.
func (l listing[T]) run(ctx context.Context, q querier, logger *slog.Logger) ([]T, error) {
	list := []T{}
	for after := l.after; ; {
		w := l.where()
		if !after.IsZero() {
			w.add("("+l.alias+".created_at, "+l.alias+".id) < (?, ?)", after.CreatedAt.UnixMicro(), after.ID)
		}
		query := l.query + w.String() + " ORDER BY " + l.alias + ".created_at DESC, " + l.alias + ".id DESC"
		want := 0
		if l.limit > 0 {
			want = l.limit - len(list)
			query += " LIMIT " + w.param(want)
		}
		seen, damaged := 0, 0
		rows, err := q.QueryContext(ctx, query, w.args...)
		if err != nil {
			return nil, err
		}
		err = eachRow(rows, func() error {
			row, err := l.scan(rows)
			if bad := (*damagedRowError)(nil); errors.As(err, &bad) {
				logger.Error("database row left out of a list", "error", bad)
				damaged++
			} else if err != nil {
				return err
			} else {
				list = append(list, row)
			}
			seen++
			after = l.cursor(&row)
			return nil
		})
		if err != nil {
			return nil, err
		}
		if damaged == 0 || want == 0 || seen < want {
			return list, nil
		}
	}
}

// count counts the rows that a list without limit and cursor would have.
func count(ctx context.Context, q querier, table string, w *where) (n int64, err error) {
	err = q.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+table+w.String(), w.args...).Scan(&n)
	return n, err
}

// eachRow calls scan for every row and closes rows.
func eachRow(rows *sql.Rows, scan func() error) error {
	defer rows.Close()
	for rows.Next() {
		if err := scan(); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading rows: %w", err)
	}
	return nil
}
