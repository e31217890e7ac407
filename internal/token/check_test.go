package token_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// TestCheck judges a token by its id as Authenticate does by its text.
func TestCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, f := warm(t)
		if err := a.Check(t.Context(), f.id); err != nil {
			t.Fatalf("a good token: %v", err)
		}
		if err := a.Check(t.Context(), newUnknownID(t)); !errors.Is(err, token.ErrUnknown) {
			t.Errorf("an unknown one: %v", err)
		}
		s.change(f.id, revoke)
		a.DistrustAll()
		if err := a.Check(t.Context(), f.id); !errors.Is(err, token.ErrInactive) {
			t.Errorf("a revoked one: %v", err)
		}
	})
}

func newUnknownID(t *testing.T) (id [16]byte) {
	t.Helper()
	_, s := mint(t, time.Now())
	return s.ID
}

// TestClockOffset: a token is dated by the database's clock.
func TestClockOffset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tc := range []struct {
			ahead time.Duration
			want  error
		}{{0, token.ErrMalformed}, {time.Hour, token.ErrUnknown}} {
			a := token.NewAuthority(newSource(), token.Options{ClockOffset: func() time.Duration { return tc.ahead }})
			text, _ := mint(t, time.Now().Add(time.Hour)) // by a node whose clock is right
			if _, err := a.Authenticate(t.Context(), text); !errors.Is(err, tc.want) {
				t.Errorf("database %s ahead: %v, want %v", tc.ahead, err, tc.want)
			}
			a.Close()
		}
	})
}
