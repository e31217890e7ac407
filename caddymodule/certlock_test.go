package caddymodule

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// store is the database of a node, without the node's bookkeeping.
func (s certStorage) store(t *testing.T) storage.CertStore {
	t.Helper()
	store, release, err := s.open(t.Context())
	mustDo(t, err)
	t.Cleanup(release)
	return store
}

// TestCertLocksExclude has goroutines of two nodes at one lock.
func TestCertLocksExclude(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, node certNode) {
		var inside sync.Mutex
		var wg sync.WaitGroup
		entered := 0
		for _, s := range []certStorage{node(t), node(t)} {
			for range 3 {
				wg.Go(func() {
					for range 2 {
						if err := s.Lock(soon(t), "n"); err != nil {
							t.Error(err)
							return
						}
						if !inside.TryLock() {
							t.Error("two are inside")
						} else {
							entered++
							inside.Unlock()
						}
						if err := s.Unlock(t.Context(), "n"); err != nil {
							t.Error(err)
						}
					}
				})
			}
		}
		wg.Wait()
		if entered != 12 {
			t.Errorf("%d entered", entered)
		}
	})
}

// TestCertLockEndsWithContext: whoever waits can be told to stop, whether for
// another node or for a neighbour.
func TestCertLockEndsWithContext(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, node certNode) {
		s, other := node(t), node(t)
		mustDo(t, s.Lock(t.Context(), "n"))
		for _, waiting := range []certStorage{s, other} {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			if err := waiting.Lock(ctx, "n"); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			cancel()
		}
		mustDo(t, s.Unlock(t.Context(), "n"))
		mustDo(t, other.Lock(soon(t), "n")) // those who left have left nothing behind
		mustDo(t, other.Unlock(t.Context(), "n"))
	})
}

// TestCertLockOfTheDead: a node dies with its lock, and another takes it over
// when the lease has ended, no sooner.
func TestCertLockOfTheDead(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, node certNode) {
		s := node(t)
		store := s.store(t)
		const lease = 500 * time.Millisecond
		began := time.Now()
		if ok, err := store.TryLock(t.Context(), "n", "the dead", lease); err != nil || !ok {
			t.Fatal(ok, err)
		}
		mustDo(t, s.Lock(soon(t), "n"))
		if waited := time.Since(began); waited < lease-50*time.Millisecond {
			t.Errorf("taken after %s", waited)
		}
		if held, err := store.Unlock(t.Context(), "n", "the dead"); err != nil || held {
			t.Errorf("who comes back from the dead unlocks it: %t, %v", held, err)
		}
		if ok, err := store.TryLock(t.Context(), "n", "third", lease); err != nil || ok {
			t.Error(ok, err)
		}
		mustDo(t, s.Unlock(t.Context(), "n"))
	})
}

// TestCertLockIsRenewed: a lock is held for longer than its lease.
func TestCertLockIsRenewed(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, node certNode) {
		s, other := node(t), node(t)
		s.lease = 1500 * time.Millisecond
		mustDo(t, s.Lock(t.Context(), "n"))
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(2 * s.lease); time.Now().Before(end); <-tick.C {
			if ok, err := other.TryLock(t.Context(), "n"); err != nil || ok {
				t.Fatalf("taken from its holder: %t, %v", ok, err)
			}
		}
		mustDo(t, s.Unlock(t.Context(), "n"))
		if ok, err := other.TryLock(t.Context(), "n"); err != nil || !ok {
			t.Errorf("after unlocking: %t, %v", ok, err)
		}
		mustDo(t, other.Unlock(t.Context(), "n"))
	})
}

