// Package storetest is the conformance suite of package storage: what every
// database must do alike. A new one is done when [Run] passes.
package storetest

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"testing"
	_ "time/tzdata" // the zones below, wherever the suite runs

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// Zones are time zones in which the suite should run, besides the machine's own: one
// west of UTC with daylight saving, and one half an hour off.
var Zones = []string{"America/New_York", "Asia/Kolkata"}

// Run runs the suite. open returns an open and empty database, which it closes when
// the test ends. The caller must not run in parallel with other tests: entries that
// are made at the same moment are in order only if nobody else makes ids meanwhile.
func Run(t *testing.T, open func(t *testing.T) *storage.DB) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, b *bundle)
	}{
		{"Projects", testProjects},
		{"ProjectNames", testProjectNames},
		{"Keys", testKeys},
		{"Credentials", testCredentials},
		{"Tokens", testTokens},
		{"RevokeProjectTokens", testRevokeProjectTokens},
		{"Constraints", testConstraints},
		{"Limits", testLimits},
		{"Text", testText},
		{"Order", testOrder},
		{"Times", testTimes},
		{"Filters", testFilters},
		{"Search", testSearch},
		{"Pages", testPages},
		{"PagesWhileWriting", testPagesWhileWriting},
		{"Audit", testAudit},
		{"AuditQueries", testAuditQueries},
		{"Leases", testLeases},
		{"Cleaning", testCleaning},
		{"Rollback", testRollback},
		{"Changes", testChanges},
		{"Events", testEvents},
		{"EventCursors", testEventCursors},
		{"DeadLetters", testDeadLetters},
		{"Requests", testRequests},
		{"Usage", testUsage},
		{"Alerts", testAlerts},
		{"EventRetention", testEventRetention},
		{"Ledger", testLedger},
		{"LedgerReaping", testLedgerReaping},
		{"LedgerBatch", testLedgerBatch},
		{"LedgerLimits", testLedgerLimits},
		{"LedgerConcurrency", testLedgerConcurrency},
		{"LedgerCleaning", testLedgerCleaning},
		{"Certs", testCerts},
		{"Concurrency", testConcurrency},
		{"Conflicts", testConflicts},
		{"Lifecycle", testLifecycle},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.name != "Audit" && test.name != "Keys" { // which look at that order
				t.Parallel()
			}
			test.run(t, &bundle{DB: open(t), t: t})
		})
	}
}

// bundle is a database with helpers that fail the test.
type bundle struct {
	*storage.DB
	t *testing.T
	n byte // of tokens made
}

// update runs fn in a transaction that must succeed.
func (b *bundle) update(fn func(tx *storage.Tx) error) {
	b.t.Helper()
	if err := b.Update(b.t.Context(), fn); err != nil {
		b.t.Fatal(err)
	}
}

// project makes an active project.
func (b *bundle) project(name string) *project.Project {
	b.t.Helper()
	p := &project.Project{Name: name, Active: true, UseSharedKeys: true}
	b.update(func(tx *storage.Tx) error { return tx.CreateProject(b.t.Context(), p) })
	return p
}

// key makes an active key.
func (b *bundle) key(p *project.Project, provider, text string) *project.Key {
	b.t.Helper()
	k := &project.Key{ProjectID: p.ID, Provider: provider, Weight: 1, Active: true}
	b.update(func(tx *storage.Tx) error { return tx.CreateKey(b.t.Context(), k, secret.NewValue(text)) })
	return k
}

// newToken is an active token that is not stored.
func (b *bundle) newToken(p *project.Project, name string) *token.Token {
	b.t.Helper()
	b.n++
	return &token.Token{
		ID: newID(b.t), ProjectID: p.ID, Name: name, Active: true,
		Hash: append(make([]byte, token.HashSize-1), b.n), HashScheme: token.SchemeHMAC,
	}
}

// token makes an active token.
func (b *bundle) token(p *project.Project, name string) *token.Token {
	b.t.Helper()
	t := b.newToken(p, name)
	b.update(func(tx *storage.Tx) error { return tx.CreateToken(b.t.Context(), t) })
	return t
}

// changes collects what is announced from now on.
func (b *bundle) changes() func() []token.Change {
	var mu sync.Mutex
	var seen []token.Change
	b.t.Cleanup(b.OnChange(func(c token.Change) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, c)
	}))
	return func() []token.Change {
		mu.Lock()
		defer mu.Unlock()
		return seen
	}
}

func newID(t *testing.T) uuid.UUID {
	t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error is %v, want %v", what, err, want)
	}
}

// failing runs fn in a transaction and returns its error.
func (b *bundle) failing(fn func(ctx context.Context, tx *storage.Tx) error) error {
	return b.Update(b.t.Context(), func(tx *storage.Tx) error { return fn(b.t.Context(), tx) })
}
