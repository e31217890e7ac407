package adminapi

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

const maxSinkName = 64

// Events is what the API needs of the event log and its sinks beyond what it reads
// from the store itself.
type Events interface {
	// CatchUp adds what is in the log to the sums of usage, and reports whether it
	// got to the end. It gives up on a long backlog rather than keep its caller.
	CatchUp(ctx context.Context) (complete bool, err error)

	// Sinks are the names of those that are configured.
	Sinks() []string

	// Lag tells how the log and its sinks fare. An error means that the database did
	// not answer; what this process knows by itself is there all the same.
	Lag(ctx context.Context) (EventLag, error)

	// Replay has a sink get again what the log has of a time and later, and returns
	// how many events it has before it then. [delivery.ErrNotBehind]: it has not come
	// so far; [storage.ErrNotFound]: it has not begun. Nothing changes unless record
	// succeeds; it runs in a transaction, perhaps more than once.
	Replay(ctx context.Context, sink string, from time.Time, record func(*storage.Tx) error) (pending int64, err error)

	// Dead returns up to limit dead letters with higher ids than after, oldest first:
	// of a sink, configured or not, or of all when it is "".
	Dead(ctx context.Context, sink string, after int64, limit int) ([]delivery.DeadLetter, error)

	// Requeue has dead letters of a sink delivered again, all of them when no ids are
	// given, and returns how many. record is as in Replay; it is not called when there
	// is nothing to requeue.
	Requeue(ctx context.Context, sink string, ids []int64, record func(*storage.Tx) error) (int64, error)
}

// EventLag is how the event log and its sinks fare.
type EventLag struct {
	Sinks  []delivery.Status
	Log    event.Stats        // of this process
	Stored storage.EventStats // of the database
	RollUp delivery.Backlog   // what is not summed up yet
}

// noEvents is a host without an event log.
type noEvents struct{}

func (noEvents) CatchUp(context.Context) (bool, error) { return true, nil }
func (noEvents) Sinks() []string                       { return nil }
func (noEvents) Lag(context.Context) (EventLag, error) { return EventLag{}, nil }
func (noEvents) Dead(context.Context, string, int64, int) ([]delivery.DeadLetter, error) {
	return nil, nil
}

func (noEvents) Replay(context.Context, string, time.Time, func(*storage.Tx) error) (int64, error) {
	return 0, storage.ErrNotFound
}

func (noEvents) Requeue(context.Context, string, []int64, func(*storage.Tx) error) (int64, error) {
	return 0, storage.ErrNotFound
}

// sinkView is how a sink fares. Counts are this process's; what the database knows
// is null while it does not answer.
type sinkView struct {
	Name          string     `json:"name"`
	State         string     `json:"state"`
	Delivered     int64      `json:"delivered"`
	Failed        int64      `json:"failed"`
	Discarded     int64      `json:"discarded"`
	Pending       *int64     `json:"pending"`
	OldestAge     *float64   `json:"oldest_age_seconds"`
	Dead          *int64     `json:"dead"`
	LastError     string     `json:"last_error"`
	LastErrorAt   *time.Time `json:"last_error_at"`
	LastDelivered *time.Time `json:"last_delivered_at"`
	NextAttempt   *time.Time `json:"next_attempt_at"`
}

func viewSink(s *delivery.Status, known bool) sinkView {
	v := sinkView{
		Name: s.Name, State: string(s.State), Delivered: s.Delivered, Failed: s.Failed, Discarded: s.Discarded, LastError: s.LastError,
		LastErrorAt: timeOrNull(s.LastErrorAt), LastDelivered: timeOrNull(s.LastDelivered), NextAttempt: timeOrNull(s.NextAttempt),
	}
	if known {
		age := s.Lag.Seconds()
		v.Pending, v.Dead, v.OldestAge = &s.Pending, &s.Dead, &age
	}
	return v
}

// logView is how the event log fares: what this process has put into it, and what
// the database has.
type logView struct {
	Published     int64       `json:"published"`
	Committed     int64       `json:"committed"`
	Spilled       int64       `json:"spilled"`
	Dropped       int64       `json:"dropped"`
	Pending       int64       `json:"pending"`
	SpillEvents   int64       `json:"spill_events"`
	SpillBytes    int64       `json:"spill_bytes"`
	CommitLatency float64     `json:"commit_latency_ms"`
	Stored        *storedView `json:"stored"`
}

