package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// testAlerts has alerts among requests: readers of the log get them in their place, and
// whoever asks for requests does not.
func testAlerts(t *testing.T, b *bundle) {
	ctx := t.Context()
	now := time.Now()
	project, token := newID(t), newID(t)
	var all, requests []*event.Event
	for i := range 20 {
		at := now.Add(time.Duration(i) * time.Second)
		e := eventAt(t, at)
		e.ProjectID, e.TokenID = project, token
		a := event.NewAlert(at, project, token, event.Alert{
			Scope: event.ScopeToken, Limit: event.LimitBudget, Percent: 80, Amount: 10e9, Used: 8e9 + int64(i), Held: 1, Available: 2e9 - int64(i) - 1,
			ResetsAt: at.Add(time.Hour), Period: "month",
		})
		if i%2 > 0 {
			a = event.NewAlert(at, project, uuid.Nil, event.Alert{Scope: event.ScopeProject, Limit: event.LimitRequests, Percent: 100, Amount: 7, Used: 7, Period: "total"})
		}
		all, requests = append(all, e, a), append([]*event.Event{e}, requests...)
	}
	b.appendEvents(all...)
	b.appendEvents(all...) // an ambiguous commit, repeated
	only := func(when string) {
		t.Helper()
		for name, f := range map[string]storage.RequestFilter{
			"all": {}, "project": {ProjectID: project}, "token": {TokenID: token}, "model": {Model: "gpt-4o"}, "status": {Status: 200}, "from": {From: now.Add(-time.Minute)},
		} {
			f.Limit = 100
			list, err := b.Requests(ctx, f)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, when+", "+name, eventIDs(list), eventIDs(requests))
		}
		for _, e := range all {
			_, err := b.EventByID(ctx, e.ID)
			if e.Alert == nil && err != nil {
				t.Error(err)
			} else if e.Alert != nil {
				wantErr(t, "an alert as a request", err, storage.ErrNotFound)
			}
		}
	}
	only("not rolled up")
	for _, want := range []int{1, 1, 1, 1} { // batches that are nothing but an alert among them
		if n, err := b.RollUp(ctx, 1); err != nil || n != want {
			t.Errorf("rolled up %d, error %v", n, err)
		}
	}
	only("in the middle of it")
	if n := b.rollUp(7); n != len(all)-4 {
		t.Errorf("rolled up %d more", n)
	}
	only("rolled up")
	rows, err := b.Usage(ctx, storage.UsageFilter{})
	if err != nil {
		t.Fatal(err)
	}
	n := int64(len(requests))
	equal(t, "usage", rows, []storage.UsageRow{{Usage: storage.Usage{Requests: n, InputTokens: 10 * n, OutputTokens: 5 * n, CostNanoUSD: 7 * n}}})

	// A reader gets all, in order and whole, and its cursor moves over them.
	if _, err := b.OpenCursor(ctx, "sink", true); err != nil {
		t.Fatal(err)
	}
	position := int64(0)
	var read []*event.Event
	for {
		entries, err := b.ReadEvents(ctx, position, 3)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			break
		}
		last := entries[len(entries)-1]
		var dead []delivery.DeadLetter
		if last.Event.Alert != nil {
			dead = []delivery.DeadLetter{{Seq: last.Seq, Event: last.Event, Reason: "refused", Attempts: 1}}
		}
		if moved, err := b.AdvanceCursor(ctx, "sink", position, last.Seq, dead); err != nil || !moved {
			t.Fatal(moved, err)
		}
		position = last.Seq
		for i := range entries {
			read = append(read, &entries[i].Event)
		}
	}
	equal(t, "read", read, all)
	if backlog, err := b.Backlog(ctx, "sink"); err != nil || backlog.Pending != 0 || backlog.Position != position {
		t.Errorf("backlog is %+v, error %v", backlog, err)
	}
	letters, err := b.DeadLetters(ctx, "sink", 0, 100)
	if err != nil || len(letters) == 0 {
		t.Fatalf("%d dead letters, error %v", len(letters), err)
	}
	for _, l := range letters {
		i := slices.IndexFunc(all, func(e *event.Event) bool { return e.ID == l.Event.ID })
		equal(t, "dead letter", &l.Event, all[i])
	}
	if n, err := b.DeleteOldEvents(ctx, time.Microsecond, 100); err != nil || n == 0 {
		t.Errorf("deleted %d, error %v", n, err)
	}
}

func eventIDs(events []*event.Event) []uuid.UUID {
	ids := make([]uuid.UUID, len(events))
	for i, e := range events {
		ids[i] = e.ID
	}
	return ids
}