// TestRenewLockLease: a lost lock is taken back if nobody has it, and however long
// a lease certmagic asks for, a crash does not keep others waiting that long.
func TestRenewLockLease(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, node certNode) {
		s := node(t)
		store := s.store(t)
		if err := s.RenewLockLease(t.Context(), "n", time.Hour); err == nil {
			t.Error("renewed what is not locked")
		}
		mustDo(t, s.Lock(t.Context(), "n"))
		for _, asked := range []time.Duration{0, time.Second, time.Minute, 6 * time.Hour} {
			mustDo(t, s.RenewLockLease(t.Context(), "n", asked))
		}
		owner := s.locks["n"].owner

		dying, heir := node(t), node(t)
		dying.lease = 300 * time.Millisecond
		mustDo(t, dying.Lock(t.Context(), "m"))
		mustDo(t, dying.RenewLockLease(t.Context(), "m", 6*time.Hour))
		dying.stop() // it renews nothing any more
		mustDo(t, heir.Lock(soon(t), "m"))
		mustDo(t, dying.Unlock(t.Context(), "m"))
		mustDo(t, heir.RenewLockLease(t.Context(), "m", 0))
		mustDo(t, heir.Unlock(t.Context(), "m"))

		lose := func() {
			t.Helper()
			if held, err := store.Unlock(t.Context(), "n", owner); err != nil || !held {
				t.Fatal(held, err)
			}
		}
		lose()
		mustDo(t, s.RenewLockLease(t.Context(), "n", time.Minute))
		lose()
		if ok, err := store.TryLock(t.Context(), "n", "other", time.Hour); err != nil || !ok {
			t.Fatal(ok, err)
		}
		if err := s.RenewLockLease(t.Context(), "n", time.Minute); err == nil {
			t.Error("renewed what another node has taken")
		}
		// To its neighbours it is locked until it is unlocked.
		if ok, err := s.TryLock(t.Context(), "n"); err != nil || ok {
			t.Error(ok, err)
		}
		mustDo(t, s.Unlock(t.Context(), "n"))
		if held, err := store.RenewLock(t.Context(), "n", "other", time.Hour); err != nil || !held {
			t.Errorf("unlocking took another's lock: %t, %v", held, err)
		}
	})
}

// TestCertLockOutlivesConfiguration: a configuration is cleaned up while a lock of
// its own is held; the database stays open until it is released.
func TestCertLockOutlivesConfiguration(t *testing.T) {
	onEveryDatabase(t, func(t *testing.T, node certNode) {
		s, other := node(t), node(t)
		mustDo(t, s.Lock(t.Context(), "n"))
		module := &CertStorage{certs: s.certs}
		mustDo(t, module.Cleanup())
		mustDo(t, module.Cleanup())
		mustDo(t, s.Store(t.Context(), "a", []byte("issued meanwhile")))
		mustDo(t, s.Unlock(t.Context(), "n"))
		if err := s.Store(t.Context(), "a", nil); !errors.Is(err, errStorageGone) {
			t.Errorf("after that: %v", err)
		}
		if err := s.Lock(t.Context(), "n"); !errors.Is(err, errStorageGone) {
			t.Errorf("after that: %v", err)
		}
		if got, err := other.Load(t.Context(), "a"); err != nil || string(got) != "issued meanwhile" {
			t.Errorf("%q, %v", got, err)
		}
		mustDo(t, other.Lock(soon(t), "n"))
		mustDo(t, other.Unlock(t.Context(), "n"))
	})
}

// TestCertLockAtExit follows the order in which Caddy exits: Cleanup, certmagic's
// release of locks, exit functions.
func TestCertLockAtExit(t *testing.T) {
	exiting = func() bool { return true }
	t.Cleanup(func() { exiting = func() bool { return false } })
	onEveryDatabase(t, func(t *testing.T, node certNode) {
		s, other := node(t), node(t)
		mustDo(t, s.Lock(t.Context(), "n"))
		l := s.locks["n"]
		mustDo(t, (&CertStorage{certs: s.certs}).Cleanup())
		select {
		case <-l.idle:
		default:
			t.Error("the lease is still renewed")
		}
		mustDo(t, s.Unlock(t.Context(), "n"))
		if ok, err := other.TryLock(t.Context(), "n"); err != nil || !ok {
			t.Error(ok, err)
		}
		mustDo(t, other.Unlock(t.Context(), "n"))
		mustDo(t, s.Store(t.Context(), "a", nil))
		lingering.end()
		lingering.end()
		if err := s.Store(t.Context(), "a", nil); !errors.Is(err, errStorageGone) {
			t.Errorf("after the exit functions: %v", err)
		}
	})
}
