package adminapi

import (
	"context"
	"strconv"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

const (
	// eventChunk is how many events are in memory with their bodies, which a list
	// leaves out.
	eventChunk = 100
	// maxTermBytes is how much of a model, a provider or an end user is kept for
	// filters and sums.
	maxTermBytes = 256
)

// maxScanned is how many events one call looks through for those that match a
// filter which the database has no index for. A variable for tests.
var maxScanned = 10_000

// requestView is an event in the form that it has everywhere.
type requestView event.Event

// MarshalJSON implements the form.
func (v *requestView) MarshalJSON() ([]byte, error) {
	return (*event.Event)(v).AppendJSON(nil), nil
}

// withoutBodies is an event as lists show it.
func withoutBodies(e *event.Event) requestView {
	v := requestView(*e)
	v.Request, v.Response, v.RequestTruncated, v.ResponseTruncated = "", "", false, false
	return v
}

// requestFilter selects requests.
type requestFilter struct {
	storage.RequestFilter        // what the database can select by
	provider              string // "": any; as are those below
	outcome               string
	class                 int  // the first digit of the status
	alerts                bool // whether alerts are wanted too
}

// sieves reports whether the database alone cannot apply the filter.
func (f *requestFilter) sieves() bool { return f.provider != "" || f.outcome != "" || f.class != 0 }

// match applies the whole filter, but for times. An alert has a project, and maybe a
// token; it matches nothing else.
func (f *requestFilter) match(e *event.Event) bool {
	switch {
	case e.Alert != nil && !f.alerts,
		!f.ProjectID.IsNil() && e.ProjectID != f.ProjectID,
		!f.TokenID.IsNil() && e.TokenID != f.TokenID,
		f.Status != 0 && e.Status != f.Status,
		f.class != 0 && e.Status/100 != f.class,
		f.outcome != "" && e.Outcome != f.outcome,
		f.provider != "" && !sameTerm(e.Provider, f.provider),
		f.Model != "" && !sameTerm(e.Model, f.Model):
		return false
	}
	return true
}

// sameTerm compares as the database does, which keeps the beginning of a long text.
func sameTerm(a, b string) bool { return clip(a, maxTermBytes) == clip(b, maxTermBytes) }

func (c *call) requestFilter() (f requestFilter, err error) {
	if err := firstOf(
		c.filterID("project_id", &f.ProjectID),
		c.filterID("token_id", &f.TokenID),
		c.filterText("model", &f.Model),
		c.filterText("provider", &f.provider),
		c.filterText("outcome", &f.outcome),
		c.filterStatus(&f.Status, &f.class),
	); err != nil {
		return f, err
	}
	var day bool
	if f.From, _, err = c.moment("from"); err != nil {
		return f, err
	}
	if f.To, day, err = c.moment("to"); err != nil {
		return f, err
	}
	if day {
		f.To = f.To.AddDate(0, 0, 1).Add(-time.Microsecond)
	}
	if !f.To.IsZero() && f.To.Before(f.From) {
		return f, invalid("to", "is before from")
	}
	return f, nil
}

// filterStatus reads a status such as 429, or a class such as 4xx.
func (c *call) filterStatus(status, class *int) error {
	text, given := c.query["status"]
	if !given {
		return nil
	}
	if len(text) == 3 && text[0] >= '1' && text[0] <= '5' {
		if text[1:] == "xx" {
			*class = int(text[0] - '0')
			return nil
		}
		if n, err := strconv.Atoi(text); err == nil && n >= 100 {
			*status = n
			return nil
		}
	}
	return invalid("status", "expected one such as 429, or a class such as 4xx")
}

// filterID reads an id that a list is narrowed to.
func (c *call) filterID(name string, to *uuid.UUID) error {
	text, given := c.query[name]
	if !given {
		return nil
	}
	id, valid := parseID(text)
	if !valid || id.IsNil() {
		return invalid(name, "expected an id (a UUID in lower case)")
	}
	*to = id
	return nil
}

// filterText reads a text that a list is narrowed to.
func (c *call) filterText(name string, to *string) error {
	text, given := c.query[name]
	if given && text == "" {
		return invalid(name, "is empty; leave it out for all")
	}
	*to = text
	return checkText(name, text, maxAuditText)
}

// listRequests lists requests, newest first, or follows the log.
func (a *API) listRequests(c *call) (answer, error) {
	f, err := c.requestFilter()
	if err != nil {
		return answer{}, err
	}
	if _, given := c.query["follow"]; given {
		return a.followRequests(c, &f)
	}
	p, err := c.page()
	if err != nil {
		return answer{}, err
	}
	rows, next, err := a.scanRequests(c.r.Context(), f, p)
	if err != nil {
		return answer{}, err
	}
	if next.IsZero() {
		return c.listing(rows, "")
	}
	return c.listing(rows, formatCursor(next))
}

// scanRequests returns a page and where the next one begins; zero: there is none.
// A page is short when too much was looked through for it.
func (a *API) scanRequests(ctx context.Context, f requestFilter, p page) (rows []requestView, next storage.Cursor, err error) {
	rows = []requestView{}
	next = p.after
	for scanned := 0; scanned < maxScanned; {
		want := eventChunk
		if !f.sieves() {
			want = min(want, p.limit+1-len(rows))
		}
		f.After, f.Limit = next, want
		found, err := a.store.Requests(ctx, f.RequestFilter)
		if err != nil {
			return nil, next, err
		}
		for _, e := range found {
			if f.match(e) {
				if len(rows) == p.limit {
					return rows, next, nil
				}
				rows = append(rows, withoutBodies(e))
			}
			next = storage.Cursor{CreatedAt: e.Time, ID: e.ID}
		}
		if len(found) < want {
			return rows, storage.Cursor{}, nil
		}
		scanned += want
	}
	return rows, next, nil
}

// followEvents is followRequests with alerts among the requests.
func (a *API) followEvents(c *call) (answer, error) {
	f, err := c.requestFilter()
	if err != nil {
		return answer{}, err
	}
	f.alerts = true
	return a.followRequests(c, &f)
}

// followRequests answers what the log has after a position, in its order, which is
// that in which requests ended. The Link header always leads on.
func (a *API) followRequests(c *call, f *requestFilter) (answer, error) {
	for _, name := range []string{"cursor", "from", "to"} {
		if _, given := c.query[name]; given {
			return answer{}, invalid(name, "does not go with follow")
		}
	}
	limit, err := c.limit()
	if err != nil {
		return answer{}, err
	}
	ctx := c.r.Context()
	rows := []requestView{}
	if c.query["follow"] == "now" {
		stats, err := a.store.EventStats(ctx)
		if err != nil {
			return answer{}, err
		}
		return c.linked(rows, "follow", positionText(stats.Last))
	}
	at, err := c.position("follow")
	if err != nil {
		return answer{}, err
	}
	entries, err := a.store.ReadEvents(ctx, at, min(limit, eventChunk))
	if err != nil {
		return answer{}, err
	}
	for i := range entries {
		at = entries[i].Seq
		if f.match(&entries[i].Event) {
			rows = append(rows, withoutBodies(&entries[i].Event))
		}
	}
	return c.linked(rows, "follow", positionText(at))
}

func (a *API) getRequest(c *call) (answer, error) {
	e, err := a.store.EventByID(c.r.Context(), c.ids[0])
	if err != nil {
		return answer{}, found("request", err)
	}
	return ok((*requestView)(e))
}
