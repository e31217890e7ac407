package migrations

import (
	"database/sql"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A schema is compared as lines of text, the same for every dialect:
//
//	projects.name text not null
//	projects unique (name)
//	provider_keys (project_id) references projects (id)
//	index tokens_expires on tokens (expires_at) where expires_at is not null

// logicalTypes are the types of PostgreSQL in the words of SQLite.
var logicalTypes = map[string]string{"uuid": "text", "text": "text", "bigint": "integer", "boolean": "integer", "bytea": "blob"}

// schema is every table, column, key and index but those of the version table.
func schema(t *testing.T, db *sql.DB, dialect Dialect) []string {
	t.Helper()
	var lines []string
	if dialect == SQLite {
		lines = sqliteSchema(t, db)
	} else {
		lines = postgresSchema(t, db)
	}
	slices.Sort(lines)
	return lines
}

// texts runs a query for one column of text.
func texts(t *testing.T, db *sql.DB, query string, args ...any) []string {
	t.Helper()
	rows, err := db.Query(query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var list []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

func sqliteSchema(t *testing.T, db *sql.DB) []string {
	t.Helper()
	var lines []string
	for _, table := range texts(t, db, `SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> $1 AND name NOT LIKE 'sqlite%'`, Table) {
		lines = append(lines, texts(t, db, `SELECT $1 || '.' || name || ' ' || lower(type) || iif("notnull", ' not null', '')
			|| iif(dflt_value IS NULL, '', ' default ' || lower(dflt_value)) FROM pragma_table_info($1)`, table)...)
		lines = append(lines, texts(t, db, `SELECT $1 || ' ' || iif(l.origin = 'pk', 'primary key', 'unique') || ' ('
			|| (SELECT group_concat(name, ', ') FROM (SELECT name FROM pragma_index_info(l.name) ORDER BY seqno)) || ')'
			FROM pragma_index_list($1) l WHERE l.origin <> 'c'`, table)...)
		// A number that is the primary key is the table's own order and has no index.
		lines = append(lines, texts(t, db, `SELECT $1 || ' primary key (' || max(name) || ')' FROM pragma_table_info($1) WHERE pk > 0
			HAVING count(*) = 1 AND max(type) = 'INTEGER'`, table)...)
		lines = append(lines, texts(t, db, `SELECT $1 || ' (' || group_concat("from", ', ') || ') references ' || "table" || ' (' || group_concat("to", ', ') || ')'
			|| ' on update ' || lower(on_update) || ' on delete ' || lower(on_delete)
			FROM (SELECT * FROM pragma_foreign_key_list($1) ORDER BY id, seq) GROUP BY id`, table)...)
		lines = append(lines, texts(t, db, `SELECT iif(l."unique", 'unique ', '') || 'index ' || l.name || ' on ' || $1 || ' ('
			|| (SELECT group_concat(name || iif("desc", ' desc', ''), ', ') FROM (SELECT name, "desc" FROM pragma_index_xinfo(l.name) WHERE key ORDER BY seqno)) || ')'
			|| iif(l.partial, lower(substr(s.sql, instr(s.sql, ' WHERE '))), '')
			FROM pragma_index_list($1) l JOIN sqlite_schema s ON s.name = l.name WHERE l.origin = 'c'`, table)...)
	}
	return lines
}

func postgresSchema(t *testing.T, db *sql.DB) []string {
	t.Helper()
	columns := texts(t, db, `SELECT c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
			|| CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
			|| coalesce(' default ' || lower(pg_get_expr(d.adbin, d.adrelid)), '')
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
		WHERE n.nspname = current_schema() AND c.relkind = 'r' AND c.relname <> $1`, Table)
	lines := make([]string, 0, len(columns))
	for _, column := range columns {
		fields := strings.SplitN(column, " ", 3)
		logical, ok := logicalTypes[fields[1]]
		if !ok {
			t.Errorf("%s: a type without counterpart", column)
		}
		fields[1] = logical
		lines = append(lines, strings.ReplaceAll(strings.Join(fields, " "), "::text", ""))
	}
	lines = append(lines, texts(t, db, `SELECT r.relname || ' ' || CASE c.contype WHEN 'p' THEN 'primary key' ELSE 'unique' END || ' ('
			|| (SELECT string_agg(a.attname, ', ' ORDER BY k.n) FROM unnest(c.conkey) WITH ORDINALITY k(num, n) JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum = k.num) || ')'
		FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid JOIN pg_namespace n ON n.oid = r.relnamespace
		WHERE n.nspname = current_schema() AND c.contype IN ('p', 'u') AND r.relname <> $1`, Table)...)
	lines = append(lines, texts(t, db, `SELECT r.relname || ' ('
			|| (SELECT string_agg(a.attname, ', ' ORDER BY k.n) FROM unnest(c.conkey) WITH ORDINALITY k(num, n) JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum = k.num)
			|| ') references ' || f.relname || ' ('
			|| (SELECT string_agg(a.attname, ', ' ORDER BY k.n) FROM unnest(c.confkey) WITH ORDINALITY k(num, n) JOIN pg_attribute a ON a.attrelid = f.oid AND a.attnum = k.num) || ')'
			|| ' on update ' || CASE c.confupdtype WHEN 'a' THEN 'no action' WHEN 'c' THEN 'cascade' WHEN 'n' THEN 'set null' ELSE 'other' END
			|| ' on delete ' || CASE c.confdeltype WHEN 'a' THEN 'no action' WHEN 'c' THEN 'cascade' WHEN 'n' THEN 'set null' ELSE 'other' END
		FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid JOIN pg_class f ON f.oid = c.confrelid JOIN pg_namespace n ON n.oid = r.relnamespace
		WHERE n.nspname = current_schema() AND c.contype = 'f'`)...)
	// CREATE INDEX name ON public.table USING btree (columns) WHERE (condition)
	definition := regexp.MustCompile(`^create (unique )?index (\S+) on (?:\S+\.)?(\S+) using btree \((.*?)\)(?: where \((.*)\))?$`)
	for _, index := range texts(t, db, `SELECT lower(pg_get_indexdef(i.indexrelid)) FROM pg_index i JOIN pg_class r ON r.oid = i.indrelid
		JOIN pg_namespace n ON n.oid = r.relnamespace
		WHERE n.nspname = current_schema() AND r.relname <> $1 AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid = i.indexrelid AND c.contype IN ('p', 'u'))`, Table) {
		m := definition.FindStringSubmatch(index)
		if m == nil {
			t.Errorf("%s: an index without counterpart", index)
			continue
		}
		line := fmt.Sprintf("%sindex %s on %s (%s)", m[1], m[2], m[3], m[4])
		if m[5] != "" {
			line += " where " + m[5]
		}
		lines = append(lines, line)
	}
	return lines
}

// TestSameSchema compares the dialects after every migration.
func TestSameSchema(t *testing.T) {
	lite, post := open(t, SQLite), open(t, Postgres)
	providers := map[Dialect]interface{ step() string }{SQLite: newStepper(t, lite, SQLite), Postgres: newStepper(t, post, Postgres)}
	latest, err := Latest(SQLite)
	if err != nil {
		t.Fatal(err)
	}
	for range latest {
		if a, b := providers[SQLite].step(), providers[Postgres].step(); a != b {
			t.Errorf("a migration is called %s for SQLite and %s for PostgreSQL", a, b)
		}
		a, b := schema(t, lite, SQLite), schema(t, post, Postgres)
		for _, line := range a {
			if !slices.Contains(b, line) {
				t.Errorf("only SQLite has: %s", line)
			}
		}
		for _, line := range b {
			if !slices.Contains(a, line) {
				t.Errorf("only PostgreSQL has: %s", line)
			}
		}
	}
	// Booleans are numbers to SQLite, so it must check them.
	for _, column := range texts(t, post, `SELECT table_name || '.' || column_name FROM information_schema.columns
		WHERE table_schema = current_schema() AND data_type = 'boolean' AND table_name <> $1`, Table) {
		table, name, _ := strings.Cut(column, ".")
		made := texts(t, lite, `SELECT sql FROM sqlite_schema WHERE name = $1`, table)
		if len(made) != 1 || !strings.Contains(made[0], "CHECK ("+name+" IN (FALSE, TRUE))") {
			t.Errorf("SQLite does not check that %s is TRUE or FALSE", column)
		}
	}
	for _, column := range texts(t, post, `SELECT table_name || '.' || column_name FROM information_schema.columns
		WHERE table_schema = current_schema() AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C' AND table_name <> $1`, Table) {
		t.Errorf("PostgreSQL orders %s as its locale says", column)
	}
}
