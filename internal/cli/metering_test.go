package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// eventLog is an event log with the sink archive, to which nobody delivers.
type eventLog struct{ db *storage.DB }

func (l *eventLog) CatchUp(ctx context.Context) (bool, error) {
	n, err := l.db.RollUp(ctx, 1000)
	return n < 1000, err
}

func (l *eventLog) Sinks() []string { return []string{"archive"} }

func (l *eventLog) Lag(ctx context.Context) (lag adminapi.EventLag, err error) {
	lag.Log = event.Stats{Published: 12, Committed: 11, Dropped: 1}
	backlog, err := l.db.Backlog(ctx, "archive")
	if errors.Is(err, storage.ErrNotFound) {
		return lag, nil // it has not begun
	}
	lag.Sinks = []delivery.Status{{Name: "archive", State: delivery.Retrying, Delivered: 7, Pending: backlog.Pending, Dead: backlog.Dead,
		Lag: 90 * time.Second, LastError: "connection refused\x1b[2J"}}
	return lag, err
}

func (l *eventLog) Dead(ctx context.Context, sink string, after int64, limit int) ([]delivery.DeadLetter, error) {
	return l.db.DeadLetters(ctx, sink, after, limit)
}

func (l *eventLog) Replay(ctx context.Context, sink string, from time.Time, record func(*storage.Tx) error) (int64, error) {
	if err := l.db.Update(ctx, record); err != nil {
		return 0, err
	}
	if _, err := l.db.RewindCursor(ctx, sink, from); err != nil {
		return 0, err
	}
	backlog, err := l.db.Backlog(ctx, sink)
	return backlog.Pending, err
}

func (l *eventLog) Requeue(ctx context.Context, sink string, ids []int64, record func(*storage.Tx) error) (int64, error) {
	if err := l.db.Update(ctx, record); err != nil {
		return 0, err
	}
	return l.db.RequeueDead(ctx, sink, ids...)
}

