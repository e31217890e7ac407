package token_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// A request leaves a look-up that takes long, and finds its row when it comes back.
func TestWaitIsShorterThanTheLookUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		text, _ := s.addToken(t, s.addProject())
		a := newAuthority(t, s, token.Options{LoadTimeout: 5 * time.Second, WaitTimeout: 1500 * time.Millisecond})
		release, _ := s.hold()
		start := time.Now()
		_, err := a.Authenticate(t.Context(), text)
		if waited := time.Since(start); !errors.Is(err, token.ErrUnavailable) || waited != 1500*time.Millisecond {
			t.Fatalf("after %v: %v, want ErrUnavailable after WaitTimeout", waited, err)
		}
		advance(time.Second)
		release()
		synctest.Wait()
		start = time.Now()
		wantAuth(t, a, text, nil)
		if waited := time.Since(start); waited != 0 {
			t.Errorf("waited %v for a row that was there", waited)
		}
		wantQueries(t, s, 1)
	})
}

// Those who come later wait for the same look-up, each for its own time.
func TestWaitersShareASlowLookUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		text, _ := s.addToken(t, s.addProject())
		a := newAuthority(t, s, token.Options{LoadTimeout: 5 * time.Second, WaitTimeout: 1500 * time.Millisecond})
		release, _ := s.hold()
		results := make(chan error, 2)
		ask := func() { _, err := a.Authenticate(t.Context(), text); results <- err }
		go ask()
		advance(time.Second)
		go ask()
		advance(time.Second) // the first has left, the second has not
		if err := <-results; !errors.Is(err, token.ErrUnavailable) {
			t.Fatalf("the first: %v, want ErrUnavailable", err)
		}
		release()
		if err := <-results; err != nil {
			t.Fatalf("the second: %v", err)
		}
		wantQueries(t, s, 1)
	})
}

// A database that is merely slow holds up one request for a known token, if any,
// and its answers are taken as they come.
func TestSlowDatabaseAndKnownTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a, f := warm(t)
		release, _ := s.hold()
		advance(30 * time.Second)
		s.change(f.id, revoke) // not announced, and read by the look-up that is held
		start := time.Now()
		wantAuth(t, a, f.text, nil)
		if waited := time.Since(start); waited != 1500*time.Millisecond {
			t.Errorf("the first waited %v", waited)
		}
		start = time.Now()
		wantAuth(t, a, f.text, nil)
		if waited := time.Since(start); waited != 0 {
			t.Errorf("the second waited %v", waited)
		}
		release()
		synctest.Wait()
		wantAuth(t, a, f.text, token.ErrInactive)
	})
}
