package storage

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

// RollUpCursor is the name of the roll-up's place in the event log. Events up to it
// are in the sums, and can be searched by their terms.
const RollUpCursor = "rollup"

// Bounds of what one event adds to a sum, so that no number that a provider made up
// has the sums overflow.
const (
	maxEventTokens = 1 << 40
	maxEventCost   = 1 << 50
)

// termsAtOnce are the rows of terms of one transaction: few enough that nobody who
// waits for SQLite's only writer is kept for long.
const termsAtOnce = 4000

// errMoved says that somebody else has rolled up, or deleted, what we were about to.
var errMoved = errors.New("the roll-up's cursor has moved")

// RollUp takes up to limit events past the roll-up's cursor, enters their terms, and then
// adds them to the sums and moves the cursor in one transaction: each event counts
// exactly once, however many nodes do it and however they end. Alerts add nothing, and
// cannot be searched. It returns how many it took; fewer than limit: there were no more.
//
// The more events it takes at once, the less each of them costs: pages of terms and rows
// of sums are written once for all of them. Other writers have to wait for a part of it at
// most, as it takes several short transactions.
func (db *DB) RollUp(ctx context.Context, limit int) (taken int, err error) {
	if limit <= 0 {
		return 0, errors.New("rolling up: the limit must be positive")
	}
	select { // one at a time, as the others would do it in vain
	case db.rolling <- struct{}{}:
		defer func() { <-db.rolling }()
	case <-ctx.Done():
		return 0, fmt.Errorf("rolling up: %w", ctx.Err())
	}
	for {
		taken, err = db.rollUp(ctx, limit)
		switch {
		case err == nil:
			return taken, nil
		case !errors.Is(err, errMoved):
			return 0, fmt.Errorf("rolling up: %w", err)
		}
	}
}