func requestAt(at time.Time, change ...func(*event.Event)) *event.Event {
	e := &event.Event{
		ID: must(uuid.NewV7AtTime(at)), Time: at.UTC().Truncate(time.Microsecond), Method: "POST", Endpoint: "/v1/chat/completions", Provider: "openai", Model: "gpt-4o",
		Status: 200, Outcome: "ok", Attempts: 1, Latency: 1234 * time.Millisecond, Overhead: 250 * time.Microsecond,
		InputTokens: event.Known(100), OutputTokens: event.Known(20), CostNanoUSD: event.Known(250_000_000), UsageSource: event.UsageProvider,
	}
	for _, f := range change {
		f(e)
	}
	return e
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// happened writes events to the log.
func (i *installation) happened(events ...*event.Event) {
	i.t.Helper()
	if err := i.db.AppendEvents(i.t.Context(), events); err != nil {
		i.t.Fatal(err)
	}
}

func day(text string) time.Time { return must(time.Parse(time.DateOnly, text)).Add(12 * time.Hour) }

func TestUsage(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	ctx := t.Context()
	i.do(func(m *Manager) error { return m.CreateProject(ctx, "Search", Fields{}) })
	project := uuid.Must(uuid.FromString(firstID(t, i.json(func(m *Manager) error { return m.GetProject(ctx, "Search") }))))
	in := func(e *event.Event) { e.ProjectID = project }
	i.happened(
		requestAt(day("2026-03-06"), in),
		requestAt(day("2026-03-08"), in, func(e *event.Event) { e.CostNanoUSD = event.Known(1_000_000_000) }),
		requestAt(day("2026-03-09"), func(e *event.Event) {
			e.Model, e.EndUser, e.CostNanoUSD = "o3\x1b[2J", "=anna", event.Known(1)
		}),
		requestAt(day("2026-03-09"), func(e *event.Event) { e.Model, e.CostNanoUSD = "llama", event.Count{} }),
	)
	march := UsageQuery{From: "2026-03-01", To: "2026-03-31", By: []string{"model"}}
	text := i.do(func(m *Manager) error { return m.ShowUsage(ctx, march) })
	want := `MODEL   REQUESTS  ERRORS  HITS  INPUT  CACHED  OUTPUT  COST $
gpt-4o  2         0       0     200    0       40      1.25
llama   1         0       0     100    0       20      0
o3[2J   1         0       0     100    0       20      0.000000001
total   4         0       0     400    0       80      1.250000001

cost $ a day (UTC)
2026-03-06  ██████████                                0.25
2026-03-07                                            0
2026-03-08  ████████████████████████████████████████  1
2026-03-09  █                                         0.000000001
`
	if text != want {
		t.Errorf("usage is\n%s\nwant\n%s", text, want)
	}
	expectText(t, i.err.take(), "1 of 4 requests have no price")

	// Without costs the bars are of tokens; without groups there is one row.
	text = i.do(func(m *Manager) error {
		return m.ShowUsage(ctx, UsageQuery{From: "2026-03-01", To: "2026-03-31", Model: "llama"})
	})
	want = `REQUESTS  ERRORS  HITS  INPUT  CACHED  OUTPUT  COST $
1         0       0     100    0       20      0

tokens a day (UTC)
2026-03-09  ████████████████████████████████████████  120
`
	if text != want {
		t.Errorf("usage is\n%s\nwant\n%s", text, want)
	}
	text = i.do(func(m *Manager) error {
		return m.ShowUsage(ctx, UsageQuery{From: "2026-03-01", To: "2026-03-31", By: []string{"project", "day"}, Project: "Search"})
	})
	expectText(t, text, "PROJECT  DAY", "Search   2026-03-06  1", "Search   2026-03-08  1", "total    -           2")
	text = i.do(func(m *Manager) error {
		return m.ShowUsage(ctx, UsageQuery{From: "2026-03-01T00:00:00Z", To: "2026-03-31", By: []string{"end_user", "token", "provider", "hour"}, EndUser: "=anna", Provider: "openai"})
	})
	expectText(t, text, "END USER", "=anna", "2026-03-09T12:00:00Z", "00000000-0000-0000-0000-000000000000")
	if text := i.do(func(m *Manager) error { return m.ShowUsage(ctx, UsageQuery{By: []string{"model"}, From: "7d"}) }); strings.Contains(text, "a day") {
		t.Errorf("a chart of nothing: %s", text)
	}

	csv := i.do(func(m *Manager) error {
		q := march
		q.CSV, q.By = true, []string{"end_user", "model"}
		return m.ShowUsage(ctx, q)
	})
	if lines := strings.Split(csv, "\r\n"); len(lines) != 5 || !strings.HasPrefix(lines[0], "end_user,model,requests,") || !strings.HasPrefix(lines[3], "'=anna,o3 [2J,1,") {
		t.Errorf("CSV: %q", lines)
	}
	var u usageAnswer
	if err := json.Unmarshal([]byte(i.json(func(m *Manager) error { return m.ShowUsage(ctx, march) })), &u); err != nil || len(u.Rows) != 3 || u.Total.Requests != 4 {
		t.Errorf("JSON: %+v, %v", u, err)
	}

	expectError(t, i.m.ShowUsage(ctx, UsageQuery{From: "yesterday"}), true, "--from: expected a day")
	expectError(t, i.m.ShowUsage(ctx, UsageQuery{To: "CANARY"}), true, "--to: expected a day")
	expectError(t, i.m.ShowUsage(ctx, UsageQuery{Token: "x"}), true, "token")
	expectError(t, i.m.ShowUsage(ctx, UsageQuery{Project: "Nobody"}), false, "no project")
	expectError(t, i.m.ShowUsage(ctx, UsageQuery{By: []string{"cost"}}), false, "group_by: expected some of", "invalid_request")
	expectError(t, i.m.ShowUsage(ctx, UsageQuery{By: []string{"cost"}, CSV: true}), false, "group_by: expected some of")
	i.m.Out.JSON = true
	expectError(t, i.m.ShowUsage(ctx, UsageQuery{CSV: true}), true, "--csv and --json")
}

func TestRequests(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	ctx := t.Context()
	start := day("2026-03-09")
	var want []string
	for n := range 7 {
		e := requestAt(start.Add(time.Duration(n)*time.Hour), func(e *event.Event) {
			e.TTFT, e.EndUser, e.Metadata, e.Request = 15*time.Millisecond, "anna", map[string]string{"team": "x"}, "the prompt\x1b[2J"
			if n == 3 {
				e.Status, e.Outcome, e.Code, e.Provider, e.CostNanoUSD = 502, "upstream_error", "upstream_timeout", "azure", event.Count{}
			}
		})
		want = append([]string{e.ID.String()}, want...)
		i.happened(e)
	}
	i.m.Client.pageSize = 2
	for _, test := range []struct {
		filter RequestFilter
		want   []string
	}{
		{RequestFilter{}, want}, {RequestFilter{Limit: 3}, want[:3]}, {RequestFilter{Provider: "azure"}, want[3:4]}, {RequestFilter{Status: "5xx"}, want[3:4]},
		{RequestFilter{Status: "200", Model: "gpt-4o", From: "2026-03-09T17:00:00Z"}, want[:2]}, {RequestFilter{To: "2026-03-09"}, want}, {RequestFilter{From: "1h"}, nil},
		{RequestFilter{Outcome: "upstream_error", From: "2026-03-09", To: "2026-03-10"}, want[3:4]}, {RequestFilter{Token: want[0]}, nil},
	} {
		var rows []struct{ ID string }
		if err := json.Unmarshal([]byte(i.json(func(m *Manager) error { return m.ListRequests(ctx, test.filter) })), &rows); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range rows {
			got = append(got, r.ID)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%+v: %v, want %v", test.filter, got, test.want)
		}
	}
	list := i.do(func(m *Manager) error { return m.ListRequests(ctx, RequestFilter{}) })
	expectText(t, list, "TIME", "2026-03-09T18:00:00Z  200     ok", "0.25    1234  "+want[0], "502     upstream_error  azure     gpt-4o  100    20      -       1234  "+want[3])
	one := i.do(func(m *Manager) error { return m.GetRequest(ctx, strings.ToUpper(want[3])) })
	expectText(t, one, "upstream_timeout", "1234 ms", "15 ms", "250 µs", `{"team":"x"}`, "anna", "the prompt[2J", "POST /v1/chat/completions")
	expectText(t, i.json(func(m *Manager) error { return m.GetRequest(ctx, want[0]) }), `"cost_nano_usd":250000000`, `"request":"the prompt\u001b[2J"`)

	expectError(t, i.m.GetRequest(ctx, "x"), true, "id of a request")
	expectError(t, i.m.GetRequest(ctx, "0190aaaa-0000-7000-8000-000000000000"), false, "request not found")
	expectError(t, i.m.ListRequests(ctx, RequestFilter{Limit: -1}), true, "--limit")
	expectError(t, i.m.ListRequests(ctx, RequestFilter{From: "CANARY"}), true, "--from")
	expectError(t, i.m.ListRequests(ctx, RequestFilter{Status: "9xx"}), false, "status: expected one such as 429")
	expectError(t, i.m.ListRequests(ctx, RequestFilter{Project: "Nobody"}), false, "no project")
}

// TestFollowRequests sees each request once: the newest ones first, then those that
// come, in the order in which they do.
func TestFollowRequests(t *testing.T) {
	t.Parallel()
	for _, asJSON := range []bool{false, true} {
		t.Run(fmt.Sprint("json ", asJSON), func(t *testing.T) {
			t.Parallel()
			i := newInstallation(t)
			i.m.Out.JSON, i.m.every = asJSON, time.Millisecond
			var want []string
			for n := range 12 {
				e := requestAt(time.Now().Add(time.Duration(n-60) * time.Second))
				if n >= 2 {
					want = append(want, e.ID.String())
				}
				i.happened(e)
			}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- i.m.FollowRequests(ctx, RequestFilter{Model: "gpt-4o"}) }()
			shown := func(n int) {
				t.Helper()
				for deadline := time.Now().Add(30 * time.Second); strings.Count(i.out.String(), "\n") < n; time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("%d lines are not shown: %s", n, i.out.String())
					}
				}
			}
			shown(10)
			for n := range 5 { // of which each began before the one that ended before it
				e := requestAt(time.Now().Add(time.Duration(-n) * time.Hour))
				want = append(want, e.ID.String())
				i.happened(requestAt(time.Now(), func(e *event.Event) { e.Model = "other" }), e)
				shown(11 + n)
			}
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
			lines := strings.Split(strings.TrimSpace(i.out.take()), "\n")
			if len(lines) != len(want) {
				t.Fatalf("%d lines, want %d", len(lines), len(want))
			}
			for n, line := range lines {
				if !strings.Contains(line, want[n]) || json.Valid([]byte(line)) != asJSON {
					t.Errorf("line %d is %q, want request %s", n, line, want[n])
				}
			}
		})
	}
	i := newInstallation(t)
	expectError(t, i.m.FollowRequests(t.Context(), RequestFilter{From: "1h"}), true, "--from")
	expectError(t, i.m.FollowRequests(t.Context(), RequestFilter{Limit: -1}), true, "--limit")
	i.server.Close()
	expectError(t, i.m.FollowRequests(t.Context(), RequestFilter{}), false, "cannot reach")
}

