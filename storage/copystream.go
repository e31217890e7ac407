package storage

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
)

// rowStream reads a table, one row at a time, in the order of its key.
type rowStream struct {
	rows    *sql.Rows
	key     []int // places of the key among the columns
	row     []any
	current rowKey // of row
	ended   bool
}

// openStream begins to read a table; the first row is there when it returns.
func openStream(ctx context.Context, q querier, table copiedTable, columns []string) (*rowStream, error) {
	rows, err := q.QueryContext(ctx, fmt.Sprintf(`SELECT %s FROM %s ORDER BY %s`, strings.Join(columns, ", "), table.name, strings.Join(table.key, ", ")))
	if err != nil {
		return nil, err
	}
	s := &rowStream{rows: rows}
	for _, column := range table.key {
		s.key = append(s.key, slices.Index(columns, column))
	}
	if err := s.next(); err != nil {
		rows.Close()
		return nil, err
	}
	return s, nil
}

// next goes on to another row, which is the caller's to keep.
func (s *rowStream) next() error {
	if !s.rows.Next() {
		s.ended, s.row = true, nil
		return s.rows.Err()
	}
	columns, err := s.rows.Columns()
	if err != nil {
		return err
	}
	s.row = make([]any, len(columns))
	dest := make([]any, len(columns))
	for i := range dest {
		dest[i] = &s.row[i]
	}
	if err := s.rows.Scan(dest...); err != nil {
		return err
	}
	for i := range s.row {
		if s.row[i], err = canonical(s.row[i]); err != nil {
			return fmt.Errorf("column %s: %w", columns[i], err)
		}
	}
	s.current = make(rowKey, len(s.key))
	for i, at := range s.key {
		switch v := s.row[at].(type) {
		case int64, string:
			s.current[i] = v
		default:
			return fmt.Errorf("a key holds a %T", v)
		}
	}
	return nil
}

func (s *rowStream) close() { s.rows.Close() }

// sumTable takes the checksum of a whole table.
func sumTable(ctx context.Context, q querier, table copiedTable, columns []string, without int) (*checksum, error) {
	s, err := openStream(ctx, q, table, columns)
	if err != nil {
		return nil, err
	}
	defer s.close()
	sum := newChecksum()
	for !s.ended {
		if without >= 0 {
			s.row[without] = nil
		}
		sum.add(s.row)
		if err := s.next(); err != nil {
			return nil, err
		}
	}
	return sum, nil
}

// pairRows goes through a table of two databases at once, by key. A side that lacks
// the row gives nil.
func pairRows(ctx context.Context, from, to querier, table copiedTable, columns []string, visit func(key rowKey, source, target []any) error) error {
	a, err := openStream(ctx, from, table, columns)
	if err != nil {
		return err
	}
	defer a.close()
	b, err := openStream(ctx, to, table, columns)
	if err != nil {
		return err
	}
	defer b.close()
	for !a.ended || !b.ended {
		takeA := !a.ended && (b.ended || a.current.compare(b.current) <= 0)
		takeB := !b.ended && (a.ended || b.current.compare(a.current) <= 0)
		var key rowKey
		var source, target []any
		if takeB {
			key, target = b.current, b.row
		}
		if takeA {
			key, source = a.current, a.row
		}
		if err := visit(key, source, target); err != nil {
			return err
		}
		if takeA {
			if err := a.next(); err != nil {
				return err
			}
		}
		if takeB {
			if err := b.next(); err != nil {
				return err
			}
		}
	}
	return nil
}
