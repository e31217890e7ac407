package storetest

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

func testAudit(t *testing.T, b *bundle) {
	ctx := t.Context()
	var heard []audit.Entry
	t.Cleanup(b.OnAudit(func(e audit.Entry) { heard = append(heard, e) }))
	p := b.project("p")
	full := audit.Entry{
		Actor: "management_token", Action: audit.ProjectUpdate, Outcome: audit.OutcomeSuccess,
		TargetType: audit.TargetProject, TargetID: p.ID, ProjectID: p.ID, ClientIP: "2001:db8::1",
		RequestID: "r-1", Method: "PATCH", Path: "/manage/projects/" + p.ID.String(), UserAgent: "größe/1.0", Reason: "tidy",
		Changes: map[string]audit.Change{
			"name":   {Before: "größe", After: "漢字"},
			"weight": {Before: float64(1), After: float64(2)},
			"label":  {After: ""},
			"key":    {Before: "[redacted]", After: "[redacted]"},
		},
		Occurrences: 1,
	}
	sparse := audit.Entry{Actor: audit.ActorAnonymous, Action: audit.ManagementToken, Outcome: audit.OutcomeDenied,
		Path: "/manage/\xff\x00", UserAgent: "x" + strings.Repeat("ü", 200), Occurrences: 7}
	b.update(func(tx *storage.Tx) error {
		full.Time, sparse.Time = tx.Now(), tx.Now()
		if err := tx.Audit(ctx, full); err != nil {
			return err
		}
		return tx.Audit(ctx, sparse)
	})
	sparse.Path, sparse.UserAgent = "/manage/\uFFFD\uFFFD", "x"+strings.Repeat("ü", 127)
	for i, e := range heard { // what listeners hear is what is stored
		if stored, err := b.AuditEntry(ctx, e.ID); err != nil {
			t.Error(err)
		} else if i == 1 { // the first has numbers and texts that JSON gives back as they were
			equal(t, "entry heard of", *stored, e)
		}
	}
	equal(t, "entries heard of", len(heard), 2)
	if err := b.failing(func(ctx context.Context, tx *storage.Tx) error {
		if err := tx.Audit(ctx, sparse); err != nil {
			return err
		}
		return context.Canceled
	}); err == nil || len(heard) != 2 {
		t.Errorf("after a rollback: error %v, %d entries heard of", err, len(heard))
	}
	heard = nil

	list := func(f storage.AuditFilter) []audit.Entry {
		t.Helper()
		entries, err := b.AuditEntries(ctx, f)
		if err != nil {
			t.Fatal(err)
		}
		for i := range entries {
			if entries[i].ID.Version() != 7 {
				t.Errorf("entry %d has id %s", i, entries[i].ID)
			}
			entries[i].ID = full.ID
		}
		return entries
	}
	equal(t, "entries", list(storage.AuditFilter{}), []audit.Entry{sparse, full})
	equal(t, "newest entry", list(storage.AuditFilter{Limit: 1}), []audit.Entry{sparse})
	equal(t, "entries of the project", list(storage.AuditFilter{TargetID: p.ID}), []audit.Entry{full})
	equal(t, "entries of an action", list(storage.AuditFilter{Action: audit.ManagementToken}), []audit.Entry{sparse})
	equal(t, "entries of both", list(storage.AuditFilter{TargetID: p.ID, Action: audit.ManagementToken}), []audit.Entry{})

	// Entries of one microsecond keep their order, newest first.
	var want []string
	b.update(func(tx *storage.Tx) error {
		for i := range 50 {
			reason := string(rune('A' + i))
			want = append(want, reason)
			if err := tx.Audit(ctx, audit.Entry{Action: audit.TokenRevoke, Outcome: audit.OutcomeSuccess, Reason: reason}); err != nil {
				return err
			}
		}
		return nil
	})
	slices.Reverse(want)
	var got []string
	for _, e := range list(storage.AuditFilter{Action: audit.TokenRevoke}) {
		got = append(got, e.Reason)
	}
	equal(t, "order", got, want)
}
