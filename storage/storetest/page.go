package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

func testFilters(t *testing.T, b *bundle) {
	ctx := t.Context()
	yes, no := true, false
	on, off := b.project("on"), b.project("off")
	off.Active = false
	b.update(func(tx *storage.Tx) error { return tx.UpdateProject(ctx, off) })
	live, dead, others := b.token(on, "live"), b.token(on, "dead"), b.token(off, "live")
	dead.Active = false
	b.update(func(tx *storage.Tx) error { return tx.UpdateToken(ctx, dead) })

	for _, test := range []struct {
		name   string
		filter storage.ProjectFilter
		want   []project.Project
	}{
		{"all", storage.ProjectFilter{}, []project.Project{*off, *on}},
		{"active", storage.ProjectFilter{Active: &yes}, []project.Project{*on}},
		{"inactive", storage.ProjectFilter{Active: &no}, []project.Project{*off}},
		{"active and named", storage.ProjectFilter{Active: &yes, Query: "off"}, []project.Project{}},
	} {
		got, err := b.Projects(ctx, test.filter)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, test.name+" projects", got, test.want)
		test.filter.Limit, test.filter.After = 1, storage.Cursor{CreatedAt: time.Unix(0, 0), ID: newID(t)}
		n, err := b.CountProjects(ctx, test.filter)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "number of "+test.name+" projects", n, int64(len(test.want)))
	}
	for _, test := range []struct {
		name   string
		filter storage.TokenFilter
		want   []token.Token
	}{
		{"all", storage.TokenFilter{}, []token.Token{*others, *dead, *live}},
		{"the project's", storage.TokenFilter{ProjectID: on.ID}, []token.Token{*dead, *live}},
		{"the project's active", storage.TokenFilter{ProjectID: on.ID, Active: &yes}, []token.Token{*live}},
		{"inactive", storage.TokenFilter{Active: &no}, []token.Token{*dead}},
		{"named", storage.TokenFilter{Query: "LIVE"}, []token.Token{*others, *live}},
		{"no project's", storage.TokenFilter{ProjectID: newID(t)}, []token.Token{}},
	} {
		got, err := b.Tokens(ctx, test.filter)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, test.name+" tokens", got, test.want)
		test.filter.Limit, test.filter.After = 1, storage.Cursor{CreatedAt: time.Unix(0, 0), ID: newID(t)}
		n, err := b.CountTokens(ctx, test.filter)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "number of "+test.name+" tokens", n, int64(len(test.want)))
	}
}

