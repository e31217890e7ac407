package storage

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/sofatutor/caddy-llm-proxy/migrations"
)

const (
	postgresMaxConns = 16
	// postgresMinConns is one for announcements, one writer, and readers that
	// do not all wait for one slow query.
	postgresMinConns         = 4
	postgresStatementTimeout = 5 * time.Second
	postgresConnectTimeout   = 5 * time.Second
	// postgresIdleInTransaction frees the rows of a transaction whose node is gone
	// without a word.
	postgresIdleInTransaction = 30 * time.Second
	postgresConnMaxIdle       = 5 * time.Minute
	postgresMinVersion        = 13
	postgresApplication       = "llm-proxy"
)

// postgresDB is the [dialect] of a PostgreSQL database.
type postgresDB struct {
	config   *pgx.ConnConfig // of every connection; holds the password
	maxConns int
	logger   *slog.Logger
	node     string // names this DB in what it announces
	wires    wires
	lostAt   atomic.Int64 // UnixNano of the last connection found broken; 0: none
}

func newPostgres(cfg *Config, logger *slog.Logger) (*postgresDB, error) {
	if strings.TrimSpace(cfg.DSN) == "" {
		return nil, errors.New("the database DSN is empty: expected postgres://user:password@host:port/database?sslmode=verify-full")
	}
	config, err := pgx.ParseConfig(cfg.DSN)
	if err != nil {
		// The driver's error quotes the DSN, and what it hides of it is a guess.
		if file := (*fs.PathError)(nil); errors.As(err, &file) {
			return nil, fmt.Errorf("the database DSN names a file that cannot be read: %w", file)
		}
		return nil, errors.New("the database DSN cannot be read: expected postgres://user:password@host:port/database?sslmode=verify-full, with special characters of the password percent-encoded")
	}
	maxConns := cfg.MaxConns
	switch {
	case maxConns == 0:
		maxConns = postgresMaxConns
	case maxConns < postgresMinConns:
		return nil, fmt.Errorf("max_conns is %d: expected at least %d", maxConns, postgresMinConns)
	}
	timeout := cfg.StatementTimeout
	if timeout < 0 {
		return nil, fmt.Errorf("the statement timeout is %s: expected a positive duration", timeout)
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = postgresConnectTimeout
	}
	params := config.RuntimeParams
	if timeout > 0 || params["statement_timeout"] == "" {
		if timeout == 0 {
			timeout = postgresStatementTimeout
		}
		params["statement_timeout"] = milliseconds(timeout)
		params["lock_timeout"] = milliseconds(timeout * 4 / 5) // the shorter one tells why
	}
	params["idle_in_transaction_session_timeout"] = milliseconds(postgresIdleInTransaction)
	params["timezone"] = "UTC"
	params["client_encoding"] = "UTF8"
	switch {
	case cfg.ApplicationName != "":
		params["application_name"] = cfg.ApplicationName
	case params["application_name"] == "":
		params["application_name"] = postgresApplication
	}
	p := &postgresDB{config: config, maxConns: maxConns, logger: logger, node: newNode()}
	config.DialFunc = p.wires.dial(config.DialFunc)
	return p, nil
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(max(d.Milliseconds(), 1), 10) }

func (p *postgresDB) migrations() migrations.Dialect { return migrations.Postgres }

// Writers have connections of their own: when all of them wait for a lock,
// requests can still be recognised. One of all is for announcements.
func (p *postgresDB) writers() int { return max(1, p.maxConns/4) }

func (p *postgresDB) openWriter(ctx context.Context) (*sql.DB, error) {
	return p.connect(ctx, p.writers(), nil)
}

func (p *postgresDB) openReader(ctx context.Context) (*sql.DB, error) {
	return p.connect(ctx, p.maxConns-1-p.writers(), map[string]string{"default_transaction_read_only": "on"})
}

func (p *postgresDB) openExisting(ctx context.Context) (*sql.DB, error) {
	pool, err := p.connect(ctx, 1, map[string]string{"default_transaction_read_only": "on"})
	if sqlState(err) == noSuchDatabase {
		return nil, nil
	}
	return pool, err
}

// postgresUnbounded are the parameters of a connection whose statements take as long
// as they need.
var postgresUnbounded = map[string]string{"statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0"}

