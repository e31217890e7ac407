package storage

import (
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gofrs/uuid/v5"
	"github.com/jackc/pgx/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// TestLoadIsOneQuery counts what the request path sends to the database.
func TestLoadIsOneQuery(t *testing.T) {
	db := openDB(t, "")
	f := makeSealed(t, db, "a")
	counting := &countingConnector{driver: db.conns.Load().reader.Driver(), dsn: db.dialect.(*sqliteDB).dsn("deferred")}
	reader := sql.OpenDB(counting)
	defer reader.Close()
	counted := *db.conns.Load()
	counted.reader = reader
	for query, to := range map[string]**sql.Stmt{loadTokenSQL: &counted.loadToken, loadProjectSQL: &counted.loadProject} {
		stmt, err := reader.Prepare(query)
		if err != nil {
			t.Fatal(err)
		}
		defer stmt.Close()
		*to = stmt
	}
	old := db.conns.Swap(&counted)
	defer db.conns.Store(old)

	counting.prepared.Store(0)
	for n := int32(1); n <= 5; n++ {
		counting.queries.Store(0)
		if _, err := db.LoadToken(t.Context(), f.token.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := db.LoadProject(t.Context(), f.project.ID); err != nil {
			t.Fatal(err)
		}
		if q, p := counting.queries.Load(), counting.prepared.Load(); q != 2 || p != 0 {
			t.Errorf("%d queries and %d preparations for two loads", q, p)
		}
	}
}

// TestPostgresLoadIsOneQuery does it where each query is a round trip. Statements
// are prepared once for each connection.
func TestPostgresLoadIsOneQuery(t *testing.T) {
	db := newDB(t, newPostgresDSN(t))
	tracer := &countingTracer{}
	db.dialect.(*postgresDB).config.Tracer = tracer
	if err := db.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	f := makeSealed(t, db, "a")
	reader := db.conns.Load().reader
	reader.SetMaxOpenConns(1)
	for n := range 5 {
		tracer.queries.Store(0)
		tracer.prepared.Store(0)
		if _, err := db.LoadToken(t.Context(), f.token.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := db.LoadProject(t.Context(), f.project.ID); err != nil {
			t.Fatal(err)
		}
		if q, p := tracer.queries.Load(), tracer.prepared.Load(); q != 2 || n > 0 && p != 0 {
			t.Errorf("%d queries and %d preparations for two loads", q, p)
		}
	}
}

// countingTracer counts what all connections of a database send.
type countingTracer struct{ prepared, queries atomic.Int32 }

func (c *countingTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if !strings.Contains(data.SQL, "pg_notify") {
		c.queries.Add(1)
	}
	return ctx
}

func (c *countingTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *countingTracer) TracePrepareStart(ctx context.Context, _ *pgx.Conn, data pgx.TracePrepareStartData) context.Context {
	if !strings.Contains(data.SQL, "pg_notify") {
		c.prepared.Add(1)
	}
	return ctx
}

func (c *countingTracer) TracePrepareEnd(context.Context, *pgx.Conn, pgx.TracePrepareEndData) {}

// countingConnector is a driver that counts statements.
type countingConnector struct {
	driver            driver.Driver
	dsn               string
	prepared, queries atomic.Int32
}

func (c *countingConnector) Driver() driver.Driver { return c.driver }

func (c *countingConnector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.driver.Open(c.dsn)
	return countingConn{conn, c}, err
}

type countingConn struct {
	driver.Conn
	counts *countingConnector
}

func (c countingConn) Prepare(query string) (driver.Stmt, error) {
	c.counts.prepared.Add(1)
	stmt, err := c.Conn.Prepare(query)
	return countingStmt{stmt, c.counts}, err
}

type countingStmt struct {
	driver.Stmt
	counts *countingConnector
}

func (s countingStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	s.counts.queries.Add(1)
	return s.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
}

// BenchmarkLoadToken loads random tokens, each with a project of two keys.
func BenchmarkLoadToken(b *testing.B) {
	onBothOfSize(b, func(b *testing.B, db *DB, ids []uuid.UUID) {
		i := 0
		for b.Loop() {
			i = (i + 7919) % len(ids)
			if _, err := db.LoadToken(b.Context(), ids[i]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPage reads a page of tokens at the start, in the middle and at the end
// of the list: one costs what the other does.
func BenchmarkPage(b *testing.B) {
	onBothOfSize(b, func(b *testing.B, db *DB, ids []uuid.UUID) {
		for _, depth := range []int{0, 50, 99} {
			b.Run(fmt.Sprint(depth, "%"), func(b *testing.B) {
				last, err := db.Token(b.Context(), ids[len(ids)-1-len(ids)*depth/100])
				if err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					page, err := db.Tokens(b.Context(), TokenFilter{Limit: 5, After: Cursor{CreatedAt: last.CreatedAt, ID: last.ID}})
					if err != nil || len(page) != 5 {
						b.Fatal(len(page), err)
					}
				}
			})
		}
	})
}

// onBothOfSize runs a benchmark on both databases with few and with many tokens.
func onBothOfSize(b *testing.B, run func(b *testing.B, db *DB, ids []uuid.UUID)) {
	for name, dsn := range map[string]func(b *testing.B) string{
		"sqlite":   func(b *testing.B) string { return filepath.Join(b.TempDir(), "llm-proxy.db") },
		"postgres": func(b *testing.B) string { return testdb.Postgres(b) },
	} {
		for _, tokens := range []int{1_000, 100_000} {
			b.Run(fmt.Sprint(name, "/", tokens), func(b *testing.B) {
				db := openDB(b, dsn(b))
				ids := fillTokens(b, db, tokens)
				b.ReportAllocs()
				run(b, db, ids)
			})
		}
	}
}

// fillTokens makes tokens of ten projects with two keys each.
func fillTokens(b *testing.B, db *DB, n int) []uuid.UUID {
	b.Helper()
	var ids []uuid.UUID
	err := db.Update(b.Context(), func(tx *Tx) error {
		var projects []uuid.UUID
		for i := range 10 {
			p := project.Project{Name: fmt.Sprint("project ", i), Active: true}
			if err := tx.CreateProject(b.Context(), &p); err != nil {
				return err
			}
			projects = append(projects, p.ID)
			for _, provider := range []string{"anthropic", "openai"} {
				k := project.Key{ProjectID: p.ID, Provider: provider, Weight: 1, Active: true}
				if err := tx.CreateKey(b.Context(), &k, secret.NewValue("sk-0123456789abcdef0123456789abcdef")); err != nil {
					return err
				}
			}
		}
		hash := make([]byte, token.HashSize)
		for i := range n {
			id, err := uuid.NewV7()
			if err != nil {
				return err
			}
			_, _ = rand.Read(hash)
			t := token.Token{ID: id, ProjectID: projects[i%len(projects)], Name: fmt.Sprint("token ", i), Active: true,
				Hash: hash, HashScheme: token.SchemeHMAC, Policy: project.Policy{AllowedModels: []string{"gpt-4o*"}}}
			if err := tx.CreateToken(b.Context(), &t); err != nil {
				return err
			}
			ids = append(ids, id)
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return ids
}
