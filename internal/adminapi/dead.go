package adminapi

import (
	"slices"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
)

const maxDeadIDs = 1000 // of one call

// deadView is an event that a sink has not taken.
type deadView struct {
	ID       int64       `json:"id"`
	Sink     string      `json:"sink"`
	Reason   string      `json:"reason"`
	Attempts int         `json:"attempts"`
	Time     time.Time   `json:"time"`
	Event    requestView `json:"event"`
}

// listDead lists dead letters, oldest first: in that order they are delivered again.
func (a *API) listDead(c *call) (answer, error) {
	limit, err := c.limit()
	if err != nil {
		return answer{}, err
	}
	after, err := c.position("cursor")
	if err != nil {
		return answer{}, err
	}
	sink, given := c.query["sink"]
	if given && sink == "" {
		return answer{}, invalid("sink", "is empty; leave it out for all")
	}
	if err := checkText("sink", sink, maxSinkName); err != nil {
		return answer{}, err
	}
	rows := []deadView{}
	for {
		want := min(eventChunk, limit+1-len(rows))
		letters, err := a.events.Dead(c.r.Context(), sink, after, want)
		if err != nil {
			return answer{}, err
		}
		for i := range letters {
			d := &letters[i]
			if len(rows) == limit {
				return c.listing(rows, positionText(rows[limit-1].ID))
			}
			after = d.ID
			rows = append(rows, deadView{d.ID, d.Sink, d.Reason, d.Attempts, d.Time.UTC(), withoutBodies(&d.Event)})
		}
		if len(letters) < want {
			return c.listing(rows, "")
		}
	}
}

type deadRequeue struct {
	Sink opt[string]  `json:"sink"`
	IDs  opt[[]int64] `json:"ids"`
	All  opt[bool]    `json:"all"`
}

type requeuedView struct {
	Requeued int64 `json:"requeued"`
}

// requeueDead has dead letters delivered again. Whoever means all of them says so.
func (a *API) requeueDead(c *call) (answer, error) {
	var in deadRequeue
	if err := c.decode(&in); err != nil {
		return answer{}, err
	}
	ids, all := in.IDs.value, in.All.value
	switch {
	case required("sink", in.Sink) != nil:
		return answer{}, required("sink", in.Sink)
	case len(ids) > 0 == all:
		return answer{}, invalid("ids", `expected either "ids" with those of dead letters, or "all": true`)
	case len(ids) > maxDeadIDs:
		return answer{}, invalid("ids", "has %d ids, at most %d are allowed", len(ids), maxDeadIDs)
	case slices.ContainsFunc(ids, func(id int64) bool { return id < 1 }):
		return answer{}, invalid("ids", "expected those that GET %s shows", c.r.URL.Path)
	}
	if err := a.checkSink(in.Sink.value); err != nil {
		return answer{}, err
	}
	ch := changes{"sink": {After: in.Sink.value}, "all": {After: true}}
	if !all {
		slices.Sort(ids)
		ids = slices.Compact(ids)
		ch = changes{"sink": {After: in.Sink.value}, "ids": {After: ids}}
	}
	n, err := a.events.Requeue(c.r.Context(), in.Sink.value, ids, a.eventsRecord(c, audit.EventsRequeue, ch))
	if err != nil {
		return answer{}, found("the sink's place in the log was", err)
	}
	return ok(requeuedView{n})
}
