package storage

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"
)

// copiedTable is a table that is the same in a copy.
type copiedTable struct {
	name   string
	key    []string // the primary key: texts, ids and numbers, which all databases order alike
	unique string   // a further column that must be unique, a text
	// drops says that a row whose unique column is another's is deleted: it is not
	// one that anybody refers to.
	drops bool
	// made says that every start makes rows, which nobody would miss.
	made bool
}

// copiedTables are all that there is to copy, those first that others refer to. A
// new table is a line here or in uncopiedTables.
var copiedTables = []copiedTable{
	{name: "secrets", key: []string{"name"}, made: true}, // the pepper
	{name: "projects", key: []string{"id"}, unique: "name"},
	{name: "provider_keys", key: []string{"id"}},
	{name: "tokens", key: []string{"id"}},
	{name: "audit_events", key: []string{"id"}},
	{name: "cert_store", key: []string{"name"}},
	{name: "events", key: []string{"seq"}, unique: "id", drops: true},
	{name: "event_terms", key: []string{"term", "id"}},
	{name: "event_cursors", key: []string{"name"}, made: true}, // the roll-up's
	{name: "event_dead", key: []string{"id"}},
	{name: "usage_hourly", key: []string{"hour", "project_id", "token_id", "provider", "model", "end_user"}},
	{name: "ledger", key: ledgerKey},
	// Whoever has a lease works on the other database. It is not renewed here, so that
	// what it may still spend there is forfeited here, a minute later.
	{name: "ledger_leases", key: append(slices.Clip(ledgerKey), "holder")},
}

// uncopiedTables are left alone, for a reason each.
var uncopiedTables = map[string]string{
	"meta":       "it tells databases from each other",
	"cert_locks": "whoever holds one works on the other database, and it ends by itself",
	"leases":     "whoever holds one works on the other database, and it ends by itself",
}

// columnsOf lists the columns of a table by name, and those of them that are
// booleans to this database.
func columnsOf(ctx context.Context, q querier, table string) (names []string, booleans map[string]bool, err error) {
	rows, err := q.QueryContext(ctx, `SELECT * FROM `+table+` WHERE FALSE`)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil {
		return nil, nil, err
	}
	booleans = make(map[string]bool)
	for _, column := range types {
		names = append(names, column.Name())
		booleans[column.Name()] = strings.HasPrefix(column.DatabaseTypeName(), "BOOL")
	}
	slices.Sort(names)
	return names, booleans, rows.Err()
}

// rowKey is the primary key of a row.
type rowKey []any

// compare orders keys of one table as its database does.
func (k rowKey) compare(o rowKey) int {
	for i := range k {
		var c int
		switch v := k[i].(type) {
		case int64:
			c = cmp.Compare(v, o[i].(int64))
		case string:
			c = cmp.Compare(v, o[i].(string))
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

// String names a row in errors.
func (k rowKey) String() string {
	parts := make([]string, len(k))
	for i, v := range k {
		if text, ok := v.(string); ok {
			parts[i] = strconv.Quote(text)
		} else {
			parts[i] = fmt.Sprint(v)
		}
	}
	return strings.Join(parts, ", ")
}

// canonical is a value in the form that all databases share: nil, a number, a
// text, or bytes.
func canonical(v any) (any, error) {
	switch v := v.(type) {
	case nil, int64, string, []byte:
		return v, nil
	case bool:
		if v {
			return int64(1), nil
		}
		return int64(0), nil
	}
	return nil, fmt.Errorf("a value of the unexpected type %T", v)
}

// checksum is taken over the rows of a table in the order of their keys. Each value
// stands with its kind and length, so that no two tables look alike.
type checksum struct {
	rows int64
	hash hash.Hash
	buf  []byte
}

func newChecksum() *checksum { return &checksum{hash: sha256.New()} }

func (c *checksum) add(row []any) {
	c.rows++
	c.buf = encodeRow(c.buf[:0], row)
	c.hash.Write(c.buf)
}

func (c *checksum) String() string { return hex.EncodeToString(c.hash.Sum(nil)) }

// encodeRow appends canonical values.
func encodeRow(to []byte, row []any) []byte {
	to = binary.AppendUvarint(to, uint64(len(row)))
	for _, v := range row {
		switch v := v.(type) {
		case nil:
			to = append(to, 'n')
		case int64:
			to = binary.AppendVarint(append(to, 'i'), v)
		case string:
			to = append(binary.AppendUvarint(append(to, 't'), uint64(len(v))), v...)
		case []byte:
			to = append(binary.AppendUvarint(append(to, 'b'), uint64(len(v))), v...)
		}
	}
	return to
}

// sizeOf is about what a row takes in memory.
func sizeOf(row []any) (n int) {
	for _, v := range row {
		switch v := v.(type) {
		case string:
			n += len(v)
		case []byte:
			n += len(v)
		}
		n += 16
	}
	return n
}
