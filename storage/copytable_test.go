package storage

import (
	"slices"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/migrations"
)

// TestCopiedTables compares the lists with the schema.
func TestCopiedTables(t *testing.T) {
	t.Parallel()
	onBoth(t, testCopiedTables)
}

func testCopiedTables(t *testing.T, dsn string) {
	openDB(t, dsn).Close()
	tables := `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'`
	unique := `SELECT m.name || '.' || (SELECT group_concat(name, '+') FROM pragma_index_info(l.name)) FROM sqlite_schema m, pragma_index_list(m.name) l
		WHERE m.type = 'table' AND l."unique" AND m.name NOT LIKE 'sqlite%'`
	refers := `SELECT m.name || ' ' || f."table" FROM sqlite_schema m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table'`
	if driverOf(dsn) == "postgres" {
		tables = `SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = current_schema()`
		unique = `SELECT c.relname || '.' || (SELECT string_agg(attname, '+') FROM pg_attribute WHERE attrelid = i.indexrelid)
			FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE i.indisunique AND c.relnamespace = current_schema()::regnamespace`
		refers = `SELECT conrelid::regclass || ' ' || confrelid::regclass FROM pg_constraint WHERE contype = 'f'`
	}
	want := []string{migrations.Table}
	var wantUnique []string
	place := make(map[string]int)
	for i, table := range copiedTables {
		want = append(want, table.name)
		wantUnique = append(wantUnique, table.name+"."+strings.Join(slices.Sorted(slices.Values(table.key)), "+"))
		if table.unique != "" {
			wantUnique = append(wantUnique, table.name+"."+table.unique)
		}
		place[table.name] = i
	}
	for table, reason := range uncopiedTables {
		want = append(want, table)
		if reason == "" {
			t.Errorf("no reason to leave %s out", table)
		}
	}
	list := func(query string) (found []string) {
		rows, err := rawDB(t, dsn).Query(query)
		if err == nil {
			err = eachRow(rows, func() error {
				var name string
				err := rows.Scan(&name)
				found = append(found, name)
				return err
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(found)
		return found
	}
	slices.Sort(want)
	if got := list(tables); !slices.Equal(got, want) {
		t.Errorf("the schema has %v, the lists %v", got, want)
	}
	for _, column := range list(unique) {
		table, columns, _ := strings.Cut(column, ".")
		column = table + "." + strings.Join(slices.Sorted(strings.SplitSeq(columns, "+")), "+")
		if !slices.Contains(wantUnique, column) && uncopiedTables[table] == "" && table != migrations.Table {
			t.Errorf("%s is unique, which the list does not say", column)
		}
	}
	for _, pair := range list(refers) {
		child, parent, _ := strings.Cut(pair, " ")
		if place[child] <= place[parent] {
			t.Errorf("%s refers to %s, which comes later", child, parent)
		}
	}
}

// TestChecksum tells rows apart that look alike.
func TestChecksum(t *testing.T) {
	t.Parallel()
	seen := make(map[string]int)
	for i, rows := range [][][]any{
		{}, {{nil}}, {{int64(0)}}, {{""}}, {{[]byte{}}}, {{"0"}}, {{[]byte("0")}}, {{int64(-1)}}, {{int64(1)}},
		{{"a", "b"}}, {{"ab", ""}}, {{"", "ab"}}, {{"a"}, {"b"}}, {{"ab"}}, {{nil, "ab"}}, {{"b"}, {"a"}}, {{"n"}}, {{nil}, {nil}}, {{nil, nil}},
	} {
		sum := newChecksum()
		for _, row := range rows {
			sum.add(row)
		}
		if other, found := seen[sum.String()]; found {
			t.Errorf("tables %d and %d look alike", other, i)
		}
		seen[sum.String()] = i
	}
	if _, err := canonical(1.5); err == nil {
		t.Error("a kind of value that no column has")
	}
}
