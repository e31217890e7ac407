package storetest

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// eventAt makes an event of a request that began at a time.
func eventAt(t *testing.T, at time.Time) *event.Event {
	t.Helper()
	id, err := uuid.NewV7AtTime(at)
	if err != nil {
		t.Fatal(err)
	}
	return &event.Event{
		ID: id, Time: at.UTC().Truncate(time.Microsecond), Method: "POST", Endpoint: "/v1/chat/completions", Provider: "openai", Model: "gpt-4o",
		Status: 200, Outcome: "ok", Attempts: 1, Latency: 1234567 * time.Nanosecond, UsageSource: event.UsageProvider,
		InputTokens: event.Known(10), OutputTokens: event.Known(5), CostNanoUSD: event.Known(7),
	}
}

func (b *bundle) appendEvents(events ...*event.Event) {
	b.t.Helper()
	if err := b.AppendEvents(b.t.Context(), events); err != nil {
		b.t.Fatal(err)
	}
}

// rollUp takes everything there is.
func (b *bundle) rollUp(limit int) (taken int) {
	b.t.Helper()
	for {
		n, err := b.RollUp(b.t.Context(), limit)
		if err != nil {
			b.t.Fatal(err)
		}
		if taken += n; n < limit {
			return taken
		}
	}
}

func testEvents(t *testing.T, b *bundle) {
	ctx := t.Context()
	if err := b.AppendEvents(ctx, nil); err != nil {
		t.Error(err)
	}
	var events []*event.Event
	for i := range 257 { // every number of rows of a statement
		e := eventAt(t, time.Now().Add(time.Duration(i)*time.Millisecond))
		e.Status = i
		events = append(events, e)
	}
	odd := events[3]
	odd.Model, odd.Provider, odd.EndUser, odd.Request = "a\x00b\xff", strings.Repeat("ü", 5000), strings.Repeat("x", 5000), "body \x00"
	odd.ProjectID, odd.TokenID, odd.KeyID = newID(t), newID(t), newID(t)
	odd.ClientIP, odd.Metadata = netip.MustParseAddr("2001:db8::1"), map[string]string{"team": "a\x00"}
	b.appendEvents(events...)
	b.appendEvents(events[100:]...) // an ambiguous commit, repeated
	changed := *events[0]
	changed.Status = 999
	b.appendEvents(&changed)
	b.rollUp(1000)

	got, err := b.ReadEvents(ctx, 0, 1000)
	if err != nil || len(got) != len(events) {
		t.Fatalf("%d events, want %d, error %v", len(got), len(events), err)
	}
	last := int64(0)
	for i, e := range got {
		if e.Seq <= last {
			t.Errorf("number %d after %d", e.Seq, last)
		}
		last = e.Seq
		want, _ := event.Decode(events[i].AppendJSON(nil))
		equal(t, "event", e.Event, *want)
	}
	part, err := b.ReadEvents(ctx, got[9].Seq, 5)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "part", part, got[10:15])
	if rest, err := b.ReadEvents(ctx, last, 5); err != nil || len(rest) != 0 {
		t.Errorf("%d events after the last, error %v", len(rest), err)
	}
	one, err := b.EventByID(ctx, odd.ID)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "one", *one, got[3].Event)
	_, err = b.EventByID(ctx, newID(t))
	wantErr(t, "no such event", err, storage.ErrNotFound)
	if err := b.AppendEvents(ctx, []*event.Event{eventAt(t, time.Now()), {}}); err == nil {
		t.Error("an event without an id was kept")
	}
	stats, err := b.EventStats(ctx)
	if err != nil || stats.First != got[0].Seq || stats.Last != last || !stats.Oldest.Equal(events[0].Time) {
		t.Errorf("stats are %+v, error %v", stats, err)
	}
}

