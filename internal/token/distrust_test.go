package token_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// What changed without an announcement is seen after DistrustAll, and what did
// not change costs one query more.
func TestDistrustAllAsksAgain(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(s *source, f fixture)
		want   error
	}{
		{"nothing changed", func(*source, fixture) {}, nil},
		{"token revoked", func(s *source, f fixture) { s.change(f.id, revoke) }, token.ErrInactive},
		{"project deactivated", func(s *source, f fixture) { s.changeProject(f.project, deactivate) }, token.ErrProjectInactive},
		{"all tokens revoked", func(s *source, f fixture) { s.revokeAll(f.project) }, token.ErrInactive},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, a, f := warm(t)
				tc.change(s, f)
				wantAuth(t, a, f.text, nil)
				before := a.Generation()
				a.DistrustAll()
				if a.Generation() == before {
					t.Error("the generation is the same")
				}
				for range 3 {
					wantAuth(t, a, f.text, tc.want)
				}
				wantQueries(t, s, 2)
			})
		})
	}
}

func TestDistrustAllForgetsUnknownTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, f := warm(t)
		text, secret := mint(t, time.Now())
		wantAuth(t, a, text, token.ErrUnknown)
		s.insert(secret, f.project)
		wantAuth(t, a, text, token.ErrUnknown)
		a.DistrustAll()
		wantAuth(t, a, text, nil)
	})
}

// A look-up that read before DistrustAll serves only those who waited for it.
func TestDistrustAllOvertakesLookUps(t *testing.T) {
	for _, known := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := newSource()
			p := s.addProject()
			text, secret := mint(t, time.Now())
			if known {
				s.insert(secret, p)
			}
			a := newAuthority(t, s, token.Options{})
			release, _ := s.hold()
			early := make(chan error, 1)
			go func() { _, err := a.Authenticate(t.Context(), text); early <- err }()
			synctest.Wait() // it has read
			want := error(nil)
			if known {
				s.change(secret.ID, revoke)
				want = token.ErrInactive
			} else {
				s.insert(secret, p)
			}
			a.DistrustAll()
			late := make(chan error, 1)
			go func() { _, err := a.Authenticate(t.Context(), text); late <- err }()
			synctest.Wait()
			wantQueries(t, s, 2)
			release()
			<-early
			if err := <-late; !errors.Is(err, want) {
				t.Errorf("who came later got %v, want %v", err, want)
			}
			wantAuth(t, a, text, want)
		})
	}
}

// While the database is away a distrusted row stands in, unless there is no grace.
func TestDistrustAllInAnOutage(t *testing.T) {
	for grace, want := range map[time.Duration]error{time.Minute: nil, -1: token.ErrUnavailable} {
		synctest.Test(t, func(t *testing.T) {
			s := newSource()
			text, _ := s.addToken(t, s.addProject())
			a := newAuthority(t, s, token.Options{OutageGrace: grace})
			wantAuth(t, a, text, nil)
			s.setAway(errAway)
			a.DistrustAll()
			for range 3 {
				wantAuth(t, a, text, want)
			}
			advance(2 * time.Minute)
			wantAuth(t, a, text, token.ErrUnavailable)
			s.setAway(nil)
			s.mu.Lock()
			for id, p := range s.projects {
				p.Version++
				p.Policy = project.Policy{AllowedModels: []string{"m"}}
				s.projects[id] = p
			}
			s.mu.Unlock()
			if id := wantAuth(t, a, text, nil); id.Project.Version != 2 {
				t.Errorf("project version %d after the outage", id.Project.Version)
			}
		})
	}
}
