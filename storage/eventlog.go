package storage

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

// eventDialect is what databases do differently about the event log. Its numbers
// are given at the insert and seen at the commit, so a reader that follows them
// must not pass by a number that may still appear.
type eventDialect interface {
	// joinEvents comes before the inserts of a transaction.
	joinEvents(ctx context.Context, tx *sql.Tx) error

	// eventParam is the nth parameter of a statement that has many.
	eventParam(n int) string

	// eventHorizon is the number up to which none will appear any more.
	eventHorizon(ctx context.Context, q querier) (int64, error)

	// numberAfter has the numbers of a table's column go on after last, at least.
	numberAfter(ctx context.Context, tx *sql.Tx, table, column string, last int64) error
}

// Every transaction of a SQLite file comes after the one before it.
func (s *sqliteDB) joinEvents(context.Context, *sql.Tx) error { return nil }

func (s *sqliteDB) eventHorizon(context.Context, querier) (int64, error) { return math.MaxInt64, nil }

// A parameter with a name, such as $1, is looked for among all others with one at
// each execution, which takes half the time of appending.
func (s *sqliteDB) eventParam(int) string { return "?" }

const (
	eventColumns = 9
	maxTerm      = 256 // bytes of a model or end user in a key

	// An alert has an outcome that no request has, so that what is asked of requests
	// leaves it out.
	alertOutcome = "alert"
	isRequest    = "outcome <> '" + alertOutcome + "'"
)

// eventChunks are the numbers of rows of one statement: few, so that each is
// prepared once.
var eventChunks = [...]int{100, 20, 5, 1}

// eventStmts are the prepared statements by number of rows.
type eventStmts struct {
	mu    sync.Mutex
	stmts [len(eventChunks)]*sql.Stmt // closed with their pool
}

// prepare must not be called inside a transaction: SQLite has one connection for it.
func (s *eventStmts) prepare(ctx context.Context, pool *sql.DB, param func(n int) string) ([len(eventChunks)]*sql.Stmt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, rows := range eventChunks {
		if s.stmts[i] != nil {
			continue
		}
		var query strings.Builder
		query.WriteString(`INSERT INTO events (id, created_at, project_id, token_id, provider, model, status, outcome, payload) VALUES `)
		for n := range rows * eventColumns {
			switch {
			case n == 0:
				query.WriteString("(")
			case n%eventColumns == 0:
				query.WriteString("), (")
			default:
				query.WriteString(", ")
			}
			query.WriteString(param(n + 1))
		}
		query.WriteString(`) ON CONFLICT (id) DO NOTHING`)
		stmt, err := pool.PrepareContext(ctx, query.String())
		if err != nil {
			return s.stmts, fmt.Errorf("preparing to append events: %w", err)
		}
		s.stmts[i] = stmt
	}
	return s.stmts, nil
}

// AppendEvents keeps all events or none. Those that are there already, by their
// ids, stay as they are, so that it may be repeated when nobody knows whether it
// was committed. It does not keep what it is given.
func (db *DB) AppendEvents(ctx context.Context, events []*event.Event) error {
	if len(events) == 0 {
		return nil
	}
	c, err := db.open()
	if err != nil {
		return err
	}
	stmts, err := c.appends.prepare(ctx, c.writer, db.dialect.eventParam)
	if err != nil {
		return db.classify(err)
	}
	args, err := eventArgs(events)
	if err != nil {
		return err
	}
	return db.Update(ctx, func(tx *Tx) error {
		if err := db.dialect.joinEvents(ctx, tx.tx); err != nil {
			return fmt.Errorf("appending events: %w", tx.fail(err))
		}
		rest := args
		for i, rows := range eventChunks {
			if len(rest) < rows*eventColumns {
				continue
			}
			stmt := tx.tx.StmtContext(ctx, stmts[i])
			for ; len(rest) >= rows*eventColumns; rest = rest[rows*eventColumns:] {
				if _, err := stmt.ExecContext(ctx, rest[:rows*eventColumns]...); err != nil {
					return fmt.Errorf("appending events: %w", tx.fail(err))
				}
			}
		}
		return nil
	})
}

