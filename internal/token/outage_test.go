package token_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

func TestRefreshInTheBackgroundBeforeTheTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, f := warm(t)
		s.change(f.id, func(tok *token.Token) { tok.Name = "new" }) // not announced
		advance(20 * time.Second)
		wantAuth(t, a, f.text, nil)
		wantQueries(t, s, 1) // younger than three quarters of the TTL less its jitter
		advance(5 * time.Second)
		release, _ := s.hold()
		for range 10 { // none of them waits, one asks
			if id := wantAuth(t, a, f.text, nil); id.Token.Name != "" {
				t.Fatal("the old row was expected until the refresh is back")
			}
		}
		synctest.Wait()
		wantQueries(t, s, 2)
		release()
		synctest.Wait()
		if id := wantAuth(t, a, f.text, nil); id.Token.Name != "new" {
			t.Fatal("the refresh did not bring the new row")
		}
		wantQueries(t, s, 2)
	})
}

func TestStaleRowIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, f := warm(t)
		s.change(f.id, revoke) // not announced
		advance(30 * time.Second)
		wantAuth(t, a, f.text, token.ErrInactive)
		wantQueries(t, s, 2)
	})
}

func TestDeletedTokenEndsWithTheTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, f := warm(t)
		s.mu.Lock()
		clear(s.tokens)
		s.mu.Unlock()
		advance(30 * time.Second)
		wantAuth(t, a, f.text, token.ErrUnknown)
		wantAuth(t, a, f.text, token.ErrUnknown)
		wantQueries(t, s, 2)
	})
}

func TestOutageGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		p := s.addProject()
		text, id := s.addToken(t, p)
		stranger, _ := s.addToken(t, p)
		a := newAuthority(t, s, token.Options{TTL: 30 * time.Second, OutageGrace: 5 * time.Minute})
		wantAuth(t, a, text, nil)
		s.setAway(errAway)
		advance(30 * time.Second)
		for range 26 { // up to 4:50 after the TTL, less its jitter
			wantAuth(t, a, text, nil)
			advance(10 * time.Second)
		}
		_, err := a.Authenticate(t.Context(), stranger)
		if !errors.Is(err, token.ErrUnavailable) || !errors.Is(err, errAway) {
			t.Fatalf("a token never seen: %v, want ErrUnavailable with its cause", err)
		}
		// A change that comes another way than through the database still counts.
		a.Changed(token.Change{Kind: token.TokenChanged, ID: id, Version: 2, Revoked: true})
		wantAuth(t, a, text, token.ErrUnavailable)
	})
}

func TestOutageGraceEnds(t *testing.T) {
	for _, tc := range []struct {
		name  string
		grace time.Duration
		after time.Duration
	}{
		{"after five minutes", 0, 5*time.Minute + 30*time.Second},
		{"at once when there is none", -1, 30 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSource()
				text, _ := s.addToken(t, s.addProject())
				a := newAuthority(t, s, token.Options{OutageGrace: tc.grace})
				wantAuth(t, a, text, nil)
				s.setAway(errAway)
				advance(tc.after)
				wantAuth(t, a, text, token.ErrUnavailable)
				s.setAway(nil)
				wantAuth(t, a, text, nil)
			})
		})
	}
}

// A database that hangs costs one caller the bound of a look-up, not each.
func TestHangingDatabaseDoesNotHangEveryRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, f := warm(t)
		release, _ := s.hold()
		defer release()
		advance(30 * time.Second)
		start := time.Now()
		wantAuth(t, a, f.text, nil)
		first := time.Since(start)
		start = time.Now()
		for range 20 {
			wantAuth(t, a, f.text, nil)
			advance(500 * time.Millisecond)
		}
		if waited := time.Since(start) - 10*time.Second; waited != 0 {
			t.Fatalf("20 requests waited %v for a database that hangs; the first one %v", waited, first)
		}
	})
}

func TestDatabaseThatIsBackDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, f := warm(t)
		s.setAway(errAway)
		advance(30 * time.Second)
		wantAuth(t, a, f.text, nil)
		synctest.Wait()
		s.setAway(nil)
		s.change(f.id, revoke) // not announced
		advance(time.Second)
		wantAuth(t, a, f.text, nil) // nobody waits yet, but this one has it asked for
		synctest.Wait()
		wantAuth(t, a, f.text, token.ErrInactive)
	})
}

func TestDatabaseThatIsBackDecidesForARareToken(t *testing.T) {
	for _, tc := range []struct {
		name string
		back func(t *testing.T, s *source, a *token.Authority, f fixture)
	}{
		{"another token was looked up", func(t *testing.T, s *source, a *token.Authority, f fixture) {
			text, _ := s.addToken(t, f.project)
			wantAuth(t, a, text, nil)
		}},
		{"some time later", func(*testing.T, *source, *token.Authority, fixture) { advance(8 * time.Second) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, a, f := warm(t)
				s.setAway(errAway)
				advance(30 * time.Second)
				wantAuth(t, a, f.text, nil)
				synctest.Wait()
				s.setAway(nil)
				s.change(f.id, revoke) // not announced
				tc.back(t, s, a, f)
				wantAuth(t, a, f.text, token.ErrInactive)
			})
		})
	}
}

func TestOutageDoesNotMultiplyQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, f := warm(t)
		s.setAway(errAway)
		advance(30 * time.Second)
		before := s.queries.Load()
		for range 100 {
			wantAuth(t, a, f.text, nil)
			advance(100 * time.Millisecond)
		}
		if n := s.queries.Load() - before; n < 5 || n > 11 {
			t.Fatalf("%d queries in ten seconds of outage, want about one a second", n)
		}
	})
}

func TestOutageOfTheProjectAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, f := warm(t)
		c := s.changeProject(f.project, deactivate)
		s.setAway(errAway)
		a.Changed(c)
		wantAuth(t, a, f.text, token.ErrUnavailable)
		s.setAway(nil)
		wantAuth(t, a, f.text, token.ErrProjectInactive)
	})
}

func TestLookUpIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		text, _ := s.addToken(t, s.addProject())
		a := newAuthority(t, s, token.Options{LoadTimeout: 3 * time.Second, WaitTimeout: time.Minute})
		s.onAnswer(func(ctx context.Context) { <-ctx.Done() })
		start := time.Now()
		_, err := a.Authenticate(t.Context(), text)
		if !errors.Is(err, token.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Authenticate: %v, want ErrUnavailable for the deadline", err)
		}
		if d := time.Since(start); d != 3*time.Second {
			t.Fatalf("after %v, want LoadTimeout", d)
		}
	})
}

func TestPanicInTheSourceIsAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		text, _ := s.addToken(t, s.addProject())
		var log strings.Builder
		a := newAuthority(t, s, token.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		s.onAnswer(func(context.Context) { panic("row is damaged") })
		wantAuth(t, a, text, token.ErrUnavailable)
		if !strings.Contains(log.String(), "row is damaged") || !strings.Contains(log.String(), "source_test.go") {
			t.Fatalf("the log lacks the panic or its stack: %s", log.String())
		}
		s.onAnswer(nil)
		wantAuth(t, a, text, nil)
	})
}

func TestCloseWaitsAndRefusesAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		p := s.addProject()
		known, _ := s.addToken(t, p)
		text, _ := s.addToken(t, p)
		a := token.NewAuthority(s, token.Options{})
		wantAuth(t, a, known, nil)
		left := make(chan struct{})
		finish := make(chan struct{})
		s.onAnswer(func(ctx context.Context) {
			<-ctx.Done()
			close(left)
			<-finish // a query that takes its time to notice
		})
		result := make(chan error, 1)
		go func() { _, err := a.Authenticate(t.Context(), text); result <- err }()
		synctest.Wait()
		closed := make(chan struct{})
		go func() { a.Close(); close(closed) }()
		<-left
		synctest.Wait()
		select {
		case <-closed:
			t.Fatal("Close returned while a query was running")
		default:
		}
		close(finish)
		<-closed
		if err := <-result; !errors.Is(err, token.ErrUnavailable) {
			t.Fatalf("the caller got %v, want ErrUnavailable", err)
		}
		s.onAnswer(nil)
		wantAuth(t, a, text, token.ErrUnavailable)
		wantAuth(t, a, known, nil) // memory needs no worker
		a.Close()
	})
}

// The stale row may stand in for the database, but not for one that is known
// to have been changed.
func TestStaleRowDoesNotOutliveAChangeDuringAnOutage(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(s *source, f fixture) token.Change
	}{
		{"token revoked", func(s *source, f fixture) token.Change { return s.change(f.id, revoke) }},
		{"all tokens revoked", func(s *source, f fixture) token.Change { return s.revokeAll(f.project) }},
		{"project deactivated", func(s *source, f fixture) token.Change { return s.changeProject(f.project, deactivate) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, a, f := warm(t)
				advance(30 * time.Second)
				release, _ := s.hold()
				result := make(chan error, 1)
				go func() { _, err := a.Authenticate(t.Context(), f.text); result <- err }()
				synctest.Wait()
				a.Changed(tc.change(s, f))
				s.setAway(errAway)
				release()
				if err := <-result; !errors.Is(err, token.ErrUnavailable) {
					t.Fatalf("Authenticate: %v, want ErrUnavailable", err)
				}
			})
		})
	}
}

// The same for a project whose row grew stale before its token's did, as the
// jitter has it for one authority in four.
func TestStaleProjectDoesNotOutliveAChangeDuringAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waited := 0
		for range 64 {
			s, a, f := warm(t)
			advance(28500 * time.Millisecond)
			release, _ := s.hold()
			result := make(chan error, 1)
			go func() { _, err := a.Authenticate(t.Context(), f.text); result <- err }()
			synctest.Wait()
			if len(result) == 1 { // nothing was stale
				release()
				continue
			}
			waited++
			a.Changed(s.changeProject(f.project, deactivate))
			s.setAway(errAway)
			release()
			if err := <-result; !errors.Is(err, token.ErrUnavailable) {
				t.Fatalf("Authenticate: %v, want ErrUnavailable", err)
			}
		}
		if waited == 0 {
			t.Fatal("no row was stale")
		}
	})
}
