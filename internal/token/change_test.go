package token_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

func TestChangeIsEffectiveAtOnce(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(s *source, f fixture) token.Change
		want   error
	}{
		{"token revoked", func(s *source, f fixture) token.Change { return s.change(f.id, revoke) }, token.ErrInactive},
		{"project deactivated", func(s *source, f fixture) token.Change { return s.changeProject(f.project, deactivate) }, token.ErrProjectInactive},
		{"all tokens revoked", func(s *source, f fixture) token.Change { return s.revokeAll(f.project) }, token.ErrInactive},
		{"token renamed", func(s *source, f fixture) token.Change {
			return s.change(f.id, func(tok *token.Token) { tok.Name = "new" })
		}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, a, f := warm(t)
				before := a.Generation()
				c := tc.change(s, f)
				a.Changed(c)
				wantAuth(t, a, f.text, tc.want)
				if got := a.Generation() != before; got != c.Revoked {
					t.Fatalf("generation changed: %v, want %v", got, c.Revoked)
				}
			})
		})
	}
}

type fixture = struct {
	text    string
	id      [16]byte
	project [16]byte
}

// warm makes a source with one token that an authority knows already.
func warm(t *testing.T) (*source, *token.Authority, fixture) {
	t.Helper()
	s := newSource()
	var f fixture
	f.project = s.addProject()
	f.text, f.id = s.addToken(t, f.project)
	a := newAuthority(t, s, token.Options{})
	wantAuth(t, a, f.text, nil)
	return s, a, f
}

func TestChangeShowsTheNewRow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, f := warm(t)
		a.Changed(s.change(f.id, func(tok *token.Token) { tok.Policy.AllowedModels = []string{"gpt-4o*"} }))
		a.Changed(s.changeProject(f.project, func(p *project.Snapshot) { p.Policy.AllowedModels = []string{"gpt-*"} }))
		id := wantAuth(t, a, f.text, nil)
		if id.TokenRules.AllowsModel("gpt-3") || !id.ProjectRules.AllowsModel("gpt-3") || id.Token.Version != 2 || id.Project.Version != 2 {
			t.Fatalf("the identity is of token version %d and project version %d, or has old rules", id.Token.Version, id.Project.Version)
		}
	})
}

// A look-up that read before the change, and comes back after it was announced,
// must not bring the old version back.
func TestSlowLookUpDoesNotOutliveAChange(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(s *source, f fixture) token.Change
		want   error
	}{
		{"token revoked", func(s *source, f fixture) token.Change { return s.change(f.id, revoke) }, token.ErrInactive},
		{"project deactivated", func(s *source, f fixture) token.Change { return s.changeProject(f.project, deactivate) }, token.ErrProjectInactive},
		{"all tokens revoked", func(s *source, f fixture) token.Change { return s.revokeAll(f.project) }, token.ErrInactive},
	} {
		for _, order := range []string{"announced during the look-up", "announced after it"} {
			t.Run(tc.name+", "+order, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newSource()
					var f fixture
					f.project = s.addProject()
					f.text, f.id = s.addToken(t, f.project)
					a := newAuthority(t, s, token.Options{})
					release, _ := s.hold()
					early := make(chan error, 1)
					go func() { _, err := a.Authenticate(t.Context(), f.text); early <- err }()
					synctest.Wait() // it has read the old row
					c := tc.change(s, f)
					if order == "announced after it" {
						release()
						synctest.Wait()
						if err := <-early; err != nil {
							t.Fatalf("before the announcement: %v", err)
						}
						a.Changed(c)
					} else {
						a.Changed(c)
						release()
						if err := <-early; !errors.Is(err, tc.want) {
							t.Fatalf("the slow caller got %v, want %v", err, tc.want)
						}
					}
					wantAuth(t, a, f.text, tc.want)
				})
			})
		}
	}
}

// Who comes after the announcement does not join a look-up that began before it.
func TestLookUpsAreNotJoinedAcrossAChange(t *testing.T) {
	for _, kind := range []string{"token", "all tokens"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSource()
				p := s.addProject()
				text, id := s.addToken(t, p)
				a := newAuthority(t, s, token.Options{})
				release, _ := s.hold()
				early := make(chan error, 1)
				go func() { _, err := a.Authenticate(t.Context(), text); early <- err }()
				synctest.Wait()
				if kind == "token" {
					a.Changed(s.change(id, revoke))
				} else {
					a.Changed(s.revokeAll(p))
				}
				s.onAnswer(nil) // only the first look-up is slow
				wantAuth(t, a, text, token.ErrInactive)
				release()
				<-early
				wantAuth(t, a, text, token.ErrInactive)
			})
		})
	}
}

