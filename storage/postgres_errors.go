package storage

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATE codes, and classes of them, that mean something to us.
const (
	uniqueViolation     = "23505"
	foreignKeyViolation = "23503"
	serializationFailed = "40001"
	deadlockDetected    = "40P01"
	noSuchDatabase      = "3D000"
	readOnlyTransaction = "25006" // the server has become a standby
	diskFull            = "53100"
	lockNotAvailable    = "55P03"
	queryCancelled      = "57014" // by the statement timeout, or an administrator

	classConnection    = "08"
	classResources     = "53"
	classIntervention  = "57"
	classSystem        = "58"
	severityError      = "ERROR" // worse ones end the connection
	sqlStateClassBytes = 2
)

// sqlState is the server's code for an error, or "".
func sqlState(err error) string {
	if e := (*pgconn.PgError)(nil); errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func (p *postgresDB) isUniqueViolation(err error) bool { return sqlState(err) == uniqueViolation }

func (p *postgresDB) isForeignKeyViolation(err error) bool {
	return sqlState(err) == foreignKeyViolation
}

func (p *postgresDB) undone(err error) bool {
	state := sqlState(err)
	return state == serializationFailed || state == deadlockDetected
}

func (p *postgresDB) unreachable(err error) error {
	state := sqlState(err)
	switch state {
	case "":
		if p.lost(err) {
			return ErrUnreachable
		}
		return nil
	case diskFull:
		return ErrFull
	case lockNotAvailable, serializationFailed, deadlockDetected:
		return ErrBusy
	case queryCancelled, readOnlyTransaction:
		return ErrUnreachable
	}
	switch state[:min(sqlStateClassBytes, len(state))] {
	case classConnection, classResources, classIntervention, classSystem:
		return ErrUnreachable
	}
	return nil
}

// lost is true of a context that ended as well: the driver gives up a connection
// in the middle of a statement. It says nothing about the other connections then.
func (p *postgresDB) lost(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	if !isLost(err) {
		return false
	}
	p.lostAt.Store(time.Now().UnixNano())
	return true
}

func isLost(err error) bool {
	if e := (*pgconn.PgError)(nil); errors.As(err, &e) {
		return e.SeverityUnlocalized != severityError || e.Code[:min(sqlStateClassBytes, len(e.Code))] == classConnection
	}
	for _, broken := range []error{driver.ErrBadConn, pgconn.ErrConnClosed, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed} {
		if errors.Is(err, broken) {
			return true
		}
	}
	var network net.Error
	return errors.As(err, &network)
}

// cleanConnectError takes the settings, with the password among them, out of the
// error of an attempt to connect. Addresses stay: they tell what to look at.
func cleanConnectError(err error) error {
	if e := (*pgconn.ConnectError)(nil); errors.As(err, &e) {
		return fmt.Errorf("connecting: %w", e.Unwrap())
	}
	return fmt.Errorf("connecting: %w", err)
}
