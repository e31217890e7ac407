package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"strings"

	"github.com/sofatutor/caddy-llm-proxy/migrations"
)

// Predecessor is an open database of sofatutor/llm-proxy. Everything is read in
// one transaction that cannot write, and so is of one moment.
type Predecessor struct {
	pool    *sql.DB
	tx      *sql.Tx
	columns map[string]map[string]bool // that there are, by table
	check   func() error               // whether what was read can be relied on
}

// OpenPredecessor opens the SQLite file or PostgreSQL database of the predecessor:
// a path, a URL, or key=value pairs.
func OpenPredecessor(ctx context.Context, dsn string) (_ *Predecessor, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("opening the predecessor's database: %w", err)
		}
	}()
	p := &Predecessor{check: func() error { return nil }}
	var columnsOf string
	switch {
	case isMySQL(dsn):
		return nil, errors.New("MySQL cannot be read: copy its three tables into PostgreSQL (pgloader does that) or SQLite, and import from there")
	case isPostgres(dsn):
		p.pool, err = openPredecessorPostgres(ctx, dsn)
		columnsOf = `SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = $1`
	default:
		p.pool, p.check, err = openPredecessorSQLite(ctx, dsn)
		columnsOf = sqliteColumns
	}
	if err != nil {
		return nil, err
	}
	if p.tx, err = p.begin(ctx, isPostgres(dsn)); err == nil {
		err = p.describe(ctx, columnsOf)
	}
	if err != nil {
		return nil, errors.Join(err, p.release())
	}
	return p, nil
}

func isPostgres(dsn string) bool {
	return strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") ||
		strings.Contains(dsn, "host=") || strings.Contains(dsn, "dbname=")
}

func isMySQL(dsn string) bool {
	return strings.HasPrefix(dsn, "mysql://") || strings.Contains(dsn, "@tcp(") || strings.Contains(dsn, "@unix(")
}

// openPredecessorPostgres connects once. A table is one long statement here, and the
// transaction waits while rows are being written elsewhere.
func openPredecessorPostgres(ctx context.Context, dsn string) (*sql.DB, error) {
	p, err := newPostgres(&Config{DSN: dsn}, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	return p.connect(ctx, 1, map[string]string{
		"default_transaction_read_only": "on", "statement_timeout": "0", "idle_in_transaction_session_timeout": "0", "datestyle": "ISO",
	})
}

// openPredecessorSQLite opens a file without changing it or making others beside it.
func openPredecessorSQLite(ctx context.Context, path string) (*sql.DB, func() error, error) {
	s, err := newSQLite(path, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	idle, err := isIdleWAL(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%s does not exist: give the path that DATABASE_PATH names", s.path)
	}
	if err != nil {
		return nil, nil, err
	}
	uri, err := url.Parse(s.dsn("deferred", sqliteBusyTimeout, sqliteQueryOnly))
	if err != nil {
		return nil, nil, err
	}
	query := uri.Query()
	query.Set("mode", "ro")
	check := func() error { return nil }
	if idle {
		query.Set("immutable", "1")
		check = func() error {
			if still, err := isIdleWAL(s.path); err != nil || !still {
				return fmt.Errorf("%s was opened by another program while it was read: stop the predecessor, then run the import again", s.path)
			}
			return nil
		}
	}
	uri.RawQuery = query.Encode()
	pool, err := sql.Open("sqlite", uri.String())
	if err != nil {
		return nil, nil, fmt.Errorf("opening %s: %w", s.path, err)
	}
	pool.SetMaxOpenConns(1)
	if err := pool.PingContext(ctx); err != nil {
		pool.Close()
		return nil, nil, fmt.Errorf("opening %s: %w", s.path, s.explain(err))
	}
	return pool, check, nil
}

// isIdleWAL reports whether a file has a write-ahead log when it is in use, and is
// not. Even a reader would make the log and its index then, with our owner and in
// a directory that may not be ours; SQLite reads such a file without them when
// told that nobody changes it.
func isIdleWAL(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if info.IsDir() {
		return false, fmt.Errorf("%s is a directory: give the path of a file", path)
	}
	var header [20]byte // https://sqlite.org/fileformat2.html: 18 and 19 are 2 with a log
	if _, err := io.ReadFull(f, header[:]); err != nil || header[18] != 2 {
		return false, nil // SQLite says what it is, if anything
	}
	_, err = os.Stat(path + "-wal")
	return errors.Is(err, fs.ErrNotExist), nil
}

func (p *Predecessor) begin(ctx context.Context, postgres bool) (*sql.Tx, error) {
	if postgres {
		return p.pool.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	}
	return p.pool.BeginTx(ctx, nil) // reads from the first query on, and query_only
}

// describe finds out which schema it is.
func (p *Predecessor) describe(ctx context.Context, columnsOf string) error {
	p.columns = make(map[string]map[string]bool)
	for _, table := range []string{"projects", "tokens", "audit_events", migrations.Table} {
		rows, err := p.tx.QueryContext(ctx, columnsOf, table)
		if err != nil {
			return err
		}
		p.columns[table] = make(map[string]bool)
		err = eachRow(rows, func() error {
			var name string
			if err := rows.Scan(&name); err != nil {
				return err
			}
			p.columns[table][name] = true
			return nil
		})
		if err != nil {
			return err
		}
	}
	switch {
	case len(p.columns[migrations.Table]) > 0:
		return errors.New("it is a database of this program: give the predecessor's")
	case !p.columns["projects"]["name"], !p.columns["tokens"]["token"]:
		return errors.New("it has no tables projects and tokens of the predecessor's form: check the path, or the schema that the DSN leads to")
	case !p.columns["projects"]["api_key"] && !p.columns["projects"]["openai_api_key"]:
		return errors.New("its table projects has neither a column api_key nor openai_api_key")
	}
	return nil
}

// Close ends the reading. An error says that what was read may be wrong.
func (p *Predecessor) Close() error { return errors.Join(p.release(), p.check()) }

func (p *Predecessor) release() error {
	var err error
	if p.tx != nil {
		err = p.tx.Rollback()
	}
	return errors.Join(err, p.pool.Close())
}
