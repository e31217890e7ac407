package storage

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	// migrationLock is the advisory lock of whoever migrates: "llmproxy".
	migrationLock int64 = 0x6c6c6d70726f7879

	// migrationPoll is how often a waiting starter tries again. A statement that
	// waits on the server would hold up those migrations that wait for all older
	// statements to end.
	migrationPoll = 50 * time.Millisecond
)

var errLockLost = fmt.Errorf("%w: the connection that held the migration lock was lost", ErrUnreachable)

// lock takes a lock that belongs to one connection, and gives that connection:
// if it breaks, the lock is gone, and so is the migration, whose transaction the
// server takes back. Statements may take as long as they need.
func (p *postgresDB) lock(ctx context.Context) (migrator *sql.DB, unlock func(), err error) {
	pool := sql.OpenDB(&onceConnector{Connector: p.connector(postgresUnbounded, stdlib.OptionAfterConnect(noticeDeath))})
	pool.SetMaxOpenConns(1)
	pool.SetMaxIdleConns(1)
	release := func() {
		done := p.hurry()
		defer done()
		_ = pool.Close() // which releases the lock, and so does dying
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	if err := pool.PingContext(ctx); err != nil {
		return nil, nil, err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("waiting for another node to migrate the database: %w", ctx.Err())
		case <-timer.C:
		}
		var locked bool
		if err := pool.QueryRowContext(ctx, `SELECT pg_try_advisory_lock($1)`, migrationLock).Scan(&locked); err != nil {
			return nil, nil, fmt.Errorf("locking the database: %w", err)
		}
		if locked {
			break
		}
		timer.Reset(migrationPoll/2 + rand.N(migrationPoll))
	}
	if err := p.inspect(ctx, pool); err != nil {
		return nil, nil, err
	}
	return pool, release, nil
}

// noticeDeath has the server look after us while a statement runs: it would else
// finish the statement of a process that was killed before it lets go of the
// lock. Servers before 14, and some systems, cannot.
func noticeDeath(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SELECT set_config('client_connection_check_interval', '1s', FALSE) WHERE current_setting('server_version_num')::int >= 140000`)
	if sqlState(err) != "" && !isLost(err) {
		return nil
	}
	return err
}

// onceConnector connects once: a second connection would not hold the lock.
type onceConnector struct {
	driver.Connector
	used atomic.Bool
}

// Connect implements [driver.Connector].
func (c *onceConnector) Connect(ctx context.Context) (driver.Conn, error) {
	if c.used.Swap(true) {
		return nil, errLockLost
	}
	return c.Connector.Connect(ctx)
}
