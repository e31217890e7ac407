package lease_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/lease"
)

func TestClosesOnceAfterOwnerAndLastUser(t *testing.T) {
	for _, tc := range []struct {
		name  string
		users int
	}{{"idle", 0}, {"one user", 1}, {"many users", 50}} {
		t.Run(tc.name, func(t *testing.T) {
			var closed atomic.Int32
			l := lease.New(func() { closed.Add(1) })
			for range tc.users {
				if !l.Acquire() {
					t.Fatal("an owned lease refused a user")
				}
			}
			l.Doom()
			l.Doom()
			if got := closed.Load(); tc.users > 0 && got != 0 {
				t.Fatalf("closed %d times while used", got)
			}
			var wg sync.WaitGroup
			for range tc.users {
				wg.Go(l.Release)
			}
			wg.Wait()
			if got := closed.Load(); got != 1 {
				t.Fatalf("closed %d times, want once", got)
			}
			if l.Acquire() {
				t.Fatal("a closed lease took a user")
			}
		})
	}
}

func TestDoomedLeaseStillServesWhileUsed(t *testing.T) {
	l := lease.New(func() {})
	l.Acquire()
	l.Doom()
	if !l.Acquire() {
		t.Fatal("a doomed lease with a user must take another: both are of the same configuration")
	}
	if l.Users() != 2 {
		t.Fatalf("users = %d, want 2", l.Users())
	}
}

func TestReleaseTooOftenPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("no panic")
		}
	}()
	lease.New(func() {}).Release()
}
