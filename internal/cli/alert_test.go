package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

// TestFollowAlerts: events tail shows the alerts among what comes, each on a line, and
// requests --follow does not.
func TestFollowAlerts(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"events", "events as JSON", "requests"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newInstallation(t)
			i.m.Out.JSON, i.m.every = name == "events as JSON", time.Millisecond
			project, token := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
			at := day("2026-03-09")
			budget := event.NewAlert(at, project, token, event.Alert{
				Scope: event.ScopeToken, Limit: event.LimitBudget, Percent: 80, Amount: 10e9, Used: 8_030_000_000, Held: 500_000_000, Available: 1_470_000_000,
				ResetsAt: at.Add(12 * time.Hour), Period: "day",
			})
			quota := event.NewAlert(at, project, uuid.Nil, event.Alert{
				Scope: event.ScopeProject, Limit: "\x1b[2J\nrequests", Percent: 100, Amount: 7, Used: 7, Period: "total", // of a newer version
			})
			before, last := requestAt(time.Now().Add(-time.Minute)), requestAt(time.Now())
			i.happened(event.NewAlert(at, project, token, *budget.Alert), before)

			follow := i.m.FollowEvents
			if name == "requests" {
				follow = i.m.FollowRequests
			}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- follow(ctx, RequestFilter{}) }()
			shown := func(e *event.Event) {
				t.Helper()
				for deadline := time.Now().Add(30 * time.Second); !strings.Contains(i.out.String(), e.ID.String()); time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("%s is not shown: %s", e.ID, i.out.String())
					}
				}
			}
			shown(before)
			i.happened(budget, quota, last)
			shown(last)
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
			lines := strings.Split(strings.TrimSpace(i.out.take()), "\n")
			if name == "requests" {
				if len(lines) != 2 {
					t.Errorf("%d lines: %q", len(lines), lines)
				}
				return
			}
			if len(lines) != 4 || !strings.Contains(lines[0], before.ID.String()) || !strings.Contains(lines[3], last.ID.String()) {
				t.Fatalf("%d lines: %q", len(lines), lines)
			}
			if name == "events as JSON" {
				for n, e := range []*event.Event{budget, quota} {
					var got, want any
					if err := json.Unmarshal([]byte(lines[1+n]), &got); err != nil {
						t.Fatal(err)
					}
					if err := json.Unmarshal(e.AppendJSON(nil), &want); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
						t.Errorf("line %s, want %s", lines[1+n], e.AppendJSON(nil))
					}
				}
				return
			}
			want := fmt.Sprintf("2026-03-09T12:00:00Z  ALERT  80 %% of the token's budget_usd used: 8.03 of 10, 0.5 held, 1.47 left, until 2026-03-10T00:00:00Z  (token %s)  %s", token, budget.ID)
			if lines[1] != want {
				t.Errorf("got  %s\nwant %s", lines[1], want)
			}
			if strings.ContainsRune(lines[2], '\x1b') || !strings.Contains(lines[2], "requests used: 7 of 7, 0 held, 0 left  (project "+project.String()+")") {
				t.Errorf("got %q", lines[2])
			}
		})
	}
}

// TestDeadAlert: an alert that a sink did not take is listed like any other event.
func TestDeadAlert(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	ctx := t.Context()
	alert := event.NewAlert(time.Now(), uuid.Nil, uuid.Must(uuid.NewV7()), event.Alert{Scope: event.ScopeToken, Limit: event.LimitRequests, Percent: 50, Amount: 4, Used: 2})
	i.happened(alert)
	if _, err := i.db.OpenCursor(ctx, "archive", true); err != nil {
		t.Fatal(err)
	}
	entries, err := i.db.ReadEvents(ctx, 0, 10)
	if err != nil || len(entries) != 1 {
		t.Fatal(len(entries), err)
	}
	dead := []delivery.DeadLetter{{Seq: entries[0].Seq, Event: entries[0].Event, Reason: "the collector takes no logs", Attempts: 1}}
	if moved, err := i.db.AdvanceCursor(ctx, "archive", 0, entries[0].Seq, dead); err != nil || !moved {
		t.Fatal(moved, err)
	}
	expectText(t, i.do(func(m *Manager) error { return m.ListDead(ctx, "", 0) }), alert.ID.String()+"  the collector takes no logs\n")
	expectText(t, i.json(func(m *Manager) error { return m.ListDead(ctx, "", 0) }), `"event":`+string(alert.AppendJSON(nil)))
}