func (p *postgresDB) openBulk(ctx context.Context) (*sql.DB, error) {
	params := maps.Clone(postgresUnbounded)
	params["default_transaction_read_only"] = "on"
	pool, err := p.connect(ctx, 1, params)
	if sqlState(err) == noSuchDatabase {
		return nil, nil
	}
	return pool, err
}

// exclusive still has the lock itself bounded, so that whoever comes behind us in
// the queue does not wait for ever.
func (p *postgresDB) exclusive(ctx context.Context, tx *sql.Tx, tables []string) error {
	for _, statement := range []string{
		`LOCK TABLE ` + strings.Join(tables, ", ") + ` IN EXCLUSIVE MODE`,
		`SET LOCAL statement_timeout = 0`,
		`SET LOCAL idle_in_transaction_session_timeout = 0`,
	} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("locking the tables: %w", err)
		}
	}
	return nil
}

func (p *postgresDB) rowsAtOnce() int { return transferRows }

func (p *postgresDB) snapshot(context.Context, string) error { return errNoSnapshot }

// connect opens a pool and its first connection.
func (p *postgresDB) connect(ctx context.Context, size int, params map[string]string) (*sql.DB, error) {
	pool := sql.OpenDB(p.connector(params))
	pool.SetMaxOpenConns(size)
	pool.SetMaxIdleConns(size)
	pool.SetConnMaxIdleTime(postgresConnMaxIdle)
	if err := pool.PingContext(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

// connector makes connections with these parameters besides those of all.
func (p *postgresDB) connector(params map[string]string, options ...stdlib.OptionOpenDB) driver.Connector {
	config := p.config.Copy()
	maps.Copy(config.RuntimeParams, params)
	options = append(options, stdlib.OptionShouldPing(p.shouldPing))
	return postgresConnector{stdlib.GetConnector(*config, options...)}
}

// postgresConnector keeps the connection's settings out of its errors.
type postgresConnector struct{ driver.Connector }

// Connect implements [driver.Connector].
func (c postgresConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, cleanConnectError(err)
	}
	return conn, nil
}

// shouldPing has a connection tested before use that was idle for long, or was
// last used before another one was found broken: they break together.
func (p *postgresDB) shouldPing(_ context.Context, params stdlib.ShouldPingParams) bool {
	return params.IdleDuration > time.Second || time.Now().Add(-params.IdleDuration).UnixNano() <= p.lostAt.Load()
}

// hurry cuts what does not close by itself.
func (p *postgresDB) hurry() (done func()) {
	timer := time.AfterFunc(closeTimeout, p.wires.cut)
	return func() { timer.Stop() }
}

// lockRow waits for other writers of the row, and has them wait.
func (p *postgresDB) lockRow() string { return " FOR UPDATE" }

// clock goes on within a transaction, unlike now().
func (p *postgresDB) clock(time.Time) string {
	return `(extract(epoch FROM clock_timestamp()) * 1000000)::bigint`
}

// inspect refuses a server that cannot hold our data, and a database that is
// another program's.
func (p *postgresDB) inspect(ctx context.Context, pool *sql.DB) error {
	var version int
	var encoding string
	err := pool.QueryRowContext(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_encoding')`).Scan(&version, &encoding)
	if err != nil {
		return fmt.Errorf("asking for the server's version: %w", err)
	}
	if version/10000 < postgresMinVersion {
		return fmt.Errorf("the server is PostgreSQL %d: expected %d or newer", version/10000, postgresMinVersion)
	}
	if encoding != "UTF8" {
		return fmt.Errorf("the database's encoding is %s: expected UTF8", encoding)
	}
	var ours, foreign int
	err = pool.QueryRowContext(ctx,
		`SELECT COUNT(*) FILTER (WHERE tablename = $1), COUNT(*) FILTER (WHERE tablename IN ('projects', 'provider_keys', 'tokens', 'audit_events', 'secrets', 'cert_store', 'cert_locks'))
		 FROM pg_catalog.pg_tables WHERE schemaname = current_schema()`,
		migrations.Table).Scan(&ours, &foreign)
	if err != nil {
		return fmt.Errorf("listing the tables: %w", err)
	}
	if ours == 0 && foreign > 0 {
		return errors.New("the database holds tables of another program: give a database or a schema of its own")
	}
	return nil
}