func testEventCursors(t *testing.T, b *bundle) {
	ctx := t.Context()
	now := time.Now()
	for i := range 5 {
		b.appendEvents(eventAt(t, now.Add(time.Duration(i)*time.Minute)))
	}
	entries, err := b.ReadEvents(ctx, 0, 10)
	if err != nil || len(entries) != 5 {
		t.Fatalf("%d events, error %v", len(entries), err)
	}
	open := func(name string, fromBeginning bool, want int64) {
		t.Helper()
		if got, err := b.OpenCursor(ctx, name, fromBeginning); err != nil || got != want {
			t.Errorf("cursor %s is at %d, want %d, error %v", name, got, want, err)
		}
	}
	open("all", true, 0)
	open("new", false, entries[4].Seq)
	open("new", true, entries[4].Seq)

	letter := delivery.DeadLetter{Seq: entries[1].Seq, Event: entries[1].Event, Reason: "400\x00 bad", Attempts: 3}
	move := func(from, to int64, want bool, dead ...delivery.DeadLetter) {
		t.Helper()
		if got, err := b.AdvanceCursor(ctx, "all", from, to, dead); err != nil || got != want {
			t.Errorf("moving from %d to %d: %v, want %v, error %v", from, to, got, want, err)
		}
	}
	move(7, entries[1].Seq, false, letter)
	move(0, entries[1].Seq, true, letter, letter)
	move(0, entries[2].Seq, false, letter)
	backlog := delivery.Backlog{Position: entries[1].Seq, Pending: 3, Oldest: entries[2].Event.Time, Dead: 2}
	if got, err := b.Backlog(ctx, "all"); err != nil || got != backlog {
		t.Errorf("backlog is %+v, want %+v, error %v", got, backlog, err)
	}
	if got, err := b.Backlog(ctx, "new"); err != nil || got != (delivery.Backlog{Position: entries[4].Seq}) {
		t.Errorf("backlog is %+v, error %v", got, err)
	}
	_, err = b.Backlog(ctx, "nobody")
	wantErr(t, "nobody's backlog", err, storage.ErrNotFound)

	if got, err := b.RewindCursor(ctx, "new", now.Add(90*time.Second)); err != nil || got != entries[2].Seq-1 {
		t.Errorf("rewound to %d, want %d, error %v", got, entries[2].Seq-1, err)
	}
	if got, err := b.RewindCursor(ctx, "new", now.Add(time.Hour)); err != nil || got != entries[2].Seq-1 {
		t.Errorf("rewound forward to %d, error %v", got, err)
	}
	_, err = b.RewindCursor(ctx, "nobody", now)
	wantErr(t, "nobody's cursor", err, storage.ErrNotFound)
	if err := b.DeleteCursor(ctx, "all"); err != nil {
		t.Error(err)
	}
	cursors, err := b.EventCursors(ctx)
	if err != nil || len(cursors) != 1 || cursors[0].Name != "new" || cursors[0].Position != entries[2].Seq-1 {
		t.Errorf("cursors are %+v, error %v", cursors, err)
	}
	if left, err := b.DeadLetters(ctx, "", 0, 10); err != nil || len(left) != 0 {
		t.Errorf("%d dead letters of a sink that is gone, error %v", len(left), err)
	}
}

func testDeadLetters(t *testing.T, b *bundle) {
	ctx := t.Context()
	b.appendEvents(eventAt(t, time.Now()))
	entries, err := b.ReadEvents(ctx, 0, 1)
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	at := time.UnixMicro(1750000000123456).UTC()
	for _, sink := range []string{"a", "b"} {
		if _, err := b.OpenCursor(ctx, sink, true); err != nil {
			t.Fatal(err)
		}
		var dead []delivery.DeadLetter
		for i := range 3 {
			dead = append(dead, delivery.DeadLetter{Seq: entries[0].Seq, Event: entries[0].Event, Reason: fmt.Sprint("reason ", i), Attempts: i, Time: at})
		}
		if moved, err := b.AdvanceCursor(ctx, sink, 0, entries[0].Seq, dead); err != nil || !moved {
			t.Fatal(moved, err)
		}
	}
	list := func(sink string, want ...string) (ids []int64) {
		t.Helper()
		letters, err := b.DeadLetters(ctx, sink, 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		got := []string{}
		for _, l := range letters {
			got = append(got, l.Sink+" "+l.Reason)
			ids = append(ids, l.ID)
			equal(t, "event", l.Event, entries[0].Event)
		}
		equal(t, "letters", got, append([]string{}, want...))
		return ids
	}
	list("", "a reason 0", "a reason 1", "a reason 2", "b reason 0", "b reason 1", "b reason 2")
	ids := list("a", "a reason 0", "a reason 1", "a reason 2")
	if more, err := b.DeadLetters(ctx, "a", ids[0], 1); err != nil || len(more) != 1 || more[0].ID != ids[1] || !more[0].Time.Equal(at) || more[0].Attempts != 1 {
		t.Errorf("the second page is %+v, error %v", more, err)
	}
	if taken, err := b.TakeRequeued(ctx, "a", 10); err != nil || len(taken) != 0 {
		t.Errorf("%d letters are requeued, error %v", len(taken), err)
	}
	if n, err := b.RequeueDead(ctx, "a", ids[0], ids[2], 1<<40); err != nil || n != 2 {
		t.Errorf("%d letters requeued, error %v", n, err)
	}
	taken, err := b.TakeRequeued(ctx, "a", 10)
	if err != nil || len(taken) != 2 || taken[0].ID != ids[0] || taken[1].ID != ids[2] {
		t.Fatalf("took %+v, error %v", taken, err)
	}
	taken[1].Reason = "again"
	if err := b.SettleRequeued(ctx, "b", []int64{ids[0]}, taken[1:]); err != nil { // another sink's
		t.Error(err)
	}
	if err := b.SettleRequeued(ctx, "a", []int64{ids[0]}, taken[1:]); err != nil {
		t.Error(err)
	}
	list("a", "a reason 1", "a again")
	if taken, err := b.TakeRequeued(ctx, "a", 10); err != nil || len(taken) != 0 {
		t.Errorf("%d letters are requeued still, error %v", len(taken), err)
	}
	if n, err := b.DeleteDead(ctx, "a", ids[1]); err != nil || n != 1 {
		t.Errorf("%d letters deleted, error %v", n, err)
	}
	if n, err := b.DeleteDead(ctx, "b"); err != nil || n != 3 {
		t.Errorf("%d letters deleted, error %v", n, err)
	}
	list("", "a again")
}
