package storetest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

func testAuditQueries(t *testing.T, b *bundle) {
	ctx := t.Context()
	start := time.Date(2026, 3, 29, 1, 59, 59, 999999000, time.UTC)
	project, tok := newID(t), newID(t)
	seeds := []audit.Entry{
		{Actor: "management_token", Action: audit.TokenCreate, Outcome: audit.OutcomeSuccess, TargetType: audit.TargetToken, TargetID: tok, ProjectID: project,
			ClientIP: "192.0.2.1", RequestID: "r-1", Method: "POST", Path: "/manage/tokens", UserAgent: "100%_sure!", Reason: "a"},
		{Actor: audit.ActorAnonymous, Action: audit.ManagementLogin, Outcome: audit.OutcomeDenied, ClientIP: "2001:db8::1", RequestID: "r-2", Method: "GET", UserAgent: "1000 sure"},
		{Actor: audit.ActorToken, Action: audit.ProxyDenied, Outcome: audit.OutcomeDenied, TargetType: audit.TargetToken, TargetID: tok, ProjectID: project,
			ClientIP: "192.0.2.1", Reason: "token_expired", Occurrences: 9},
		{Actor: "management_token", Action: audit.ProjectUpdate, Outcome: audit.OutcomeFailure, TargetType: audit.TargetProject, TargetID: project, ProjectID: project,
			ClientIP: "192.0.2.9", RequestID: "r-4", Method: "PATCH", Path: "/manage/projects/x", UserAgent: "ÄÖ back\\slash", Reason: "project_exists"},
	}
	var all []audit.Entry // newest first
	for i, e := range seeds {
		e.Time = start.Add(time.Duration(i) * time.Microsecond)
		var heard audit.Entry
		remove := b.OnAudit(func(e audit.Entry) { heard = e })
		if err := b.RecordAudit(ctx, []audit.Entry{e}); err != nil {
			t.Fatal(err)
		}
		remove()
		e.ID, e.Occurrences = heard.ID, max(e.Occurrences, 1)
		all = append([]audit.Entry{e}, all...)
	}
	pick := func(numbers ...int) []audit.Entry { // 0 is the newest
		list := []audit.Entry{}
		for _, n := range numbers {
			list = append(list, all[n])
		}
		return list
	}
	for _, test := range []struct {
		name  string
		query storage.AuditQuery
		want  []audit.Entry
	}{
		{"all", storage.AuditQuery{}, all},
		{"action", storage.AuditQuery{Action: audit.ProxyDenied}, pick(1)},
		{"actor", storage.AuditQuery{Actor: "management_token"}, pick(0, 3)},
		{"outcome", storage.AuditQuery{Outcome: audit.OutcomeDenied}, pick(1, 2)},
		{"client", storage.AuditQuery{ClientIP: "192.0.2.1"}, pick(1, 3)},
		{"request", storage.AuditQuery{RequestID: "r-4"}, pick(0)},
		{"method", storage.AuditQuery{Method: "GET"}, pick(2)},
		{"path", storage.AuditQuery{Path: "/manage/tokens"}, pick(3)},
		{"part of a path", storage.AuditQuery{Path: "/manage"}, pick()},
		{"project", storage.AuditQuery{ProjectID: project}, pick(0, 1, 3)},
		{"target", storage.AuditQuery{TargetID: project}, pick(0)},
		{"token", storage.AuditQuery{TokenID: tok}, pick(1, 3)},
		{"a project as token", storage.AuditQuery{TokenID: project}, pick()},
		{"from", storage.AuditQuery{From: start.Add(2 * time.Microsecond)}, pick(0, 1)},
		{"to", storage.AuditQuery{To: start.Add(time.Microsecond)}, pick(2, 3)},
		{"a moment", storage.AuditQuery{From: start, To: start}, pick(3)},
		{"both", storage.AuditQuery{ProjectID: project, Outcome: audit.OutcomeSuccess}, pick(3)},
		{"search", storage.AuditQuery{Search: "SURE"}, pick(2, 3)},
		{"search for the reason", storage.AuditQuery{Search: "Token_Ex"}, pick(1)},
		{"search for an id", storage.AuditQuery{Search: strings.ToUpper(tok.String()[3:])}, pick(1, 3)},
		{"percent sign", storage.AuditQuery{Search: "0%"}, pick(3)},
		{"underscore", storage.AuditQuery{Search: "%_s"}, pick(3)},
		{"exclamation mark", storage.AuditQuery{Search: "sure!"}, pick(3)},
		{"backslash", storage.AuditQuery{Search: `\`}, pick(0)},
		{"beyond ASCII", storage.AuditQuery{Search: "ÄÖ"}, pick(0)},
		{"beyond ASCII in another case", storage.AuditQuery{Search: "äö"}, pick()},
		{"injection", storage.AuditQuery{Search: "' OR '1'='1"}, pick()},
		{"NUL", storage.AuditQuery{Search: "\x00"}, pick()},
		{"invalid UTF-8", storage.AuditQuery{Actor: "\xff"}, pick()},
		{"a long search", storage.AuditQuery{Search: strings.Repeat("%", 1e6)}, pick()},
	} {
		got, total, err := b.AuditPage(ctx, test.query, 0, 100)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		equal(t, test.name, got, test.want)
		equal(t, test.name+": total", total, int64(len(test.want)))
	}
	for _, page := range []struct {
		offset, size int64
		want         []audit.Entry
	}{
		{0, 3, pick(0, 1, 2)}, {3, 3, pick(3)}, {4, 3, pick()}, {1e18, 100, pick()}, {-5, 1, pick(0)}, {0, 0, pick()}, {0, -1, pick()},
	} {
		got, total, err := b.AuditPage(ctx, storage.AuditQuery{}, page.offset, page.size)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "page", got, page.want)
		equal(t, "total", total, int64(len(all)))
	}

	got, err := b.AuditEntry(ctx, all[2].ID)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "entry", *got, all[2])
	_, err = b.AuditEntry(ctx, newID(t))
	wantErr(t, "no such entry", err, storage.ErrNotFound)

	refused := []audit.Entry{{Action: "a", Outcome: audit.OutcomeSuccess}, {Action: "a", Outcome: "maybe"}}
	if err := b.RecordAudit(ctx, refused); err == nil {
		t.Error("an unknown outcome was recorded")
	}
	if _, total, err := b.AuditPage(ctx, storage.AuditQuery{}, 0, 1); err != nil || total != int64(len(all)) {
		t.Errorf("%d entries after a failed batch, error %v", total, err)
	}
}

// testLeases has two owners want what only one may have.
func testLeases(t *testing.T, b *bundle) {
	ctx := t.Context()
	try := func(owner string, ttl time.Duration, want bool) {
		t.Helper()
		got, err := b.TryLease(ctx, "work", owner, ttl)
		if err != nil || got != want {
			t.Errorf("%s has the lease: %v, want %v, error %v", owner, got, want, err)
		}
	}
	try("a", time.Hour, true)
	try("b", time.Hour, false)
	try("a", time.Hour, true)
	if err := b.ReleaseLease(ctx, "work", "b"); err != nil {
		t.Error(err)
	}
	try("b", time.Hour, false)
	if err := b.ReleaseLease(ctx, "work", "a"); err != nil {
		t.Error(err)
	}
	try("b", -time.Second, true) // over at once
	try("a", time.Hour, true)
	if got, err := b.TryLease(ctx, "other work", "b", time.Hour); err != nil || !got {
		t.Errorf("a lease of another name: %v, error %v", got, err)
	}
	if _, err := b.TryLease(ctx, "", "a", time.Hour); err == nil {
		t.Error("a lease without a name")
	}
}

// testCleaning deletes what is old, in batches, and nothing else.
func testCleaning(t *testing.T, b *bundle) {
	ctx := t.Context()
	p := b.project("p")
	now := time.Now()
	at := func(ago time.Duration) *time.Time { past := now.Add(-ago); return &past }
	const day = 24 * time.Hour
	keep := map[uuid.UUID]string{}
	add := func(name string, kept bool, expires, revoked *time.Time) {
		tok := b.newToken(p, name)
		tok.ExpiresAt, tok.RevokedAt, tok.Active = expires, revoked, revoked == nil
		b.update(func(tx *storage.Tx) error { return tx.CreateToken(ctx, tok) })
		if kept {
			keep[tok.ID] = name
		}
	}
	add("lives for ever", true, nil, nil)
	add("lives", true, at(-day), nil)
	add("expired lately", true, at(29*day), nil)
	add("revoked lately", true, nil, at(29*day))
	add("lives, once expired and revoked lately", true, at(-day), at(day))
	for range 5 {
		add("expired long ago", false, at(31*day), nil)
	}
	add("revoked long ago", false, at(-day), at(31*day))
	add("both", false, at(31*day), at(40*day))

	drain := func(name string, run func(ctx context.Context, age time.Duration, limit int) (int64, error), age time.Duration, want ...int64) {
		t.Helper()
		for i, n := range append(want, 0) {
			got, err := run(ctx, age, 3)
			if err != nil || got != n {
				t.Errorf("%s: batch %d deleted %d rows, want %d, error %v", name, i, got, n, err)
			}
		}
	}
	drain("tokens", b.DeleteDeadTokens, 30*day, 3, 3, 1)
	left, err := b.Tokens(ctx, storage.TokenFilter{})
	if err != nil {
		t.Fatal(err)
	}
	names := map[uuid.UUID]string{}
	for _, tok := range left {
		names[tok.ID] = tok.Name
	}
	equal(t, "tokens left", names, keep)

	var entries []audit.Entry
	for i := range 10 {
		entries = append(entries, audit.Entry{Time: now.Add(-time.Duration(i) * day), Action: "a", Outcome: audit.OutcomeSuccess})
	}
	if err := b.RecordAudit(ctx, entries); err != nil {
		t.Fatal(err)
	}
	drain("audit", b.DeleteOldAudit, 5*day-time.Hour, 3, 2)
	if _, total, err := b.AuditPage(ctx, storage.AuditQuery{}, 0, 1); err != nil || total != 5 {
		t.Errorf("%d entries left, error %v", total, err)
	}
	for _, run := range []func(context.Context, time.Duration, int) (int64, error){b.DeleteOldAudit, b.DeleteDeadTokens} {
		if n, err := run(ctx, 0, 3); err == nil {
			t.Errorf("an age of zero deleted %d rows", n)
		}
	}
}