// eventArgs makes rows of events. What a request has put into them is made
// storable rather than refused: one event must not keep others from being kept.
func eventArgs(events []*event.Event) ([]any, error) {
	args := make([]any, 0, len(events)*eventColumns)
	var buf []byte
	for _, e := range events {
		if e.ID.IsNil() {
			return nil, fmt.Errorf("appending events: one of %d has no id", len(events))
		}
		buf = e.AppendJSON(buf[:0])
		outcome := term(e.Outcome)
		if e.Alert != nil {
			outcome = alertOutcome
		}
		args = append(args, e.ID.String(), e.Time.UnixMicro(), idText(e.ProjectID), idText(e.TokenID),
			term(e.Provider), term(e.Model), int64(e.Status), outcome, string(buf))
	}
	return args, nil
}

// idText is idOrNull in the form that drivers take as it is.
func idText(id uuid.UUID) any {
	if id.IsNil() {
		return nil
	}
	return id.String()
}

// term is a text of a request as a column or key holds it.
func term(s string) string { return clip(cleanText(s), maxTerm) }

// ReadEvents returns up to limit events after a position, in the order of their
// numbers. An event whose transaction is not over hides those with higher numbers,
// so whoever goes on from the last one misses none. Damaged rows are logged and left
// out.
func (db *DB) ReadEvents(ctx context.Context, after int64, limit int) ([]delivery.Entry, error) {
	c, err := db.open()
	if err != nil {
		return nil, err
	}
	list, _, err := db.readEvents(ctx, c.read, after, limit)
	if err != nil {
		return nil, fmt.Errorf("reading events: %w", db.classify(err))
	}
	return list, nil
}

// readEvents also returns the number of the last row, damaged or not.
func (db *DB) readEvents(ctx context.Context, q querier, after int64, limit int) ([]delivery.Entry, int64, error) {
	horizon, err := db.dialect.eventHorizon(ctx, q)
	if err != nil {
		return nil, after, fmt.Errorf("looking for events that are being written: %w", err)
	}
	list := []delivery.Entry{}
	for last := after; ; after = last {
		rows, err := q.QueryContext(ctx, `SELECT seq, payload FROM events WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3`, after, horizon, limit)
		if err != nil {
			return nil, after, err
		}
		seen := 0
		err = eachRow(rows, func() error {
			var payload []byte
			if err := rows.Scan(&last, &payload); err != nil {
				return err
			}
			seen++
			if e, ok := db.decodeEvent(last, payload); ok {
				list = append(list, delivery.Entry{Seq: last, Event: *e})
			}
			return nil
		})
		if err != nil {
			return nil, after, err
		}
		if len(list) > 0 || seen < limit || limit <= 0 { // an empty list says that there is nothing more
			return list, last, nil
		}
	}
}

func (db *DB) decodeEvent(seq int64, payload []byte) (*event.Event, bool) {
	e, err := event.Decode(payload)
	if err != nil {
		db.logger.Error("database row left out of a list", "error", &damagedRowError{"events", fmt.Sprint(seq), err})
	}
	return e, err == nil
}

// EventByID returns one request's event, or [ErrNotFound]: for an alert too.
func (db *DB) EventByID(ctx context.Context, id uuid.UUID) (*event.Event, error) {
	c, err := db.open()
	if err != nil {
		return nil, err
	}
	var payload []byte
	if err := c.read.QueryRowContext(ctx, `SELECT payload FROM events WHERE id = $1 AND `+isRequest, id).Scan(&payload); err != nil {
		return nil, fmt.Errorf("request %s: %w", id, db.classify(err))
	}
	e, err := event.Decode(payload)
	if err != nil {
		return nil, &damagedRowError{"events", id.String(), err}
	}
	return e, nil
}

// EventStats is the size of the event log.
type EventStats struct {
	First, Last int64     // numbers, of which some may be missing in between
	Oldest      time.Time // zero: there is none
}

// EventStats returns the size of the event log.
func (db *DB) EventStats(ctx context.Context) (EventStats, error) {
	c, err := db.open()
	if err != nil {
		return EventStats{}, err
	}
	var s EventStats
	var oldest *time.Time
	err = c.read.QueryRowContext(ctx, `SELECT (SELECT COALESCE(MIN(seq), 0) FROM events), (SELECT COALESCE(MAX(seq), 0) FROM events),
		(SELECT created_at FROM events ORDER BY seq LIMIT 1)`).Scan(&s.First, &s.Last, nullMicros{&oldest})
	if err != nil {
		return s, fmt.Errorf("measuring the event log: %w", db.classify(err))
	}
	if oldest != nil {
		s.Oldest = *oldest
	}
	return s, nil
}
