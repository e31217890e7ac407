package storage

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

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

	// enterTerms inserts rows into event_terms that are not there yet.
	enterTerms(ctx context.Context, tx *sql.Tx, terms, ids []string) error

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

// enterTerms binds each row: what SQLite would do to read terms and ids from the events
// and to sort them costs more.
func (s *sqliteDB) enterTerms(ctx context.Context, tx *sql.Tx, terms, ids []string) error {
	args := make([]any, 0, 2*len(terms))
	for i := range terms {
		args = append(args, terms[i], ids[i])
	}
	var stmts [len(eventChunks)]*sql.Stmt // closed with tx
	return eachChunk(args, 2, func(chunk int, args []any) (err error) {
		if stmts[chunk] == nil {
			query := `INSERT INTO event_terms (term, id) VALUES ` + rowParams(eventChunks[chunk], 2, s.eventParam) + ` ON CONFLICT (term, id) DO NOTHING`
			if stmts[chunk], err = tx.PrepareContext(ctx, query); err != nil {
				return err
			}
		}
		_, err = stmts[chunk].ExecContext(ctx, args...)
		return err
	})
}

const (
	eventColumns = 9
	maxTerm      = 256 // bytes of a model or end user in a key
	payloadBlock = 64 << 10

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
		query := `INSERT INTO events (id, created_at, project_id, token_id, provider, model, status, outcome, payload) VALUES ` +
			rowParams(rows, eventColumns, param) + ` ON CONFLICT (id) DO NOTHING`
		stmt, err := pool.PrepareContext(ctx, query)
		if err != nil {
			return s.stmts, fmt.Errorf("preparing to append events: %w", err)
		}
		s.stmts[i] = stmt
	}
	return s.stmts, nil
}

// rowParams are the parameters of an INSERT of several rows.
func rowParams(rows, columns int, param func(n int) string) string {
	var text strings.Builder
	for n := range rows * columns {
		switch {
		case n == 0:
			text.WriteString("(")
		case n%columns == 0:
			text.WriteString("), (")
		default:
			text.WriteString(", ")
		}
		text.WriteString(param(n + 1))
	}
	text.WriteString(")")
	return text.String()
}

// eachChunk calls insert for rows, as many at once as one of eventChunks.
func eachChunk(args []any, columns int, insert func(chunk int, args []any) error) error {
	for i, rows := range eventChunks {
		for size := rows * columns; len(args) >= size; args = args[size:] {
			if err := insert(i, args[:size]); err != nil {
				return err
			}
		}
	}
	return nil
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
		return eachChunk(args, eventColumns, func(chunk int, args []any) error {
			if _, err := tx.tx.StmtContext(ctx, stmts[chunk]).ExecContext(ctx, args...); err != nil {
				return fmt.Errorf("appending events: %w", tx.fail(err))
			}
			return nil
		})
	})
}

// eventArgs makes rows of events. What a request has put into them is made
// storable rather than refused: one event must not keep others from being kept.
func eventArgs(events []*event.Event) ([]any, error) {
	args := make([]any, 0, len(events)*eventColumns)
	names := idNames{}
	// Payloads are parts of one string for many of them, as one each is dear.
	var block []byte
	first, ends := 0, []int{}
	seal := func() {
		text, from := string(block), 0
		for i, end := range ends {
			args[(first+i)*eventColumns+eventColumns-1] = text[from:end]
			from = end
		}
		first, ends, block = first+len(ends), ends[:0], block[:0]
	}
	for _, e := range events {
		if e.ID.IsNil() {
			return nil, fmt.Errorf("appending events: one of %d has no id", len(events))
		}
		outcome := term(e.Outcome)
		if e.Alert != nil {
			outcome = alertOutcome
		}
		args = append(args, e.ID.String(), e.Time.UnixMicro(), names.of(e.ProjectID), names.of(e.TokenID),
			term(e.Provider), term(e.Model), int64(e.Status), outcome, nil)
		block = e.AppendJSON(block)
		ends = append(ends, len(block))
		if len(block) >= payloadBlock {
			seal()
		}
	}
	seal()
	return args, nil
}

// idNames are idOrNull in the form that drivers take as it is, made once for each id.
type idNames map[uuid.UUID]any

func (n idNames) of(id uuid.UUID) any {
	if id.IsNil() {
		return nil
	}
	name, ok := n[id]
	if !ok {
		name = id.String()
		n[id] = name
	}
	return name
}

// term is a text of a request as a column or key holds it: the same for the text as it
// came and as a payload has it, in which each byte that is no UTF-8 has become U+FFFD.
func term(s string) string {
	for i := range len(s) {
		if s[i] == 0 || s[i] >= utf8.RuneSelf {
			return clip(strings.Map(storable, s), maxTerm)
		}
	}
	return clip(s, maxTerm)
}

func storable(r rune) rune {
	if r == 0 {
		return utf8.RuneError
	}
	return r
}

// ReadEvents returns up to limit events after a position, in the order of their
// numbers. An event whose transaction is not over hides those with higher numbers,
// so whoever goes on from the last one misses none. Damaged rows are logged and left
// out.
func (db *DB) ReadEvents(ctx context.Context, after int64, limit int) ([]delivery.Entry, error) {
	c, err := db.open()
	if err != nil {
		return nil, err
	}
	list := []delivery.Entry{}
	_, _, err = db.eachEvent(ctx, c.read, after, limit, func(seq int64, e *event.Event) {
		list = append(list, delivery.Entry{Seq: seq, Event: *e})
	})
	if err != nil {
		return nil, fmt.Errorf("reading events: %w", db.classify(err))
	}
	return list, nil
}

// eachEvent is ReadEvents that hands over events one by one: the next one takes the
// place of the one before. It returns how many, and the number of the last row, damaged
// or not.
func (db *DB) eachEvent(ctx context.Context, q querier, after int64, limit int, take func(seq int64, e *event.Event)) (taken int, last int64, err error) {
	horizon, err := db.dialect.eventHorizon(ctx, q)
	if err != nil {
		return 0, after, fmt.Errorf("looking for events that are being written: %w", err)
	}
	var e event.Event
	for last = after; ; after = last {
		rows, err := q.QueryContext(ctx, `SELECT seq, payload FROM events WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3`, after, horizon, limit)
		if err != nil {
			return taken, after, err
		}
		seen := 0
		err = eachRow(rows, func() error {
			var payload string // which the event's texts are parts of: no other copy is made
			if err := rows.Scan(&last, &payload); err != nil {
				return err
			}
			seen++
			if err := event.DecodeInto(payload, &e); err != nil {
				db.logger.Error("database row left out of a list", "error", &damagedRowError{"events", fmt.Sprint(last), err})
				return nil
			}
			taken++
			take(last, &e)
			return nil
		})
		if err != nil {
			return taken, after, err
		}
		if taken > 0 || seen < limit || limit <= 0 { // none says that there is nothing more
			return taken, last, nil
		}
	}
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
