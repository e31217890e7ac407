package gateway

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// TestRecheck: every token with a request under way is asked about once, and
// only a clear no ends its requests.
func TestRecheck(t *testing.T) {
	answers := map[uuid.UUID]struct{ err, cut error }{
		newID(): {nil, nil},
		newID(): {token.ErrInactive, errTokenInactive},
		newID(): {token.ErrUnknown, errTokenInactive},
		newID(): {token.ErrExpired, errTokenExpired},
		newID(): {token.ErrProjectInactive, errProjectInactive},
		newID(): {fmt.Errorf("%w: the database is away", token.ErrUnavailable), nil},
	}
	f := NewInflight()
	defer f.Close()
	contexts := make(map[uuid.UUID][]context.Context)
	for id := range answers {
		for range 3 {
			fl, ctx := newFlight(id, newID())
			f.add(fl)
			defer f.remove(fl)
			contexts[id] = append(contexts[id], ctx)
		}
	}
	asked := make(map[uuid.UUID]int)
	f.Recheck(func(id uuid.UUID) error {
		asked[id]++
		return answers[id].err
	})
	for id, want := range answers {
		if asked[id] != 1 {
			t.Errorf("asked %d times about the token that answers %v", asked[id], want.err)
		}
		for _, ctx := range contexts[id] {
			if got := context.Cause(ctx); !errors.Is(got, want.cut) {
				t.Errorf("answer %v: ended with %v, want %v", want.err, got, want.cut)
			}
		}
	}
}
