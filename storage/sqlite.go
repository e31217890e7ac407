package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/migrations"
)

// Pragmas of every connection. busy_timeout comes first, because those after it
// may have to wait for another process already.
const (
	sqliteBusyTimeout = "busy_timeout(5000)"
	sqliteWAL         = "journal_mode(WAL)"
	sqliteSync        = "synchronous(FULL)" // an acknowledged change survives a power cut
	sqliteForeignKeys = "foreign_keys(1)"
	sqliteWALLimit    = "journal_size_limit(67108864)" // what a checkpoint leaves of the log
	sqliteCache       = "cache_size(-16384)"           // of the writer, in KiB: what a roll-up changes fits
	sqliteQueryOnly   = "query_only(1)"
)

// sqliteEpochPoll is how soon a restore is noticed.
const sqliteEpochPoll = time.Second

// sqliteColumns lists the columns of a table.
const sqliteColumns = `SELECT name FROM pragma_table_info($1)`

// sqliteDB is the [dialect] of a SQLite file.
type sqliteDB struct {
	path   string // absolute
	logger *slog.Logger
}

func newSQLite(path string, logger *slog.Logger) (*sqliteDB, error) {
	switch {
	case path == "":
		return nil, errors.New("the database path is empty: expected the path of a SQLite file")
	case strings.HasPrefix(path, ":memory:"), strings.HasPrefix(path, "file:"):
		return nil, errors.New("the database path is not a file's: expected a plain path, without the prefixes file: and :memory: of a DSN")
	case strings.ContainsRune(path, 0):
		return nil, errors.New("the database path holds a NUL character")
	case strings.Contains(path, "://"):
		return nil, errors.New("the database path is a URL: expected the path of a SQLite file")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("the database path: %w", err)
	}
	return &sqliteDB{path: abs, logger: logger}, nil
}

func (s *sqliteDB) migrations() migrations.Dialect { return migrations.SQLite }

// openWriter makes file and directory if they are missing, and connects once:
// SQLite has one writer at a time, and a second connection would only wait for
// the first in a way that no context can end.
func (s *sqliteDB) openWriter(ctx context.Context) (*sql.DB, error) {
	warnOfLibc(s.logger)
	if err := s.createFile(); err != nil {
		return nil, err
	}
	pool, err := s.connect(ctx, 1, "immediate", sqliteBusyTimeout, sqliteWAL, sqliteSync, sqliteForeignKeys, sqliteWALLimit, sqliteCache)
	if err != nil {
		return nil, err
	}
	if err := s.refuseForeign(ctx, pool); err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

func (s *sqliteDB) openReader(ctx context.Context) (*sql.DB, error) {
	return s.connect(ctx, max(4, 2*runtime.GOMAXPROCS(0)), "deferred", sqliteBusyTimeout, sqliteQueryOnly)
}

func (s *sqliteDB) openExisting(ctx context.Context) (*sql.DB, error) {
	if exists, err := s.fileExists(); err != nil || !exists {
		return nil, err
	}
	return s.connect(ctx, 1, "deferred", sqliteBusyTimeout, sqliteQueryOnly)
}

// openBulk is openExisting: nothing here is bounded by time.
func (s *sqliteDB) openBulk(ctx context.Context) (*sql.DB, error) { return s.openExisting(ctx) }

// connect opens a pool and its first connection.
func (s *sqliteDB) connect(ctx context.Context, size int, txlock string, pragmas ...string) (*sql.DB, error) {
	pool, err := sql.Open("sqlite", s.dsn(txlock, pragmas...))
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", s.path, err)
	}
	pool.SetMaxOpenConns(size)
	pool.SetMaxIdleConns(size) // an idle connection costs less than preparing its statements again
	if err := pool.PingContext(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("opening %s: %w", s.path, s.explain(err))
	}
	return pool, nil
}

// dsn writes the path as a URI, in which no character of a path has a meaning of
// its own. mode=rw: a file that vanished is an error, not a new empty database.
func (s *sqliteDB) dsn(txlock string, pragmas ...string) string {
	path := filepath.ToSlash(s.path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // C:/dir becomes file:///C:/dir
	}
	query := url.Values{"mode": {"rw"}, "_txlock": {txlock}, "_pragma": pragmas, "_dqs": {"0"}, "_error_rc": {"1"}}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}).String()
}