func TestBackgroundRefreshDoesNotOutliveAChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, f := warm(t)
		advance(25 * time.Second) // past refreshAt, not yet stale
		release, entered := s.hold()
		wantAuth(t, a, f.text, nil)
		synctest.Wait()
		if entered.Load() == 0 {
			t.Fatal("no refresh in the background")
		}
		a.Changed(s.change(f.id, revoke))
		release()
		synctest.Wait()
		wantAuth(t, a, f.text, token.ErrInactive)
	})
}

func TestBulkRevocationDropsEveryTokenOfTheProject(t *testing.T) {
	s := newSource()
	p, other := s.addProject(), s.addProject()
	a := newAuthority(t, s, token.Options{})
	var texts []string
	for range 50 {
		text, _ := s.addToken(t, p)
		texts = append(texts, text)
		wantAuth(t, a, text, nil)
	}
	spared, _ := s.addToken(t, other)
	wantAuth(t, a, spared, nil)
	c := s.revokeAll(p)
	before := s.queries.Load()
	a.Changed(c)
	for _, text := range texts {
		wantAuth(t, a, text, token.ErrInactive)
	}
	wantQueries(t, s, before+50)
	wantAuth(t, a, spared, nil)
	wantQueries(t, s, before+50)
}

// A replica that lags behind the announcement is asked again, then not believed.
func TestVersionBelowTheAnnouncedOneIsRefused(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change token.Change
	}{
		{"token", token.Change{Kind: token.TokenChanged, Version: 9}},
		{"project", token.Change{Kind: token.ProjectChanged, Version: 9}},
		{"all tokens", token.Change{Kind: token.ProjectTokensRevoked, Version: 9}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, a, f := warm(t)
				c := tc.change
				if c.ID = f.project; c.Kind == token.TokenChanged {
					c.ID = f.id
				}
				a.Changed(c)
				wantAuth(t, a, f.text, token.ErrUnavailable)
				advance(2 * time.Minute) // no look-up can be that old
				wantAuth(t, a, f.text, nil)
			})
		})
	}
}

func TestLateAnnouncementOfAnOlderVersionLowersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, f := warm(t)
		old := s.change(f.id, func(tok *token.Token) { tok.Name = "second" })
		a.Changed(token.Change{Kind: token.TokenChanged, ID: f.id, Version: old.Version + 1})
		a.Changed(old)
		wantAuth(t, a, f.text, token.ErrUnavailable)
		a.Changed(s.change(f.id, revoke))
		wantAuth(t, a, f.text, token.ErrInactive)
	})
}

// Two look-ups carry the same project: the one that read later counts, even if
// the other comes back last and nothing was announced.
func TestOlderProjectDoesNotReplaceANewerOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		p := s.addProject()
		slow, _ := s.addToken(t, p)
		quick, _ := s.addToken(t, p)
		a := newAuthority(t, s, token.Options{})
		release, _ := s.hold()
		done := make(chan error, 1)
		go func() { _, err := a.Authenticate(t.Context(), slow); done <- err }()
		synctest.Wait()
		s.changeProject(p, deactivate) // its announcement is lost
		s.onAnswer(nil)
		advance(time.Second)
		wantAuth(t, a, quick, token.ErrProjectInactive)
		release()
		if err := <-done; !errors.Is(err, token.ErrProjectInactive) {
			t.Fatalf("the slow look-up brought the active project back: %v", err)
		}
		wantAuth(t, a, quick, token.ErrProjectInactive)
	})
}

func TestFloorsAreSwept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		a := newAuthority(t, s, token.Options{})
		p := s.addProject()
		for range 100 {
			_, id := s.addToken(t, p)
			a.Changed(s.change(id, revoke))
		}
		if n := a.Floors(); n != 100 {
			t.Fatalf("%d floors, want one for each of 100 tokens", n)
		}
		advance(2 * time.Minute)
		_, id := s.addToken(t, p)
		a.Changed(s.change(id, revoke))
		if n := a.Floors(); n != 1 {
			t.Fatalf("%d floors two minutes later, want 1", n)
		}
	})
}

func TestChangedDoesNotWaitForTheDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		text, id := s.addToken(t, s.addProject())
		a := newAuthority(t, s, token.Options{})
		release, _ := s.hold()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _, _ = a.Authenticate(ctx, text) }()
		synctest.Wait()
		start := time.Now()
		a.Changed(s.change(id, revoke))
		if d := time.Since(start); d != 0 {
			t.Fatalf("Changed took %v of waiting", d)
		}
		cancel()
		<-done
		release()
	})
}
