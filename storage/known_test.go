package storage

import (
	"errors"
	"testing"

	"github.com/gofrs/uuid/v5"
)

func TestKnownTokens(t *testing.T) { onBoth(t, testKnownTokens) }

func testKnownTokens(t *testing.T, dsn string) {
	unopened := newDB(t, dsn)
	stranger := uuid.Must(uuid.NewV7())
	if _, err := unopened.KnownTokens(t.Context(), []uuid.UUID{stranger}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("before Open: %v", err)
	}
	db := openDB(t, dsn)
	a, b := makeSealed(t, db, "a").token.ID, makeSealed(t, db, "b").token.ID
	full := []uuid.UUID{a, b}
	for len(full) < MaxKnownTokens {
		full = append(full, uuid.Must(uuid.NewV7()))
	}
	for name, tc := range map[string]struct {
		ids  []uuid.UUID
		want []uuid.UUID
	}{
		"none known":  {[]uuid.UUID{stranger}, nil},
		"one":         {[]uuid.UUID{a}, []uuid.UUID{a}},
		"twice":       {[]uuid.UUID{b, stranger, b}, []uuid.UUID{b}},
		"as can be":   {full, []uuid.UUID{a, b}},
		"last in row": {append(full[2:len(full):len(full)], a), []uuid.UUID{a}},
	} {
		known, err := db.KnownTokens(t.Context(), tc.ids)
		if err != nil || len(known) != len(tc.want) {
			t.Errorf("%s: %v, %v", name, known, err)
		}
		for _, id := range tc.want {
			if !known[id] {
				t.Errorf("%s: %s is not known", name, id)
			}
		}
	}
	for _, ids := range [][]uuid.UUID{nil, append(full, stranger)} {
		if _, err := db.KnownTokens(t.Context(), ids); err == nil {
			t.Errorf("%d ids were accepted", len(ids))
		}
	}
}