// refuseForeign keeps us from migrating another program's database.
func (s *sqliteDB) refuseForeign(ctx context.Context, pool *sql.DB) error {
	var ours, tables int
	err := pool.QueryRowContext(ctx,
		`SELECT COUNT(*) FILTER (WHERE name = $1), COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\'`,
		migrations.Table).Scan(&ours, &tables)
	if err != nil {
		return fmt.Errorf("opening %s: %w", s.path, s.explain(err))
	}
	if ours == 0 && tables > 0 {
		return fmt.Errorf("%s is the database of another program: give a path of its own", s.path)
	}
	return nil
}

// hurry has nothing to do: files answer.
func (s *sqliteDB) hurry() (done func()) { return func() {} }

// lockRow is empty: a transaction holds the only write lock from its start.
func (s *sqliteDB) lockRow() string { return "" }

// clock is ours: SQLite runs in this process.
func (s *sqliteDB) clock(now time.Time) string { return strconv.FormatInt(now.UnixMicro(), 10) }

func (s *sqliteDB) isUniqueViolation(err error) bool {
	code := sqliteCode(err)
	return code == sqlite3.SQLITE_CONSTRAINT_UNIQUE || code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY
}

func (s *sqliteDB) isForeignKeyViolation(err error) bool {
	return sqliteCode(err) == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY
}

func (s *sqliteDB) unreachable(err error) error {
	switch sqliteCode(err) & 0xff { // the rest of an extended code is detail
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return ErrBusy
	case sqlite3.SQLITE_FULL:
		return ErrFull
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_PROTOCOL:
		return ErrUnreachable
	}
	if isFileError(err) {
		return ErrUnreachable
	}
	return nil
}

// undone never happens: there is one writer.
func (s *sqliteDB) undone(error) bool { return false }

// lost never happens: there is no connection that could break.
func (s *sqliteDB) lost(error) bool { return false }

// exclusive has nothing to do: a transaction holds the only write lock.
func (s *sqliteDB) exclusive(context.Context, *sql.Tx, []string) error { return nil }

// rowsAtOnce is small: there is no network between us, and the driver looks
// through all parameters for each of them.
func (s *sqliteDB) rowsAtOnce() int { return 4 }

// snapshot copies page by page within a transaction that reads, so that nobody is
// held up. The file that comes of it stands alone: it has no log beside it.
func (s *sqliteDB) snapshot(ctx context.Context, file string) error {
	pool, err := s.connect(ctx, 1, "deferred", sqliteBusyTimeout)
	if err != nil {
		return err
	}
	defer pool.Close()
	if _, err := pool.ExecContext(ctx, `VACUUM INTO $1`, file); err != nil {
		return fmt.Errorf("writing %s: %w", file, s.explain(err))
	}
	return nil
}

// announceRewrite has nobody to tell, but a process of another kind may have
// rewritten the file: the epoch is looked at.
func (s *sqliteDB) announceRewrite(context.Context, *sql.Tx) error { return nil }

func (s *sqliteDB) epochPoll() time.Duration { return sqliteEpochPoll }

// announce has nobody to tell: a SQLite file has one node.
func (s *sqliteDB) announce(context.Context, *sql.Tx, []token.Change) error { return nil }

// hasNodes: a SQLite file has one.
func (s *sqliteDB) hasNodes() bool { return false }

func (s *sqliteDB) announcePurge(context.Context, *sql.Tx, string) error { return nil }

// follow has nobody to hear.
func (s *sqliteDB) follow(context.Context, follower) (stop func(), err error) {
	return func() {}, nil
}

func (s *sqliteDB) numberAfter(ctx context.Context, tx *sql.Tx, table, _ string, last int64) error {
	n, err := affected(tx.ExecContext(ctx, `UPDATE sqlite_sequence SET seq = MAX(seq, $1) WHERE name = $2`, last, table))
	if err == nil && n == 0 {
		_, err = tx.ExecContext(ctx, `INSERT INTO sqlite_sequence (name, seq) VALUES ($1, $2)`, table, last)
	}
	return err
}

// explain names what SQLite's own words leave open.
func (s *sqliteDB) explain(err error) error {
	switch sqliteCode(err) & 0xff {
	case sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("it is not a SQLite database: %w", err)
	case sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("the file is damaged, restore it from a backup: %w", err)
	}
	return err
}

// sqliteCode is the driver's extended result code, or 0.
func sqliteCode(err error) int {
	if e := (*sqlite.Error)(nil); errors.As(err, &e) {
		return e.Code()
	}
	return 0
}