func testSearch(t *testing.T, b *bundle) {
	names := []string{"100%", "1000", "a_b", "aXb", "wow!", "back\\slash", "back\\\\slash", "quo'te", "MÜNCHEN Straße", "Σίσυφος", "漢字テスト", "star*glob?[x]"}
	for _, name := range names {
		b.project(name)
	}
	for query, want := range map[string][]string{
		"":                         names,
		"0%":                       {"100%"},
		"%":                        {"100%"},
		"_":                        {"a_b"},
		"a_B":                      {"a_b"},
		"!":                        {"wow!"},
		"!%":                       {},
		"\\":                       {"back\\slash", "back\\\\slash"},
		"\\\\":                     {"back\\\\slash"},
		"o't":                      {"quo'te"},
		"münchen":                  {"MÜNCHEN Straße"},
		"ΣΊΣΥΦΟΣ":                  {"Σίσυφος"},
		"字テ":                       {"漢字テスト"},
		"*":                        {"star*glob?[x]"},
		"?[X]":                     {"star*glob?[x]"},
		"nothing":                  {},
		"\xff":                     {},
		"a\x00":                    {},
		strings.Repeat("%", 1e5):   {},
		"' OR '1'='1":              {},
		"100%' ESCAPE '!' OR 1=1;": {},
	} {
		filter := storage.ProjectFilter{Query: query}
		list, err := b.Projects(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		got := []string{}
		for _, p := range slices.Backward(list) {
			got = append(got, p.Name)
		}
		if len(query) > 20 {
			query = query[:20] + "…"
		}
		equal(t, "projects for "+query, got, want)
		n, err := b.CountProjects(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "number of projects for "+query, n, int64(len(want)))
	}
}

// testPages walks lists in pages of every size: each row comes once, in order,
// although many were created in the same microsecond.
func testPages(t *testing.T, b *bundle) {
	ctx := t.Context()
	const rows, moments = 60, 7
	start := time.Date(2026, 10, 25, 1, 59, 59, 999999000, time.UTC)
	mine, other := b.project("mine"), b.project("other")
	owner := map[uuid.UUID][]*token.Token{}
	b.update(func(tx *storage.Tx) error {
		for i := range rows {
			p := mine
			if i%3 == 0 {
				p = other
			}
			tok := b.newToken(p, "")
			tok.CreatedAt = start.Add(time.Duration(i%moments) * time.Microsecond)
			if err := tx.CreateToken(ctx, tok); err != nil {
				return err
			}
			owner[uuid.Nil] = append(owner[uuid.Nil], tok)
			owner[p.ID] = append(owner[p.ID], tok)
		}
		return nil
	})
	for _, list := range owner {
		slices.SortFunc(list, func(a, b *token.Token) int { // newest first
			if c := b.CreatedAt.Compare(a.CreatedAt); c != 0 {
				return c
			}
			return strings.Compare(b.ID.String(), a.ID.String())
		})
	}
	rapid.Check(t, func(rt *rapid.T) {
		filter := storage.TokenFilter{
			ProjectID: rapid.SampledFrom([]uuid.UUID{uuid.Nil, mine.ID, other.ID}).Draw(rt, "project"),
			Limit:     rapid.IntRange(0, rows+1).Draw(rt, "limit"),
		}
		var got []uuid.UUID
		for {
			page, err := b.Tokens(ctx, filter)
			if err != nil {
				rt.Fatal(err)
			}
			if filter.Limit > 0 && len(page) > filter.Limit {
				rt.Fatalf("page has %d rows, limit is %d", len(page), filter.Limit)
			}
			for _, tok := range page {
				got = append(got, tok.ID)
				filter.After = storage.Cursor{CreatedAt: tok.CreatedAt, ID: tok.ID}
			}
			if filter.Limit == 0 || len(page) < filter.Limit {
				break
			}
		}
		var want []uuid.UUID
		for _, tok := range owner[filter.ProjectID] {
			want = append(want, tok.ID)
		}
		if !slices.Equal(got, want) {
			rt.Fatalf("walked %v\nwant %v", got, want)
		}
	})
}

// testPagesWhileWriting walks a list while it grows at its head and rows in it
// change: what was there at the start comes once.
func testPagesWhileWriting(t *testing.T, b *bundle) {
	ctx := t.Context()
	const rows = 20
	p := b.project("p")
	want := map[uuid.UUID]int{}
	for range rows {
		want[b.token(p, "old").ID] = 1
	}
	var stop atomic.Bool
	var writing sync.WaitGroup
	writing.Go(func() {
		for range 200 {
			if stop.Load() {
				return
			}
			err := b.Update(ctx, func(tx *storage.Tx) error {
				for id := range want {
					tok, err := tx.Token(ctx, id)
					if err != nil {
						return err
					}
					tok.Name = "older"
					if err := tx.UpdateToken(ctx, tok); err != nil {
						return err
					}
					break
				}
				return tx.CreateToken(ctx, &token.Token{ID: uuid.Must(uuid.NewV7()), ProjectID: p.ID, Name: "new", Hash: []byte{1}, HashScheme: token.SchemeHMAC})
			})
			if err != nil {
				t.Errorf("writing: %v", err)
				return
			}
		}
	})
	for _, limit := range []int{1, 7, rows} {
		got := map[uuid.UUID]int{}
		filter := storage.TokenFilter{ProjectID: p.ID, Query: "old", Limit: limit}
		for {
			page, err := b.Tokens(ctx, filter)
			if err != nil {
				t.Fatal(err)
			}
			for _, tok := range page {
				got[tok.ID]++
				filter.After = storage.Cursor{CreatedAt: tok.CreatedAt, ID: tok.ID}
			}
			if len(page) < limit {
				break
			}
		}
		equal(t, fmt.Sprint("tokens in pages of ", limit), got, want)
	}
	stop.Store(true)
	writing.Wait()
}