type storedView struct {
	First         int64      `json:"first"`
	Last          int64      `json:"last"`
	Oldest        *time.Time `json:"oldest"`
	RollUpPending int64      `json:"roll_up_pending"`
	RollUpAge     float64    `json:"roll_up_oldest_age_seconds"`
}

type lagView struct {
	Sinks []sinkView `json:"sinks"`
	Log   logView    `json:"log"`
}

// eventLag answers while the database does not, too: that is when people ask.
func (a *API) eventLag(c *call) (answer, error) {
	ctx, cancel := context.WithTimeout(c.r.Context(), pingTimeout)
	defer cancel()
	lag, err := a.events.Lag(ctx)
	known := err == nil
	if !known && c.r.Context().Err() == nil {
		a.log.LogAttrs(c.r.Context(), slog.LevelWarn, "event lag without the database",
			slog.String("request_id", c.requestID), slog.Any("error", err))
	}
	s := lag.Log
	view := lagView{Sinks: make([]sinkView, 0, len(lag.Sinks)), Log: logView{
		Published: s.Published, Committed: s.Committed, Spilled: s.Spilled, Dropped: s.Dropped, Pending: s.Pending,
		SpillEvents: s.SpillEvents, SpillBytes: s.SpillBytes, CommitLatency: float64(s.CommitLatency) / float64(time.Millisecond),
	}}
	for i := range lag.Sinks {
		view.Sinks = append(view.Sinks, viewSink(&lag.Sinks[i], known))
	}
	if known {
		view.Log.Stored = &storedView{
			First: lag.Stored.First, Last: lag.Stored.Last, Oldest: timeOrNull(lag.Stored.Oldest), RollUpPending: lag.RollUp.Pending,
		}
		if oldest := lag.RollUp.Oldest; !oldest.IsZero() {
			view.Log.Stored.RollUpAge = max(0, a.now().Sub(oldest).Seconds())
		}
	}
	return ok(view)
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

type eventsReplay struct {
	Sink opt[string] `json:"sink"`
	From opt[string] `json:"from"`
}

type replayView struct {
	Sink    string    `json:"sink"`
	From    time.Time `json:"from"`
	Pending int64     `json:"pending"`
}

// replayEvents moves a sink back in the log.
func (a *API) replayEvents(c *call) (answer, error) {
	var in eventsReplay
	if err := c.decode(&in); err != nil {
		return answer{}, err
	}
	if err := firstOf(required("sink", in.Sink), required("from", in.From)); err != nil {
		return answer{}, err
	}
	from, _, err := parseMoment("from", in.From.value)
	if err != nil {
		return answer{}, err
	}
	sink := in.Sink.value
	if err := a.checkSink(sink); err != nil {
		return answer{}, err
	}
	pending, err := a.events.Replay(c.r.Context(), sink, from, a.eventsRecord(c, audit.EventsReplay, changes{
		"sink": {After: sink}, "from": {After: from.Format(time.RFC3339Nano)},
	}))
	switch {
	case errors.Is(err, delivery.ErrNotBehind):
		return answer{}, invalid("from", "the sink has not come so far yet, so there is nothing to replay; give an earlier time")
	case err != nil:
		return answer{}, found("the sink's place in the log was", err)
	}
	return ok(replayView{sink, from, pending})
}

// eventsRecord makes the record of a change to what is delivered.
func (a *API) eventsRecord(c *call, action string, ch changes) func(*storage.Tx) error {
	return func(tx *storage.Tx) error {
		e := a.entry(c, action)
		e.TargetType, e.Changes = audit.TargetSink, ch
		return tx.Audit(c.r.Context(), e)
	}
}

// checkSink refuses a sink that is not configured: nobody would deliver to it.
func (a *API) checkSink(name string) error {
	if err := checkText("sink", name, maxSinkName); err != nil {
		return err
	}
	sinks := a.events.Sinks()
	switch {
	case slices.Contains(sinks, name):
		return nil
	case len(sinks) == 0:
		return fail(codeNotFound, "sink not found: none is configured")
	}
	return fail(codeNotFound, "sink not found: configured are "+strings.Join(sinks, ", "))
}
