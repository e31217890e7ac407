package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"database/sql"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
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

// RollUp takes up to limit events past the roll-up's cursor, adds them to the sums,
// enters their terms and moves the cursor, in one transaction: each event counts
// exactly once, however many nodes do it and however they end. Alerts add nothing, and
// cannot be searched. It returns how many it took; fewer than limit: there were no more.
func (db *DB) RollUp(ctx context.Context, limit int) (taken int, err error) {
	if limit <= 0 {
		return 0, errors.New("rolling up: the limit must be positive")
	}
	err = db.Update(ctx, func(tx *Tx) error {
		taken, err = tx.rollUp(ctx, limit)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("rolling up: %w", err)
	}
	return taken, nil
}

func (tx *Tx) rollUp(ctx context.Context, limit int) (int, error) {
	_, err := tx.tx.ExecContext(ctx, `INSERT INTO event_cursors (name, position, updated_at) VALUES ($1, 0, $2) ON CONFLICT (name) DO NOTHING`,
		RollUpCursor, tx.now.UnixMicro())
	if err != nil {
		return 0, tx.fail(err)
	}
	var position int64
	// Other nodes wait here until we are done.
	err = tx.tx.QueryRowContext(ctx, `SELECT position FROM event_cursors WHERE name = $1`+tx.db.dialect.lockRow(), RollUpCursor).Scan(&position)
	if err != nil {
		return 0, tx.fail(err)
	}
	entries, last, err := tx.db.readEvents(ctx, tx.tx, position, limit)
	if err != nil {
		return 0, tx.fail(err)
	}
	if last == position {
		return 0, nil
	}
	if err := tx.addUsage(ctx, entries); err != nil {
		return 0, err
	}
	if err := tx.addTerms(ctx, position, last); err != nil {
		return 0, err
	}
	moved, err := tx.moveCursor(ctx, RollUpCursor, position, last)
	if err == nil && !moved {
		err = fmt.Errorf("the cursor of %s moved by itself", RollUpCursor)
	}
	return len(entries), err
}

// addTerms enters what events are searched by. Sorted, as many rows share a page.
func (tx *Tx) addTerms(ctx context.Context, after, last int64) error {
	const of = ` AS term, id FROM events WHERE seq > $1 AND seq <= $2 AND ` + isRequest + ` AND `
	_, err := tx.tx.ExecContext(ctx, `INSERT INTO event_terms (term, id) SELECT term, id FROM (
			SELECT '`+termToken+`' || CAST(token_id AS TEXT)`+of+`token_id IS NOT NULL
			UNION ALL SELECT '`+termProject+`' || CAST(project_id AS TEXT)`+of+`project_id IS NOT NULL
			UNION ALL SELECT '`+termModel+`' || model`+of+`model <> ''
			UNION ALL SELECT '`+termStatus+`' || CAST(status AS TEXT)`+of+`status >= 400
		) AS terms WHERE TRUE ORDER BY term, id ON CONFLICT (term, id) DO NOTHING`, after, last)
	if err != nil {
		return fmt.Errorf("entering events' terms: %w", tx.fail(err))
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

// addUsage adds the events to the sums, in the order of their keys.
func (tx *Tx) addUsage(ctx context.Context, entries []delivery.Entry) error {
	sums := map[usageKey]*Usage{}
	keys := []usageKey{}
	for i := range entries {
		e := &entries[i].Event
		if e.Alert != nil {
			continue
		}
		at := e.Time.UnixMicro()
		key := usageKey{at - mod(at, microsHour), e.ProjectID, e.TokenID, term(e.Provider), term(e.Model), term(e.EndUser)}
		if sums[key] == nil {
			sums[key] = &Usage{}
			keys = append(keys, key)
		}
		sums[key].add(usageOf(e))
	}
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

// usageOf is what one event adds.
func usageOf(e *event.Event) *Usage {
	u := &Usage{
		Requests:    1,
		InputTokens: bounded(e.InputTokens, maxEventTokens), CachedTokens: bounded(e.CachedTokens, maxEventTokens),
		CacheWriteTokens: bounded(e.CacheWriteTokens, maxEventTokens), OutputTokens: bounded(e.OutputTokens, maxEventTokens),
		ReasoningTokens: bounded(e.ReasoningTokens, maxEventTokens), CostNanoUSD: bounded(e.CostNanoUSD, maxEventCost),
	}
	switch e.Outcome {
	case "ok", "client_cancelled":
	default:
		u.Errors = 1
	}
	if e.Cache == "hit" || e.Cache == "stale" {
		u.CacheHits = 1
	}
	if !e.CostNanoUSD.Known {
		u.Unpriced = 1
	}
	if e.Estimated {
		u.Estimated = 1
	}
	return u
}

func bounded(c event.Count, most int64) int64 { return min(max(c.N, 0), most) }
