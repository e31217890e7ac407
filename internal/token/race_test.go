package token_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// Whatever look-ups are under way: once Changed has returned, nobody who asks
// then is accepted.
func TestNobodyIsAcceptedAfterARevocation(t *testing.T) {
	for _, tc := range []struct {
		name   string
		opts   token.Options
		revoke func(s *source, f fixture) token.Change
		want   error
	}{
		{"token", token.Options{}, func(s *source, f fixture) token.Change { return s.change(f.id, revoke) }, token.ErrInactive},
		{"token, always stale", token.Options{TTL: time.Nanosecond}, func(s *source, f fixture) token.Change { return s.change(f.id, revoke) }, token.ErrInactive},
		{"project", token.Options{}, func(s *source, f fixture) token.Change { return s.changeProject(f.project, deactivate) }, token.ErrProjectInactive},
		{"project, always stale", token.Options{TTL: time.Nanosecond}, func(s *source, f fixture) token.Change { return s.changeProject(f.project, deactivate) }, token.ErrProjectInactive},
		{"all tokens", token.Options{}, func(s *source, f fixture) token.Change { return s.revokeAll(f.project) }, token.ErrInactive},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSource()
			s.onAnswer(func(context.Context) { runtime.Gosched() })
			a := newAuthority(t, s, tc.opts)
			for round := range 300 {
				var f fixture
				f.project = s.addProject()
				f.text, f.id = s.addToken(t, f.project)
				storm(t, s, a, f, round, tc.revoke, tc.want)
			}
		})
	}
}

// storm has some goroutines authenticate while the token is revoked.
func storm(t *testing.T, s *source, a *token.Authority, f fixture, round int, revoke func(*source, fixture) token.Change, want error) {
	t.Helper()
	var revoked atomic.Bool
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for after := 0; after < 3; {
				late := revoked.Load()
				_, err := a.Authenticate(t.Context(), f.text)
				switch {
				case late && !errors.Is(err, want):
					t.Errorf("round %d: after the revocation: %v, want %v", round, err, want)
					return
				case !late && err != nil && !errors.Is(err, want):
					t.Errorf("round %d: before the revocation: %v", round, err)
					return
				case late:
					after++
				}
				runtime.Gosched()
			}
		})
	}
	for range round % 20 {
		runtime.Gosched() // the revocation meets look-ups in every state
	}
	generation := a.Generation()
	a.Changed(revoke(s, f))
	if a.Generation() == generation {
		t.Errorf("round %d: the generation did not change", round)
	}
	revoked.Store(true)
	wg.Wait()
}

// The store is closed while everything is going on.
func TestCloseDuringTraffic(t *testing.T) {
	s := newSource()
	s.onAnswer(func(context.Context) { runtime.Gosched() })
	p := s.addProject()
	texts := make([]string, 50)
	for i := range texts {
		texts[i], _ = s.addToken(t, p)
	}
	for range 20 {
		a := token.NewAuthority(s, token.Options{TTL: time.Nanosecond, MaxTokens: 10})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for _, text := range texts {
					if _, err := a.Authenticate(t.Context(), text); err != nil && !errors.Is(err, token.ErrUnavailable) {
						t.Errorf("Authenticate: %v", err)
					}
				}
			})
		}
		wg.Go(a.Close)
		wg.Go(a.Close)
		wg.Wait()
	}
}

// More tokens than the bound: none is mistaken, memory is bounded by what otter holds.
func TestMoreTokensThanAreRemembered(t *testing.T) {
	s := newSource()
	p := s.addProject()
	a := newAuthority(t, s, token.Options{MaxTokens: 16, MaxNegative: 16})
	for range 500 {
		text, id := s.addToken(t, p)
		if got := wantAuth(t, a, text, nil); got.Token.ID != id {
			t.Fatalf("%s was taken for %s", id, got.Token.ID)
		}
		stranger, _ := mint(t, time.Now())
		wantAuth(t, a, stranger, token.ErrUnknown)
	}
}
