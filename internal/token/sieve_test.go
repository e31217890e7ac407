package token_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// sifting is a source with a sieve.
type sifting struct {
	*source
	batches atomic.Int64
	largest atomic.Int64
}

func (s *sifting) KnownTokens(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]bool, error) {
	s.batches.Add(1)
	s.largest.Store(max(s.largest.Load(), int64(len(ids))))
	known := make(map[uuid.UUID]bool)
	s.mu.Lock()
	err := s.away
	for _, id := range ids {
		if _, ok := s.tokens[id]; ok {
			known[id] = true
		}
	}
	s.mu.Unlock()
	s.delay(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return known, err
}

// stormy is an authority in a storm of unknown tokens.
func stormy(t *testing.T) (*sifting, *token.Authority) {
	t.Helper()
	s := &sifting{source: newSource()}
	a := token.NewAuthority(s, token.Options{})
	t.Cleanup(a.Close)
	for range 200 {
		text, _ := mint(t, time.Now())
		wantAuth(t, a, text, token.ErrUnknown)
	}
	wantQueries(t, s.source, 200)
	if n := s.batches.Load(); n != 0 {
		t.Fatalf("%d batches before there was a storm", n)
	}
	return s, a
}

// In a storm unknown tokens share queries, and valid ones are found all the same.
func TestStormOfUnknownTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := stormy(t)
		valid, _ := s.addToken(t, s.addProject())
		results := make(chan error, 301)
		ask := func(text string) { _, err := a.Authenticate(t.Context(), text); results <- err }
		for range 300 {
			text, _ := mint(t, time.Now())
			go ask(text)
		}
		go ask(valid)
		accepted := 0
		for range 301 {
			if err := <-results; err == nil {
				accepted++
			} else if !errors.Is(err, token.ErrUnknown) {
				t.Fatal(err)
			}
		}
		if accepted != 1 {
			t.Errorf("%d tokens were accepted, want the valid one", accepted)
		}
		wantQueries(t, s.source, 201)
		if n, most := s.batches.Load(), s.largest.Load(); n != 5 || most != token.SieveSize {
			t.Errorf("%d batches of up to %d, want 5 of up to %d", n, most, token.SieveSize)
		}
		advance(2 * time.Second) // it is over
		text, _ := mint(t, time.Now())
		wantAuth(t, a, text, token.ErrUnknown)
		wantQueries(t, s.source, 202)
	})
}

// An outage during a storm is 503 for all, and heals.
func TestOutageDuringAStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := stormy(t)
		valid, _ := s.addToken(t, s.addProject())
		s.setAway(errAway)
		wantAuth(t, a, valid, token.ErrUnavailable)
		s.setAway(nil)
		s.onAnswer(func(context.Context) { panic("row is damaged") })
		wantAuth(t, a, valid, token.ErrUnavailable)
		s.onAnswer(nil)
		release, _ := s.hold()
		start := time.Now()
		wantAuth(t, a, valid, token.ErrUnavailable)
		if waited := time.Since(start); waited != 1500*time.Millisecond {
			t.Errorf("waited %v", waited)
		}
		release()
		wantAuth(t, a, valid, nil)
	})
}

// A token that is made while the query that did not find it is under way is not
// remembered as unknown.
func TestTokenMadeDuringAStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := stormy(t)
		p := s.addProject()
		text, secret := mint(t, time.Now())
		release, entered := s.hold()
		result := make(chan error, 1)
		go func() { _, err := a.Authenticate(t.Context(), text); result <- err }()
		advance(10 * time.Millisecond)
		if entered.Load() != 1 {
			t.Fatal("nobody asked")
		}
		s.insert(secret, p)
		a.Changed(token.Change{Kind: token.TokenChanged, ID: secret.ID, Version: 1})
		release()
		if err := <-result; !errors.Is(err, token.ErrUnknown) {
			t.Fatalf("the one who asked before: %v", err)
		}
		wantAuth(t, a, text, nil)
	})
}

// Close ends the wait for a sieve, and refuses afterwards.
func TestCloseDuringAStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := stormy(t)
		_, entered := s.hold()
		text, _ := mint(t, time.Now())
		result := make(chan error, 1)
		go func() { _, err := a.Authenticate(t.Context(), text); result <- err }()
		advance(10 * time.Millisecond)
		if entered.Load() != 1 {
			t.Fatal("nobody asked")
		}
		a.Close()
		if err := <-result; !errors.Is(err, token.ErrUnavailable) {
			t.Fatal(err)
		}
		wantAuth(t, a, text, token.ErrUnavailable)
	})
}
