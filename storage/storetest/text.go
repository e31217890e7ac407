package storetest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// testText stores every kind of text, and refuses alike what one database could
// not store.
func testText(t *testing.T, b *bundle) {
	ctx := t.Context()
	p := b.project("p")
	for _, text := range []string{"", " ", "\t\r\n", "\x01\x1f\x7f", "é", "e\u0301", "ß", "İı", "漢字", "🤖🇩🇪👩‍👩‍👧", "\u200b\u202e\ufeff", "\U0010ffff", "\ufffd",
		`\`, `\x00`, `\u0000`, `'`, `"`, `''`, `$1`, `?`, `%s`, `--`, `/*`, `NULL`, "1e5", strings.Repeat("🤖", 255)} {
		tok := b.newToken(p, text)
		tok.Policy = project.Policy{Metadata: map[string]string{"k" + text: text + "\x00"}} // JSON escapes it
		k := &project.Key{ProjectID: p.ID, Provider: "openai", Label: text, Weight: 1, Active: true}
		b.update(func(tx *storage.Tx) error {
			return errors.Join(tx.CreateToken(ctx, tok), tx.CreateKey(ctx, k, secret.NewValue("sk-"+text)))
		})
		record, err := b.LoadToken(ctx, tok.ID)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "token", record.Token, *tok)
		got, err := b.Key(ctx, p.ID, k.ID)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "key", got, k)
		if text != "" {
			found, err := b.Tokens(ctx, storage.TokenFilter{Query: text, Limit: 1})
			if err != nil || len(found) != 1 {
				t.Errorf("searching %q: %d found, %v", text, len(found), err)
			}
		}
	}

	// What is refused has the same words everywhere, and leaves the transaction as
	// it was.
	const refused = "holds invalid UTF-8 or NUL"
	for _, text := range []string{"\x00", "a\x00b", "\xff", "\xc0\x80", "\xed\xa0\x80", "ü\xc3"} {
		b.update(func(tx *storage.Tx) error {
			other := *p
			other.Name = text
			for what, err := range map[string]error{
				"name of a new project": tx.CreateProject(ctx, &project.Project{Name: text}),
				"name of a project":     tx.UpdateProject(ctx, &other),
				"name of a token":       tx.CreateToken(ctx, b.newToken(p, text)),
				"provider":              tx.CreateKey(ctx, &project.Key{ProjectID: p.ID, Provider: text, Weight: 1}, secret.NewValue("x")),
				"label":                 tx.CreateKey(ctx, &project.Key{ProjectID: p.ID, Provider: "x", Label: text, Weight: 1}, secret.NewValue("x")),
			} {
				if err == nil || !strings.Contains(err.Error(), refused) {
					t.Errorf("%s %q: %v", what, text, err)
				}
			}
			return tx.Audit(ctx, audit.Entry{Action: audit.ProjectUpdate, Outcome: audit.OutcomeSuccess, Actor: text, Reason: text, ClientIP: text, RequestID: text})
		})
		for what, n := range map[string]int{
			"projects": count(t, func() ([]project.Project, error) { return b.Projects(ctx, storage.ProjectFilter{Query: text}) }),
			"entries":  count(t, func() ([]audit.Entry, error) { return b.AuditEntries(ctx, storage.AuditFilter{Action: text}) }),
		} {
			equal(t, what+" for "+text, n, 0)
		}
	}
	// A secret is whatever the provider made it; what is shown of it is text.
	for text, want := range map[string]string{"0123456789\x00\x01\x02": "9\ufffd\x01\x02", "0123456789漢字": "\ufffd字", "0123456789\xff\xff\xff\xff": "\ufffd"} {
		equal(t, "last characters", b.key(p, "x", text).Last4, want)
	}
}

func count[T any](t *testing.T, list func() ([]T, error)) int {
	t.Helper()
	found, err := list()
	if err != nil {
		t.Error(err)
	}
	return len(found)
}

// testOrder has lists in the order of bytes, whatever the locale thinks.
func testOrder(t *testing.T, b *bundle) {
	p := b.project("p")
	want := []string{"A", "B-1", "B1", "Z", "_", "a", "b", "z", "ä", "漢"}
	for _, i := range []int{3, 9, 0, 7, 2, 8, 5, 1, 6, 4} {
		b.key(p, want[i], "sk-"+want[i])
	}
	keys, err := b.Keys(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := b.LoadProject(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	var listed, loaded []string
	for i := range keys {
		listed = append(listed, keys[i].Provider)
		loaded = append(loaded, snapshot.Credentials[i].Provider)
	}
	equal(t, "providers", listed, want)
	equal(t, "providers loaded", loaded, want)
}

// testLimits stores what is just within the limits and refuses what is beyond.
func testLimits(t *testing.T, b *bundle) {
	p := b.project(strings.Repeat("漢", 255))
	key := func(change func(k *project.Key)) func(ctx context.Context, tx *storage.Tx) error {
		return func(ctx context.Context, tx *storage.Tx) error {
			k := &project.Key{ProjectID: p.ID, Provider: "openai", Weight: 1}
			change(k)
			return tx.CreateKey(ctx, k, secret.NewValue("x"))
		}
	}
	first := b.key(p, "openai", "sk-first")
	for what, test := range map[string]struct {
		fn   func(ctx context.Context, tx *storage.Tx) error
		want error // nil with refused: any but those that have a name
		ok   bool
	}{
		"the greatest numbers": {fn: key(func(k *project.Key) { k.Weight, k.Priority = 1<<62, 1<<62 }), ok: true},
		"the least numbers":    {fn: key(func(k *project.Key) { k.Priority = -1 << 62 }), ok: true},
		"a negative weight":    {fn: key(func(k *project.Key) { k.Weight = -1 })},
		"a long provider":      {fn: key(func(k *project.Key) { k.Provider = strings.Repeat("🤖", 255) }), ok: true},
		"too long a provider":  {fn: key(func(k *project.Key) { k.Provider = strings.Repeat("x", 256) })},
		"too long a label":     {fn: key(func(k *project.Key) { k.Label = strings.Repeat("x", 256) })},
		"an id in use":         {fn: key(func(k *project.Key) { k.ID = first.ID }), want: storage.ErrConflict},
		"too long a project's name": {fn: func(ctx context.Context, tx *storage.Tx) error {
			return tx.CreateProject(ctx, &project.Project{Name: strings.Repeat("漢", 256)})
		}},
		"a project's id in use": {fn: func(ctx context.Context, tx *storage.Tx) error {
			return tx.CreateProject(ctx, &project.Project{ID: p.ID, Name: "other"})
		}, want: storage.ErrConflict},
		"too long a token's name": {fn: func(ctx context.Context, tx *storage.Tx) error {
			return tx.CreateToken(ctx, b.newToken(p, strings.Repeat("x", 256)))
		}},
		"an audit entry of no action": {fn: func(ctx context.Context, tx *storage.Tx) error {
			return tx.Audit(ctx, audit.Entry{Outcome: audit.OutcomeSuccess})
		}},
	} {
		err := b.failing(test.fn)
		named := errors.Is(err, storage.ErrConflict) || errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrUnreachable)
		switch {
		case test.ok && err != nil:
			t.Errorf("%s: %v", what, err)
		case test.want != nil:
			wantErr(t, what, err, test.want)
		case !test.ok && (err == nil || named):
			t.Errorf("%s: %v", what, err)
		}
	}
}
