package token_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

func TestKnownTokenCostsNoQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		p := s.addProject()
		text, id := s.addToken(t, p)
		a := newAuthority(t, s, token.Options{})
		for range 100 {
			got := wantAuth(t, a, text, nil)
			if got.Token.ID != id || got.Project.ID != p || got.TokenRules == nil || got.ProjectRules == nil {
				t.Fatalf("identity of token %s, project %s; want %s, %s", got.Token.ID, got.Project.ID, id, p)
			}
		}
		wantQueries(t, s, 1)
		if n := s.projectQ.Load(); n != 0 {
			t.Fatalf("%d project queries: the project comes with its token", n)
		}
	})
}

func TestConcurrentCallersShareOneQuery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		text, _ := s.addToken(t, s.addProject())
		a := newAuthority(t, s, token.Options{})
		release, _ := s.hold()
		results := make(chan error)
		for range 100 {
			go func() {
				_, err := a.Authenticate(t.Context(), text)
				results <- err
			}()
		}
		synctest.Wait()
		wantQueries(t, s, 1)
		release()
		for range 100 {
			if err := <-results; err != nil {
				t.Fatalf("Authenticate: %v", err)
			}
		}
		wantQueries(t, s, 1)
	})
}

func TestCallerThatLeavesFailsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		text, _ := s.addToken(t, s.addProject())
		a := newAuthority(t, s, token.Options{})
		release, _ := s.hold()
		first, stays := make(chan error, 1), make(chan error, 1)
		gone := errors.New("the client went away")
		ctx, leave := context.WithCancelCause(t.Context())
		go func() { _, err := a.Authenticate(ctx, text); first <- err }()
		synctest.Wait() // the first caller is the one that began the query
		go func() { _, err := a.Authenticate(t.Context(), text); stays <- err }()
		synctest.Wait()
		leave(gone)
		if err := <-first; !errors.Is(err, token.ErrUnavailable) || !errors.Is(err, gone) {
			t.Fatalf("the caller that left got %v, want ErrUnavailable with the cause", err)
		}
		release()
		if err := <-stays; err != nil {
			t.Fatalf("the caller that stayed got %v", err)
		}
		wantQueries(t, s, 1)
	})
}

func TestUnknownTokenIsRememberedForItsTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		p := s.addProject()
		text, secret := mint(t, time.Now())
		a := newAuthority(t, s, token.Options{NegativeTTL: 5 * time.Second})
		wantAuth(t, a, text, token.ErrUnknown)
		s.insert(secret, p) // without an announcement
		advance(5*time.Second - 1)
		wantAuth(t, a, text, token.ErrUnknown)
		wantQueries(t, s, 1)
		advance(1)
		wantAuth(t, a, text, nil)
		wantQueries(t, s, 2)
	})
}

func TestAnnouncedTokenIsKnownAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		p := s.addProject()
		text, secret := mint(t, time.Now())
		a := newAuthority(t, s, token.Options{})
		wantAuth(t, a, text, token.ErrUnknown)
		s.insert(secret, p)
		a.Changed(token.Change{Kind: token.TokenChanged, ID: secret.ID, Version: 1})
		wantAuth(t, a, text, nil)
	})
}

func TestUnknownIsNotRememberedAgainstAnAnnouncement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		p := s.addProject()
		text, secret := mint(t, time.Now())
		a := newAuthority(t, s, token.Options{})
		release, _ := s.hold()
		early := make(chan error, 1)
		go func() { _, err := a.Authenticate(t.Context(), text); early <- err }()
		synctest.Wait() // it has read that there is no such row
		s.insert(secret, p)
		a.Changed(token.Change{Kind: token.TokenChanged, ID: secret.ID, Version: 1})
		release()
		if err := <-early; !errors.Is(err, token.ErrUnknown) {
			t.Fatalf("the caller that came before the token got %v", err)
		}
		wantAuth(t, a, text, nil)
	})
}

func TestWrongSecretOfAKnownToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		text, id := s.addToken(t, s.addProject())
		a := newAuthority(t, s, token.Options{})
		wantAuth(t, a, text, nil)
		wrong := assemble(id[:], make([]byte, 32))
		for _, near := range append([]string{wrong}, nearSecrets(t, text)...) {
			wantAuth(t, a, near, token.ErrUnknown)
		}
		wantQueries(t, s, 1)
	})
}

// nearSecrets are tokens of the same id that share the first 32 or 40 characters.
func nearSecrets(t *testing.T, text string) []string {
	near := nearCollisions(t, text)
	return []string{near["first 32"], near["first 40"]}
}

func TestUnknownHashSchemeMatchesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		text, id := s.addToken(t, s.addProject())
		s.change(id, func(tok *token.Token) { tok.HashScheme = "plain" })
		wantAuth(t, newAuthority(t, s, token.Options{}), text, token.ErrUnknown)
	})
}

func TestStateOfTokenAndProject(t *testing.T) {
	at := func(d time.Duration) func(*token.Token) {
		return func(tok *token.Token) { tok.ExpiresAt = new(time.Now().Add(d)) }
	}
	for _, tc := range []struct {
		name    string
		token   func(*token.Token)
		project func(*project.Snapshot)
		want    error
	}{
		{"active", nil, nil, nil},
		{"expires in a nanosecond", at(1), nil, nil},
		{"expires this instant", at(0), nil, token.ErrExpired},
		{"expired", at(-time.Hour), nil, token.ErrExpired},
		{"inactive", revoke, nil, token.ErrInactive},
		{"project inactive", nil, deactivate, token.ErrProjectInactive},
		{"inactive, of an inactive project", revoke, deactivate, token.ErrInactive},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSource()
				p := s.addProject()
				text, id := s.addToken(t, p)
				if tc.token != nil {
					s.change(id, tc.token)
				}
				if tc.project != nil {
					s.changeProject(p, tc.project)
				}
				a := newAuthority(t, s, token.Options{})
				wantAuth(t, a, text, tc.want) // from the database
				wantAuth(t, a, text, tc.want) // from memory
				wantQueries(t, s, 1)
				// A wrong secret learns nothing of any of that.
				wantAuth(t, a, assemble(id[:], make([]byte, 32)), token.ErrUnknown)
			})
		})
	}
}

func TestTokenExpiresInMemoryExactlyAtTheInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		text, id := s.addToken(t, s.addProject())
		s.change(id, func(tok *token.Token) { tok.ExpiresAt = new(time.Now().Add(10 * time.Second)) })
		a := newAuthority(t, s, token.Options{})
		wantAuth(t, a, text, nil)
		advance(10*time.Second - 1)
		wantAuth(t, a, text, nil)
		advance(1)
		wantAuth(t, a, text, token.ErrExpired)
		wantQueries(t, s, 1)
	})
}

func TestFutureDatedTokenIsRefusedWithoutQuery(t *testing.T) {
	for _, tc := range []struct {
		ahead time.Duration
		want  error
	}{
		{5 * time.Minute, nil},
		{5*time.Minute + time.Millisecond, token.ErrMalformed},
		{24 * time.Hour, token.ErrMalformed},
	} {
		t.Run(fmt.Sprint(tc.ahead), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSource()
				ms := time.Now().Add(tc.ahead).UnixMilli()
				id := uuid.UUID{byte(ms >> 40), byte(ms >> 32), byte(ms >> 24), byte(ms >> 16), byte(ms >> 8), byte(ms), 0x70, 0, 0x80}
				text := assemble(id[:], make([]byte, 32))
				secret, err := token.Parse(text)
				if err != nil {
					t.Fatal(err)
				}
				s.insert(secret, s.addProject())
				wantAuth(t, newAuthority(t, s, token.Options{}), text, tc.want)
				if tc.want != nil {
					wantQueries(t, s, 0)
				}
			})
		})
	}
}

func TestMalformedTokenNeverReachesTheDatabase(t *testing.T) {
	s := newSource()
	s.addToken(t, s.addProject())
	a := newAuthority(t, s, token.Options{})
	for _, text := range []string{"", "sk-", golden + "x", "' OR 1=1", golden[:70]} {
		wantAuth(t, a, text, token.ErrMalformed)
	}
	wantQueries(t, s, 0)
}

func TestNearCollisionsInAWarmCache(t *testing.T) {
	s := newSource()
	p := s.addProject()
	a := newAuthority(t, s, token.Options{})
	for range 250 {
		text, id := s.addToken(t, p)
		wantAuth(t, a, text, nil)
		for what, near := range nearCollisions(t, text) {
			secret, err := token.Parse(near)
			if err != nil {
				t.Fatal(err)
			}
			wantAuth(t, a, near, token.ErrUnknown)
			if secret.ID == id {
				continue
			}
			s.insert(secret, p)
			a.Changed(token.Change{Kind: token.TokenChanged, ID: secret.ID, Version: 1})
			if got := wantAuth(t, a, near, nil); got.Token.ID != secret.ID {
				t.Fatalf("%s: %s was taken for %s", what, near, got.Token.ID)
			}
		}
		if got := wantAuth(t, a, text, nil); got.Token.ID != id {
			t.Fatalf("%s was taken for %s", text, got.Token.ID)
		}
	}
}

// advance lets the bubble's time pass, and what was waiting for it finish.
func advance(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
