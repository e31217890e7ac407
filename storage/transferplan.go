package storage

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// tablePlan is how one table is transferred.
type tablePlan struct {
	copiedTable
	columns  []string
	booleans map[string]bool // of the target
	version  int             // the column that is raised, or -1
	sum      *checksum       // of the source
	masksum  *checksum       // of the source without versions, if they are raised
	extra    bool            // the target has rows that the source has not
}

// merged is a row as it is to be, and whether the target's is another one.
func (p *tablePlan) merged(source, target []any) (row []any, differs bool) {
	if target == nil {
		return source, true
	}
	if p.version < 0 {
		return source, !bytes.Equal(encodeRow(nil, source), encodeRow(nil, target))
	}
	ours, _ := source[p.version].(int64)
	theirs, _ := target[p.version].(int64)
	same := bytes.Equal(encodeRow(nil, p.masked(source)), encodeRow(nil, p.masked(target)))
	if same && theirs >= ours {
		return nil, false
	}
	row = slices.Clone(source)
	if theirs >= ours {
		row[p.version] = theirs + 1
	}
	return row, true
}

// masked is a row without its version, if that is raised.
func (p *tablePlan) masked(row []any) []any {
	if p.version < 0 {
		return row
	}
	row = slices.Clone(row)
	row[p.version] = nil
	return row
}

// write inserts rows or replaces those with the same key.
func (p *tablePlan) write(ctx context.Context, tx *Tx, rows [][]any) error {
	for some := range slices.Chunk(rows, tx.db.dialect.rowsAtOnce()) {
		if err := p.writeSome(ctx, tx, some); err != nil {
			return err
		}
	}
	return nil
}

// writeSome is write in one statement.
func (p *tablePlan) writeSome(ctx context.Context, tx *Tx, rows [][]any) error {
	var b strings.Builder
	fmt.Fprintf(&b, `INSERT INTO %s (%s) VALUES `, p.name, strings.Join(p.columns, ", "))
	args := make([]any, 0, len(rows)*len(p.columns))
	for i, row := range rows {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(placeholders(len(args)+1, len(row)))
		for c, v := range row {
			if n, ok := v.(int64); ok && p.booleans[p.columns[c]] {
				v = n != 0
			}
			args = append(args, v)
		}
	}
	fmt.Fprintf(&b, ` ON CONFLICT (%s) DO `, strings.Join(p.key, ", "))
	var sets []string
	for _, column := range p.columns {
		if !slices.Contains(p.key, column) {
			sets = append(sets, column+" = excluded."+column)
		}
	}
	if len(sets) == 0 {
		b.WriteString("NOTHING")
	} else {
		b.WriteString("UPDATE SET " + strings.Join(sets, ", "))
	}
	if _, err := tx.tx.ExecContext(ctx, b.String(), args...); err != nil {
		return tx.fail(err)
	}
	return nil
}

// checkRow names the row that no other database would take.
func checkRow(p *tablePlan, key rowKey, row []any) error {
	for i, v := range row {
		if text, ok := v.(string); ok {
			if err := checkText(p.columns[i], text); err != nil {
				return &damagedRowError{p.name, key.String(), err}
			}
		}
	}
	return nil
}

// where selects the rows with some keys.
func (p *tablePlan) where(keys []rowKey) (condition string, args []any) {
	rows := make([]string, len(keys))
	for i, key := range keys {
		parts := make([]string, len(key))
		for j, v := range key {
			args = append(args, v)
			parts[j] = fmt.Sprintf("%s = $%d", p.key[j], len(args))
		}
		rows[i] = "(" + strings.Join(parts, " AND ") + ")"
	}
	return strings.Join(rows, " OR "), args
}

// batch collects rows up to what is written at once.
type batch struct {
	rows [][]any
	size int
}

// add reports whether the batch is full.
func (b *batch) add(row []any) bool {
	b.rows = append(b.rows, row)
	b.size += sizeOf(row)
	return len(b.rows) >= transferRows || b.size >= transferBytes
}

func (b *batch) take() [][]any {
	rows := b.rows
	*b = batch{}
	return rows
}

// placeholders is a list of n parameters from $first on.
func placeholders(first, n int) string {
	text := []byte{'('}
	for i := range n {
		if i > 0 {
			text = append(text, ", "...)
		}
		text = strconv.AppendInt(append(text, '$'), int64(first+i), 10)
	}
	return string(append(text, ')'))
}
