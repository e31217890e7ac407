package cli

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	eventsPath = "/manage/events"
	lagPath    = "/manage/events/lag"
	replayPath = "/manage/events/replay"
	deadPath   = "/manage/events/dead"
)

// lagView is what is shown of the event log and its sinks.
type lagView struct {
	Sinks []struct {
		Name      string   `json:"name"`
		State     string   `json:"state"`
		Delivered int64    `json:"delivered"`
		Pending   *int64   `json:"pending"`
		OldestAge *float64 `json:"oldest_age_seconds"`
		Dead      *int64   `json:"dead"`
		LastError string   `json:"last_error"`
	} `json:"sinks"`
	Log struct {
		Published   int64 `json:"published"`
		Committed   int64 `json:"committed"`
		Dropped     int64 `json:"dropped"`
		Pending     int64 `json:"pending"`
		SpillEvents int64 `json:"spill_events"`
		Stored      *struct {
			RollUpPending int64 `json:"roll_up_pending"`
		} `json:"stored"`
	} `json:"log"`
}

// EventLag shows how the event log and its sinks fare.
func (m *Manager) EventLag(ctx context.Context) error {
	data, _, err := m.Client.Do(ctx, http.MethodGet, lagPath, nil, nil)
	if err != nil {
		return err
	}
	return show(m.Out, data, func(v *lagView) error {
		rows := [][]string{}
		for _, s := range v.Sinks {
			rows = append(rows, []string{s.Name, s.State, strconv.FormatInt(s.Delivered, 10), count(s.Pending), age(s.OldestAge), count(s.Dead), s.LastError})
		}
		if len(rows) == 0 {
			m.Out.Notice("no sink is configured")
		} else if err := m.Out.table([]string{"SINK", "STATE", "DELIVERED", "PENDING", "OLDEST", "DEAD", "LAST ERROR"}, rows); err != nil {
			return err
		}
		log := &v.Log
		summedUp := ""
		if log.Stored == nil {
			m.Out.Notice("the database does not answer: what is pending is not known")
		} else {
			summedUp = strconv.FormatInt(log.Stored.RollUpPending, 10)
		}
		return m.Out.details("events", strconv.FormatInt(log.Published, 10), "in the database", strconv.FormatInt(log.Committed, 10),
			"in memory", strconv.FormatInt(log.Pending, 10), "waiting on disk", strconv.FormatInt(log.SpillEvents, 10),
			"lost", strconv.FormatInt(log.Dropped, 10), "not summed up", summedUp)
	})
}

// age is a length of time as people read it.
func age(seconds *float64) string {
	if seconds == nil || *seconds == 0 {
		return ""
	}
	return time.Duration(*seconds * float64(time.Second)).Round(time.Second).String()
}

// Replay has a sink get events again.
func (m *Manager) Replay(ctx context.Context, sink, from string) error {
	switch {
	case sink == "":
		return Usagef("--sink is required: see caddy llm-proxy events lag")
	case from == "":
		return Usagef("--from is required: the time from which on events are delivered again")
	}
	v := url.Values{}
	if err := setMoments(v, time.Now(), from, ""); err != nil {
		return err
	}
	data, _, err := m.Client.Do(ctx, http.MethodPost, replayPath, nil, Fields{"sink": sink, "from": v.Get("from")})
	if err != nil {
		return err
	}
	return show(m.Out, data, func(r *struct {
		Pending int64 `json:"pending"`
	}) error {
		m.Out.Notice("%s has %d events before it", sink, r.Pending)
		return nil
	})
}

// deadView is what is shown of a dead letter.
type deadView struct {
	ID       int64       `json:"id"`
	Sink     string      `json:"sink"`
	Reason   string      `json:"reason"`
	Attempts int         `json:"attempts"`
	Time     *time.Time  `json:"time"`
	Event    requestView `json:"event"`
}

// ListDead lists dead letters, oldest first.
func (m *Manager) ListDead(ctx context.Context, sink string, limit int) error {
	if limit < 0 {
		return Usagef("--limit: expected a positive number")
	}
	query := url.Values{}
	if sink != "" {
		query.Set("sink", sink)
	}
	rows, err := m.Client.list(ctx, deadPath, query, limit)
	if err != nil {
		return err
	}
	return showList(m.Out, rows, []string{"ID", "SINK", "TIME", "ATTEMPTS", "REQUEST", "REASON"}, func(d *deadView) []string {
		return []string{strconv.FormatInt(d.ID, 10), d.Sink, timeText(d.Time, ""), strconv.Itoa(d.Attempts), d.Event.ID, d.Reason}
	})
}

// RequeueDead has dead letters of a sink delivered again.
func (m *Manager) RequeueDead(ctx context.Context, sink string, refs []string, all bool) error {
	switch {
	case sink == "":
		return Usagef("--sink is required: see caddy llm-proxy events dead")
	case len(refs) == 0 && !all, len(refs) > 0 && all:
		return Usagef("give either the ids of dead letters, or --all")
	}
	body := Fields{"sink": sink, "all": true}
	if !all {
		ids := []int64{}
		for _, ref := range refs {
			n, err := strconv.ParseInt(ref, 10, 64)
			if err != nil || n < 1 {
				return Usagef("expected the ids of dead letters: see caddy llm-proxy events dead")
			}
			ids = append(ids, n)
		}
		body = Fields{"sink": sink, "ids": ids}
	}
	data, _, err := m.Client.Do(ctx, http.MethodPost, deadPath, nil, body)
	if err != nil {
		return err
	}
	return show(m.Out, data, func(r *struct {
		Requeued int64 `json:"requeued"`
	}) error {
		m.Out.Notice("%d dead letters are delivered again", r.Requeued)
		return nil
	})
}
