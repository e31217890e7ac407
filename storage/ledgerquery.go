package storage

import (
	"strconv"
	"strings"

	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
)

var ledgerKey = []string{"scope", "scope_id", "unit", "period", "period_start"}

const ledgerKeyList = `scope, scope_id, unit, period, period_start`

// ledgerJoin compares the keys of two tables.
func ledgerJoin(a, b string) string {
	var conditions []string
	for _, column := range ledgerKey {
		conditions = append(conditions, a+"."+column+" = "+b+"."+column)
	}
	return strings.Join(conditions, " AND ")
}

func keyValues(k *ledger.Key) []any {
	return []any{k.Scope.String(), k.ID.String(), k.Unit.String(), string(k.Period), k.Start}
}

// ledgerQuery is a statement about several rows.
type ledgerQuery struct {
	strings.Builder
	args []any
	db   *DB
}

func newLedgerQuery(db *DB) *ledgerQuery { return &ledgerQuery{db: db} }

func (q *ledgerQuery) text(s string) { q.WriteString(s) }

// value writes a parameter of a statement that shows what it is for.
func (q *ledgerQuery) value(v any) {
	q.args = append(q.args, v)
	q.text("$" + strconv.Itoa(len(q.args)))
}

// cast writes a parameter of a type.
func (q *ledgerQuery) cast(v any, kind string) {
	q.text("CAST(")
	q.value(v)
	q.text(" AS " + kind + ")")
}

// row writes the nth row of an INSERT.
func (q *ledgerQuery) row(n int, key []any, more ...any) {
	if n > 0 {
		q.text(", ")
	}
	for i, v := range append(key, more...) {
		q.text([]string{"(", ", "}[min(i, 1)])
		q.value(v)
	}
	q.text(")")
}

// keys begins a statement with a table k that has the number and key of each row.
func (q *ledgerQuery) keys(n int, key func(i int) *ledger.Key) { q.keysWith(n, key, nil) }

// keysWith is keys with more columns, of numbers.
func (q *ledgerQuery) keysWith(n int, key func(i int) *ledger.Key, more func(i int) []int64, columns ...string) {
	q.text(`WITH k (n, ` + ledgerKeyList)
	for _, c := range columns {
		q.text(", " + c)
	}
	q.text(`) AS (VALUES `)
	for i := range n {
		if i > 0 {
			q.text(", ")
		}
		k := key(i)
		q.text("(")
		q.cast(int64(i), "BIGINT")
		for _, v := range []struct {
			value any
			kind  string
		}{{k.Scope.String(), "TEXT"}, {k.ID.String(), q.db.dialect.idType()}, {k.Unit.String(), "TEXT"}, {string(k.Period), "TEXT"}, {k.Start, "BIGINT"}} {
			q.text(", ")
			q.cast(v.value, v.kind)
		}
		if more != nil {
			for _, v := range more(i) {
				q.text(", ")
				q.cast(v, "BIGINT")
			}
		}
		q.text(")")
	}
	q.text(")")
}

// idType implements [dialect].
func (s *sqliteDB) idType() string { return "TEXT" }

// idType implements [dialect].
func (p *postgresDB) idType() string { return "UUID" }
