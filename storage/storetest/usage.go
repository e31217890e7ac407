package storetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// testRequests searches before, in the middle of and after the roll-up.
func testRequests(t *testing.T, b *bundle) {
	start := time.Date(2026, 3, 29, 1, 59, 59, 0, time.UTC)
	projects, tokens := []uuid.UUID{newID(t), newID(t)}, []uuid.UUID{newID(t), newID(t), newID(t)}
	var events []*event.Event // newest first
	for i := range 60 {
		e := eventAt(t, start.Add(time.Duration(i)*time.Second))
		e.ProjectID, e.TokenID = projects[i%2], tokens[i%3]
		e.Model = []string{"gpt-4o", "claude", "m%_", "gpt-4o"}[i%4]
		e.Status = []int{200, 200, 429, 200, 500}[i%5]
		events = append([]*event.Event{e}, events...)
	}
	shuffled := slices.Clone(events)
	for i := range shuffled { // recorded in another order than begun
		j := i * 37 % len(shuffled)
		shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
	}
	check := func() {
		t.Helper()
		for name, f := range map[string]storage.RequestFilter{
			"all": {}, "project": {ProjectID: projects[1]}, "token": {TokenID: tokens[2]}, "model": {Model: "m%_"}, "no model": {Model: "gpt"},
			"ok": {Status: 200}, "error": {Status: 429}, "no status": {Status: 418}, "stranger": {TokenID: newID(t)},
			"project and token": {ProjectID: projects[0], TokenID: tokens[0]}, "project, error, model": {ProjectID: projects[0], Status: 500, Model: "gpt-4o"},
			"from": {From: start.Add(50 * time.Second)}, "to": {To: start.Add(9 * time.Second)}, "moment": {From: start.Add(time.Second), To: start.Add(time.Second), TokenID: tokens[1]},
			"strange": {Model: "\xff\x00"},
		} {
			var want, got []uuid.UUID
			for _, e := range events {
				if (f.ProjectID.IsNil() || f.ProjectID == e.ProjectID) && (f.TokenID.IsNil() || f.TokenID == e.TokenID) && (f.Model == "" || f.Model == e.Model) &&
					(f.Status == 0 || f.Status == e.Status) && (f.From.IsZero() || !e.Time.Before(f.From)) && (f.To.IsZero() || !e.Time.After(f.To)) {
					want = append(want, e.ID)
				}
			}
			f.Limit = 7
			for {
				page, err := b.Requests(t.Context(), f)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range page {
					got = append(got, e.ID)
					f.After = storage.Cursor{CreatedAt: e.Time, ID: e.ID}
				}
				if len(page) < f.Limit {
					break
				}
			}
			equal(t, name, got, want)
		}
	}
	b.appendEvents(shuffled[:40]...)
	b.appendEvents(shuffled[40:]...)
	check()
	if n, err := b.RollUp(t.Context(), 35); err != nil || n != 35 {
		t.Fatalf("rolled up %d, error %v", n, err)
	}
	check()
	b.rollUp(100)
	check()
	if _, err := b.Requests(t.Context(), storage.RequestFilter{}); err == nil {
		t.Error("a list without limit")
	}
}

