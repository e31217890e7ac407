package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
)

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestSQLitePragmas(t *testing.T) {
	db := openDB(t, "")
	c := db.conns.Load()
	for _, test := range []struct {
		pool   *sql.DB
		pragma string
		want   string
	}{
		{c.writer, "busy_timeout", "5000"},
		{c.writer, "journal_mode", "wal"},
		{c.writer, "synchronous", "2"},
		{c.writer, "foreign_keys", "1"},
		{c.writer, "query_only", "0"},
		{c.reader, "busy_timeout", "5000"},
		{c.reader, "journal_mode", "wal"},
		{c.reader, "query_only", "1"},
	} {
		var got string
		if err := test.pool.QueryRow("PRAGMA " + test.pragma).Scan(&got); err != nil || got != test.want {
			t.Errorf("%s is %q, %v", test.pragma, got, err)
		}
	}
	if n := c.writer.Stats().MaxOpenConnections; n != 1 {
		t.Errorf("%d writers", n)
	}
	if _, err := c.reader.Exec(`DELETE FROM secrets`); err == nil {
		t.Error("a reader wrote")
	}
	if s := (&sqliteDB{path: "/x"}).dsn("immediate", sqliteBusyTimeout, sqliteWAL); strings.Index(s, "busy_timeout") > strings.Index(s, "journal_mode") {
		t.Errorf("busy_timeout is not the first pragma of %s", s)
	}
}

// TestBusy has another process keep the write lock.
func TestBusy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "llm-proxy.db")
	db := openDB(t, path)
	f := makeSealed(t, db, "a")
	other, err := rawDB(t, path).Begin()
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = db.Update(ctx, func(*Tx) error { return nil })
	if !errors.Is(err, ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("writing: %v", err)
	}
	if _, err := db.LoadToken(t.Context(), f.token.ID); err != nil {
		t.Errorf("reading: %v", err)
	}
	_, err = rawDB(t, path).Begin() // does not wait
	if err = db.classify(err); !errors.Is(err, ErrBusy) || !errors.Is(err, ErrUnreachable) {
		t.Errorf("busy: %v", err)
	}
	if err := other.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := db.Update(t.Context(), func(*Tx) error { return nil }); err != nil {
		t.Errorf("writing afterwards: %v", err)
	}
}

// TestFull lets the database run out of space, and then have some.
func TestFull(t *testing.T) {
	db := openDB(t, "")
	fill := func(n int) error {
		return db.Update(t.Context(), func(tx *Tx) error {
			for i := range n {
				p := &project.Project{Name: fmt.Sprint("p", i), Policy: project.Policy{Metadata: map[string]string{"x": strings.Repeat("x", 1000)}}}
				if err := tx.CreateProject(t.Context(), p); err != nil {
					return err
				}
			}
			return nil
		})
	}
	exec(t, db, "PRAGMA max_page_count = 50")
	if err := fill(500); !errors.Is(err, ErrFull) || !errors.Is(err, ErrUnreachable) {
		t.Errorf("full: %v", err)
	}
	if n, err := db.CountProjects(t.Context(), ProjectFilter{}); n != 0 || err != nil {
		t.Errorf("%d projects, %v", n, err)
	}
	exec(t, db, "PRAGMA max_page_count = 1000000")
	if err := fill(500); err != nil {
		t.Errorf("with space again: %v", err)
	}
}

// TestQueryPlans keeps the request path on the primary key and lists on their
// indexes, without sorting.
func TestQueryPlans(t *testing.T) {
	db := openDB(t, "")
	tokens := `SELECT ` + tokenColumns + ` FROM tokens t`
	const order = ` ORDER BY t.created_at DESC, t.id DESC LIMIT 10`
	for _, test := range []struct{ query, want string }{
		{loadTokenSQL, "SEARCH t USING INDEX sqlite_autoindex_tokens_1 (id=?)"},
		{loadProjectSQL, "SEARCH p USING INDEX sqlite_autoindex_projects_1 (id=?)"},
		{tokens + order, "USING INDEX tokens_created"},
		{tokens + ` WHERE (t.created_at, t.id) < ($1, $2)` + order, "USING INDEX tokens_created"},
		{tokens + ` WHERE t.project_id = $1 AND (t.created_at, t.id) < ($2, $3)` + order, "USING INDEX tokens_project"},
		{`SELECT ` + projectColumns + ` FROM projects p ORDER BY p.created_at DESC, p.id DESC LIMIT 10`, "USING INDEX projects_created"},
		{`SELECT ` + auditColumns + ` FROM audit_events a WHERE a.target_id = $1 ORDER BY a.created_at DESC, a.id DESC LIMIT 10`, "USING INDEX audit_events_target"},
	} {
		args := make([]any, strings.Count(test.query, "$"))
		for i := range args {
			args[i] = "x"
		}
		rows, err := db.conns.Load().reader.Query("EXPLAIN QUERY PLAN "+test.query, args...)
		if err != nil {
			t.Fatal(err)
		}
		var plan []string
		err = eachRow(rows, func() error {
			var a, b, c any
			var step string
			if err := rows.Scan(&a, &b, &c, &step); err != nil {
				return err
			}
			plan = append(plan, step)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if all := strings.Join(plan, "; "); !strings.Contains(all, test.want) || strings.Contains(all, "TEMP B-TREE") {
			t.Errorf("%s\nplan: %s", test.query, all)
		}
	}
}

// TestParameters holds the drivers to $1 parameters, used again and in any order.
func TestParameters(t *testing.T) {
	onBoth(t, func(t *testing.T, dsn string) {
		var got string
		err := openDB(t, dsn).conns.Load().reader.QueryRow(`SELECT CAST($2 AS TEXT) || CAST($1 AS TEXT) || $2`, "a", "b").Scan(&got)
		if err != nil || got != "bab" {
			t.Errorf("%q, %v", got, err)
		}
	})
}
