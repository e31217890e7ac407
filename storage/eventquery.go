package storage

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

// Terms of event_terms: what events are searched by.
const (
	termToken   = "t:"
	termProject = "p:"
	termModel   = "m:"
	termStatus  = "s:"
	firstError  = 400 // lower statuses are no terms, as most requests have them
)

// RequestFilter selects events. The zero filter selects all.
type RequestFilter struct {
	ProjectID uuid.UUID
	TokenID   uuid.UUID
	Model     string
	Status    int
	From, To  time.Time // of requests' beginnings, both inclusive
	After     Cursor    // of which the id counts: requests' ids sort by time
	Limit     int
}

// Requests lists requests, newest first by their ids. Alerts are none. Damaged rows are
// logged and left out.
//
// What the roll-up has seen is found by the rarest term of the filter; what it has
// not, which is seldom more than the last second, is looked through.
func (db *DB) Requests(ctx context.Context, f RequestFilter) ([]*event.Event, error) {
	if f.Limit <= 0 {
		return nil, fmt.Errorf("listing requests: the limit is %d: expected a positive number", f.Limit)
	}
	c, err := db.open()
	if err != nil {
		return nil, err
	}
	list := []*event.Event{}
	for len(list) < f.Limit {
		rest := f
		rest.Limit -= len(list)
		page, last, err := db.requestsOnce(ctx, c.read, rest)
		if err != nil {
			return nil, fmt.Errorf("listing requests: %w", db.classify(err))
		}
		list = append(list, page...)
		if last.IsNil() { // nothing was damaged, or nothing is left
			break
		}
		f.After.ID = last
	}
	return list, nil
}

// requestsOnce returns a page. If it is short because of damaged rows, last is where
// to go on.
func (db *DB) requestsOnce(ctx context.Context, q querier, f RequestFilter) (page []*event.Event, last uuid.UUID, err error) {
	term := f.term()
	found := map[uuid.UUID][]byte{}
	if term != "" {
		// First what is not rolled up: what is meanwhile is found twice, not never.
		w := f.where("e.id")
		w.add("e.seq > (SELECT COALESCE(MAX(position), 0) FROM event_cursors WHERE name = ?)", RollUpCursor)
		if err := f.find(ctx, q, `events e`, "e.id", w, found); err != nil {
			return nil, last, err
		}
		w = f.where("i.id")
		w.equals("i.term", term)
		err = f.find(ctx, q, `event_terms i JOIN events e ON e.id = i.id`, "i.id", w, found)
	} else {
		err = f.find(ctx, q, `events e`, "e.id", f.where("e.id"), found)
	}
	if err != nil {
		return nil, last, err
	}
	ids := make([]uuid.UUID, 0, len(found))
	for id := range found {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return slices.Compare(b[:], a[:]) })
	ids = ids[:min(len(ids), f.Limit)]
	damaged := false
	for _, id := range ids {
		e, err := event.Decode(found[id])
		if err != nil {
			db.logger.Error("database row left out of a list", "error", &damagedRowError{"events", id.String(), err})
			damaged = true
			continue
		}
		page = append(page, e)
	}
	if damaged && len(ids) == f.Limit {
		last = ids[len(ids)-1]
	}
	return page, last, nil
}

// term is the rarest one that the events sought have, "" if none is a term.
func (f *RequestFilter) term() string {
	switch {
	case !f.TokenID.IsNil():
		return termToken + f.TokenID.String()
	case f.Status >= firstError:
		return termStatus + strconv.Itoa(f.Status)
	case !f.ProjectID.IsNil():
		return termProject + f.ProjectID.String()
	case f.Model != "":
		return termModel + term(f.Model)
	}
	return ""
}

// where has the conditions on events, with the id in the column by which they are
// ordered.
func (f *RequestFilter) where(id string) *where {
	w := &where{conditions: []string{"e." + isRequest}}
	if !f.After.ID.IsNil() {
		w.add(id+" < ?", f.After.ID)
	}
	if !f.From.IsZero() {
		w.add(id+" >= ?", idBound(f.From.Add(-idSlack)))
		w.add("e.created_at >= ?", f.From.UnixMicro())
	}
	if !f.To.IsZero() {
		w.add(id+" < ?", idBound(f.To.Add(idSlack)))
		w.add("e.created_at <= ?", f.To.UnixMicro())
	}
	if !f.ProjectID.IsNil() {
		w.add("e.project_id = ?", f.ProjectID)
	}
	if !f.TokenID.IsNil() {
		w.add("e.token_id = ?", f.TokenID)
	}
	if f.Model != "" {
		w.equals("e.model", term(f.Model))
	}
	if f.Status != 0 {
		w.add("e.status = ?", int64(f.Status))
	}
	return w
}

// find adds the newest events to found.
func (f *RequestFilter) find(ctx context.Context, q querier, from, id string, w *where, found map[uuid.UUID][]byte) error {
	rows, err := q.QueryContext(ctx, `SELECT e.id, e.payload FROM `+from+w.String()+` ORDER BY `+id+` DESC LIMIT `+w.param(f.Limit), w.args...)
	if err != nil {
		return err
	}
	return eachRow(rows, func() error {
		var id uuid.UUID
		var payload []byte
		if err := rows.Scan(&id, &payload); err != nil {
			return err
		}
		found[id] = payload
		return nil
	})
}