func (db *DB) rollUp(ctx context.Context, limit int) (int, error) {
	c, err := db.open()
	if err != nil {
		return 0, err
	}
	place, err := db.rollUpPlace(ctx, c.read)
	if err != nil {
		return 0, err
	}
	sums := usageSums{}
	taken, last, err := db.eachEvent(ctx, c.read, place.position, limit, func(_ int64, e *event.Event) { sums.add(e) })
	if err != nil {
		return 0, db.classify(err)
	}
	if last == place.position {
		return 0, nil
	}
	// Terms come first: what has them and is behind the cursor is found in two ways, what
	// has none and is not is found in none. Entering them again changes nothing.
	terms, ids := sums.terms()
	for len(terms) > 0 {
		n := min(len(terms), termsAtOnce)
		err := db.Update(ctx, func(tx *Tx) error {
			if err := tx.lockRollUp(ctx, place); err != nil {
				return err
			}
			if err := db.dialect.enterTerms(ctx, tx.tx, terms[:n], ids[:n]); err != nil {
				return fmt.Errorf("entering events' terms: %w", tx.fail(err))
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
		terms, ids = terms[n:], ids[n:]
	}
	return taken, db.Update(ctx, func(tx *Tx) error {
		if err := tx.lockRollUp(ctx, place); err != nil {
			return err
		}
		if err := tx.addUsage(ctx, sums); err != nil {
			return err
		}
		moved, err := tx.moveCursor(ctx, RollUpCursor, place.position, last)
		if err == nil && !moved {
			err = errMoved
		}
		return err
	})
}

// rollUpPlace is where to go on. lost changes when events behind it are deleted, and moved,
// a time, differs after a restore: what was read before is not entered then.
type rollUpPlace struct{ position, lost, moved int64 }

const rollUpPlaceSQL = `SELECT position, lost, updated_at FROM event_cursors WHERE name = $1`

func (p *rollUpPlace) scan(row *sql.Row) error { return row.Scan(&p.position, &p.lost, &p.moved) }

// rollUpPlace returns the place. The first one to ask makes the cursor.
func (db *DB) rollUpPlace(ctx context.Context, q querier) (p rollUpPlace, err error) {
	err = p.scan(q.QueryRowContext(ctx, rollUpPlaceSQL, RollUpCursor))
	if errors.Is(err, sql.ErrNoRows) {
		if _, err := db.OpenCursor(ctx, RollUpCursor, true); err != nil {
			return p, err
		}
		err = p.scan(q.QueryRowContext(ctx, rollUpPlaceSQL, RollUpCursor))
	}
	return p, db.classify(err)
}

// lockRollUp keeps others from rolling up, and from deleting events, until the
// transaction ends.
func (tx *Tx) lockRollUp(ctx context.Context, place rollUpPlace) error {
	var now rollUpPlace
	err := now.scan(tx.tx.QueryRowContext(ctx, rollUpPlaceSQL+tx.db.dialect.lockRow(), RollUpCursor))
	switch {
	case errors.Is(err, sql.ErrNoRows) || err == nil && now != place:
		return errMoved
	case err != nil:
		return tx.fail(err)
	}
	return nil
}

var addUsageSQL = func() string {
	columns := strings.Join(usageColumns[:], ", ")
	var params, sums []string
	for i := range 6 + len(usageColumns) {
		params = append(params, fmt.Sprintf("$%d", i+1))
	}
	for _, c := range usageColumns {
		sums = append(sums, c+" = usage_hourly."+c+" + excluded."+c)
	}
	return `INSERT INTO usage_hourly (hour, project_id, token_id, provider, model, end_user, ` + columns + `) VALUES (` + strings.Join(params, ", ") +
		`) ON CONFLICT (hour, project_id, token_id, provider, model, end_user) DO UPDATE SET ` + strings.Join(sums, ", ")
}()

// usageSums are what events add to the sums, and their ids.
type usageSums map[usageKey]*usageSum

type usageSum struct {
	Usage
	ids      []uuid.UUID
	statuses []statusID // of errors
}

type statusID struct {
	status int
	id     uuid.UUID
}

func (s usageSums) add(e *event.Event) {
	if e.Alert != nil {
		return
	}
	at := e.Time.UnixMicro()
	key := usageKey{at - mod(at, microsHour), e.ProjectID, e.TokenID, term(e.Provider), term(e.Model), term(e.EndUser)}
	sum := s[key]
	if sum == nil {
		sum = new(usageSum)
		s[key] = sum
	}
	sum.count(e)
	sum.ids = append(sum.ids, e.ID)
	if e.Status >= firstError {
		sum.statuses = append(sum.statuses, statusID{e.Status, e.ID})
	}
}

// terms are what the events are searched by, with their ids. Sorted, as many rows share
// a page then.
func (s usageSums) terms() (terms, ids []string) {
	by := map[string][]uuid.UUID{}
	for key, sum := range s {
		if !key.TokenID.IsNil() {
			t := termToken + key.TokenID.String()
			by[t] = append(by[t], sum.ids...)
		}
		if !key.ProjectID.IsNil() {
			t := termProject + key.ProjectID.String()
			by[t] = append(by[t], sum.ids...)
		}
		if key.Model != "" {
			t := termModel + key.Model
			by[t] = append(by[t], sum.ids...)
		}
		for _, e := range sum.statuses {
			t := termStatus + strconv.Itoa(e.status)
			by[t] = append(by[t], e.id)
		}
	}
	for _, t := range slices.Sorted(maps.Keys(by)) {
		slices.SortFunc(by[t], func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
		for _, id := range by[t] {
			terms, ids = append(terms, t), append(ids, id.String())
		}
	}
	return terms, ids
}

// addUsage adds to the sums, in the order of their keys.
func (tx *Tx) addUsage(ctx context.Context, sums usageSums) error {
	keys := slices.Collect(maps.Keys(sums))
	slices.SortFunc(keys, usageKey.compare)
	var stmt *sql.Stmt
	for _, k := range keys {
		if stmt == nil {
			var err error
			if stmt, err = tx.tx.PrepareContext(ctx, addUsageSQL); err != nil {
				return fmt.Errorf("adding to the usage: %w", tx.fail(err))
			}
			defer stmt.Close()
		}
		args := []any{k.Hour, k.ProjectID, k.TokenID, k.Provider, k.Model, k.EndUser}
		for _, n := range sums[k].fields() {
			args = append(args, *n)
		}
		if _, err := stmt.ExecContext(ctx, args...); err != nil {
			return fmt.Errorf("adding to the usage: %w", tx.fail(err))
		}
	}
	return nil
}

// count adds one event.
func (u *Usage) count(e *event.Event) {
	u.Requests++
	u.InputTokens += bounded(e.InputTokens, maxEventTokens)
	u.CachedTokens += bounded(e.CachedTokens, maxEventTokens)
	u.CacheWriteTokens += bounded(e.CacheWriteTokens, maxEventTokens)
	u.OutputTokens += bounded(e.OutputTokens, maxEventTokens)
	u.ReasoningTokens += bounded(e.ReasoningTokens, maxEventTokens)
	u.CostNanoUSD += bounded(e.CostNanoUSD, maxEventCost)
	switch e.Outcome {
	case "ok", "client_cancelled":
	default:
		u.Errors++
	}
	if e.Cache == "hit" || e.Cache == "stale" {
		u.CacheHits++
	}
	if !e.CostNanoUSD.Known {
		u.Unpriced++
	}
	if e.Estimated {
		u.Estimated++
	}
}

func bounded(c event.Count, most int64) int64 { return min(max(c.N, 0), most) }