func TestEvents(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	ctx := t.Context()
	expectText(t, i.do(func(m *Manager) error { return m.EventLag(ctx) }), "events           12", "in the database  11", "lost             1", "not summed up    0")
	expectText(t, i.err.take(), "no sink is configured")

	old, young := requestAt(day("2026-03-08")), requestAt(day("2026-03-09"))
	i.happened(old, young)
	if _, err := i.db.OpenCursor(ctx, "archive", true); err != nil {
		t.Fatal(err)
	}
	entries, err := i.db.ReadEvents(ctx, 0, 10)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%d events, %v", len(entries), err)
	}
	letters := []delivery.DeadLetter{
		{Seq: entries[0].Seq, Event: entries[0].Event, Reason: "refused", Attempts: 3},
		{Seq: entries[1].Seq, Event: entries[1].Event, Reason: "refused, too", Attempts: 1},
	}
	if moved, err := i.db.AdvanceCursor(ctx, "archive", 0, entries[1].Seq, letters); err != nil || !moved {
		t.Fatal(moved, err)
	}
	expectText(t, i.do(func(m *Manager) error { return m.EventLag(ctx) }),
		"SINK     STATE     DELIVERED  PENDING  OLDEST  DEAD  LAST ERROR", "archive  retrying  7          0        1m30s   2     connection refused[2J\n")
	expectText(t, i.json(func(m *Manager) error { return m.EventLag(ctx) }), `{"sinks":[{"name":"archive"`)

	i.m.Client.pageSize = 1
	list := i.do(func(m *Manager) error { return m.ListDead(ctx, "", 0) })
	expectText(t, list, "ID  SINK     TIME", old.ID.String()+"  refused\n", young.ID.String()+"  refused, too\n")
	var rows []deadView
	if err := json.Unmarshal([]byte(i.json(func(m *Manager) error { return m.ListDead(ctx, "archive", 1) })), &rows); err != nil || len(rows) != 1 || rows[0].Event.ID != old.ID.String() {
		t.Fatalf("%+v, %v", rows, err)
	}
	i.do(func(m *Manager) error { return m.RequeueDead(ctx, "archive", []string{fmt.Sprint(rows[0].ID)}, false) })
	expectText(t, i.err.take(), "1 dead letters are delivered again")
	taken, err := i.db.TakeRequeued(ctx, "archive", 10)
	if err != nil || len(taken) != 1 || taken[0].ID != rows[0].ID {
		t.Errorf("requeued: %v, %v", taken, err)
	}
	expectText(t, i.json(func(m *Manager) error { return m.RequeueDead(ctx, "archive", nil, true) }), `{"requeued":2}`)

	i.do(func(m *Manager) error { return m.Replay(ctx, "archive", "2026-03-09") })
	expectText(t, i.err.take(), "archive has 1 events before it")
	expectText(t, i.json(func(m *Manager) error { return m.Replay(ctx, "archive", "2026-03-08T00:00:00Z") }), `"pending":2`)

	expectError(t, i.m.Replay(ctx, "", "1h"), true, "--sink is required")
	expectError(t, i.m.Replay(ctx, "archive", ""), true, "--from is required")
	expectError(t, i.m.Replay(ctx, "archive", "CANARY"), true, "--from: expected a day")
	expectError(t, i.m.Replay(ctx, "nobody", "1h"), false, "configured are archive", "not_found")
	expectError(t, i.m.ListDead(ctx, "", -1), true, "--limit")
	expectError(t, i.m.RequeueDead(ctx, "", nil, true), true, "--sink is required")
	expectError(t, i.m.RequeueDead(ctx, "archive", nil, false), true, "--all")
	expectError(t, i.m.RequeueDead(ctx, "archive", []string{"1"}, true), true, "--all")
	expectError(t, i.m.RequeueDead(ctx, "archive", []string{"CANARY"}, false), true, "ids of dead letters")
	expectError(t, i.m.RequeueDead(ctx, "nobody", nil, true), false, "sink not found")
}

func TestEveryDay(t *testing.T) {
	if got := everyDay([]string{"2024-02-28", "2024-03-01"}); !slices.Equal(got, []string{"2024-02-28", "2024-02-29", "2024-03-01"}) {
		t.Errorf("a leap year: %v", got)
	}
	for _, days := range [][]string{{"2020-01-01", "2024-01-01"}, {"x", "y"}, {"2024-01-01"}} {
		if got := everyDay(days); !slices.Equal(got, days) {
			t.Errorf("%v: %v", days, got)
		}
	}
}