// testUsage compares the sums with those of a loop.
func testUsage(t *testing.T, b *bundle) {
	ctx := t.Context()
	start := time.Date(2026, 3, 28, 23, 30, 0, 0, time.UTC)
	project, tok := newID(t), newID(t)
	var want storage.Usage
	var events []*event.Event
	for i := range 90 {
		e := eventAt(t, start.Add(time.Duration(i)*time.Minute))
		e.ProjectID, e.TokenID = project, tok
		e.Provider, e.EndUser = []string{"openai", "anthropic"}[i%2], strings.Repeat("u", i%3)
		e.CachedTokens, e.CacheWriteTokens, e.ReasoningTokens = event.Known(3), event.Known(2), event.Known(1)
		switch i {
		case 10:
			e.Outcome, e.Status, e.Cache = "upstream_error", 502, "miss"
			want.Errors++
		case 11:
			e.Outcome, e.Cache, e.CostNanoUSD, e.Estimated = "client_cancelled", "hit", event.Count{}, true
			want.CacheHits++
			want.Unpriced++
			want.Estimated++
			want.CostNanoUSD -= 7
		case 12: // a provider's invention
			e.InputTokens, e.OutputTokens = event.Known(-5), event.Known(1<<62)
			want.InputTokens -= 10
			want.OutputTokens += 1<<40 - 5
		}
		want.Requests++
		want.InputTokens += 10
		want.OutputTokens += 5
		want.CostNanoUSD += 7
		want.CachedTokens += 3
		want.CacheWriteTokens += 2
		want.ReasoningTokens++
		events = append(events, e)
	}
	b.appendEvents(events...)
	if got := b.rollUp(7); got != 90 {
		t.Errorf("rolled up %d events", got)
	}
	b.rollUp(7)
	usage := func(f storage.UsageFilter) []storage.UsageRow {
		t.Helper()
		rows, err := b.Usage(ctx, f)
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	equal(t, "total", usage(storage.UsageFilter{}), []storage.UsageRow{{Usage: want}})
	requests := func(f storage.UsageFilter) string {
		t.Helper()
		var list []string
		for _, r := range usage(f) {
			name := r.Provider + r.Model + r.EndUser
			if !r.Time.IsZero() {
				name += r.Time.Format("02T15")
			}
			for id, letter := range map[uuid.UUID]string{project: "P", tok: "T"} {
				if r.ProjectID == id || r.TokenID == id {
					name += letter
				}
			}
			list = append(list, fmt.Sprintf("%s:%d", name, r.Requests))
		}
		return strings.Join(list, " ")
	}
	for _, test := range []struct {
		want   string
		filter storage.UsageFilter
	}{
		{"28T23:30 29T00:60", storage.UsageFilter{GroupBy: []string{"hour"}}},
		{"28T00:30 29T00:60", storage.UsageFilter{GroupBy: []string{"day"}}},
		{"anthropic:45 openai:45", storage.UsageFilter{GroupBy: []string{"provider"}}},
		{":30 u:30 uu:30", storage.UsageFilter{GroupBy: []string{"end_user"}}},
		{"P:90", storage.UsageFilter{GroupBy: []string{"project"}, ProjectID: project}},
		{"gpt-4oT:90", storage.UsageFilter{GroupBy: []string{"token", "model"}, TokenID: tok, Model: "gpt-4o"}},
		{"", storage.UsageFilter{GroupBy: []string{"token"}, TokenID: newID(t)}},
		{"openai28T23:15 openai29T00:30", storage.UsageFilter{GroupBy: []string{"hour", "provider"}, Provider: "openai"}},
		{":60", storage.UsageFilter{From: start.Add(time.Hour)}},
		{":30", storage.UsageFilter{From: start.Add(time.Minute), To: start.Add(30 * time.Minute)}},
		{":90", storage.UsageFilter{To: start.Add(31 * time.Minute)}},
	} {
		equal(t, fmt.Sprintf("%+v", test.filter), requests(test.filter), test.want)
	}
	for _, groups := range [][]string{{"hour; DROP TABLE events"}, {"model", "model"}, {""}} {
		if _, err := b.Usage(ctx, storage.UsageFilter{GroupBy: groups}); err == nil {
			t.Errorf("grouped by %q", groups)
		}
	}
	if _, err := b.RollUp(ctx, 0); err == nil {
		t.Error("rolled up nothing at all")
	}
}

// testEventRetention deletes what was read, and later what was not.
func testEventRetention(t *testing.T, b *bundle) {
	ctx := t.Context()
	const day = 24 * time.Hour
	now := time.Now()
	for _, age := range []time.Duration{30 * day, 29 * day, 10 * day, 9 * day, 8 * day, day, 0} {
		e := eventAt(t, now.Add(-age))
		e.TokenID = newID(t)
		b.appendEvents(e)
	}
	entries, err := b.ReadEvents(ctx, 0, 10)
	if err != nil || len(entries) != 7 {
		t.Fatal(len(entries), err)
	}
	if _, err := b.OpenCursor(ctx, "slow", true); err != nil {
		t.Fatal(err)
	}
	if b.rollUp(100) != 7 {
		t.Error("not rolled up")
	}
	drain := func(limit int, want ...int64) {
		t.Helper()
		for _, n := range append(want, 0) {
			if got, err := b.DeleteOldEvents(ctx, 7*day, limit); err != nil || got != n {
				t.Errorf("deleted %d, want %d, error %v", got, n, err)
			}
		}
	}
	drain(10, 2) // older than four weeks, though nobody has read them
	cursors, err := b.EventCursors(ctx)
	if err != nil || len(cursors) != 2 || cursors[0].Lost != 0 || cursors[1].Lost != 2 {
		t.Errorf("cursors are %+v, error %v", cursors, err)
	}
	if moved, err := b.AdvanceCursor(ctx, "slow", 0, entries[3].Seq, nil); err != nil || !moved {
		t.Fatal(moved, err)
	}
	drain(1, 1, 1)
	if moved, err := b.AdvanceCursor(ctx, "slow", entries[3].Seq, entries[6].Seq, nil); err != nil || !moved {
		t.Fatal(moved, err)
	}
	drain(10, 1)
	left, err := b.ReadEvents(ctx, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "left", left, entries[5:])
	for i, e := range entries {
		found, err := b.Requests(ctx, storage.RequestFilter{TokenID: e.Event.TokenID, Limit: 5})
		if err != nil || len(found) != max(0, min(1, i-4)) {
			t.Errorf("event %d is found %d times, error %v", i, len(found), err)
		}
	}
	if rows, err := b.Usage(ctx, storage.UsageFilter{}); err != nil || len(rows) != 1 || rows[0].Requests != 7 {
		text, _ := json.Marshal(rows)
		t.Errorf("usage is %s, error %v", text, err)
	}
	if moved, err := b.AdvanceCursor(ctx, "slow", entries[3].Seq, entries[6].Seq, nil); err != nil || moved {
		t.Fatal(moved, err)
	}
	if n, err := b.DeleteOldEvents(ctx, time.Microsecond, 100); err != nil || n != 2 {
		t.Errorf("deleted %d of the rest, error %v", n, err)
	}
	b.appendEvents(eventAt(t, now)) // its number is new, or readers would miss it
	if next, err := b.ReadEvents(ctx, entries[6].Seq, 10); err != nil || len(next) != 1 {
		t.Errorf("%d events after all were deleted, error %v", len(next), err)
	}
	if _, err := b.DeleteOldEvents(ctx, 0, 10); err == nil {
		t.Error("an age of zero deleted events")
	}
}
