package caddymodule

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/storage"
)

const (
	// lockLease is how long a lock outlives the process that held it.
	lockLease = 15 * time.Second

	lockPollMin = 50 * time.Millisecond
	lockPollMax = time.Second

	// lockPatience is how long waiting for a lock goes on while the database is out
	// of reach.
	lockPatience = 30 * time.Second
	// lockTimeout bounds what is done for a lock after its context has ended.
	lockTimeout = 5 * time.Second
)

// certLock is a lock that is held, or waited for, by one goroutine of ours. The
// others wait for that one: so two of them never hold a lock at once, even if the
// lease was lost, and only one asks the database.
type certLock struct {
	owner string
	gone  chan struct{} // closed when others may have a go

	// Guarded by certs.mu:
	held    bool
	stop    context.CancelFunc // of renewing
	idle    chan struct{}      // closed when renewing has ended
	store   storage.CertStore
	release func() // of the store
}

// Lock implements [certmagic.Locker]. A lock that is free is given even to a
// context that has ended, as certmagic's file storage does it.
func (c *certs) Lock(ctx context.Context, name string) error {
	l, err := c.claim(ctx, name)
	if err != nil {
		return fmt.Errorf("waiting for the lock %q: %w", name, err)
	}
	if err := c.wait(ctx, name, l); err != nil {
		c.forget(name, l)
		return fmt.Errorf("waiting for the lock %q: %w", name, err)
	}
	return nil
}

// TryLock implements [certmagic.TryLocker].
func (c *certs) TryLock(ctx context.Context, name string) (bool, error) {
	l, _ := c.begin(name)
	if l == nil {
		return false, nil
	}
	locked, err := c.take(ctx, name, l)
	if !locked {
		c.forget(name, l)
	}
	if err != nil {
		return false, fmt.Errorf("trying the lock %q: %w", name, err)
	}
	return locked, nil
}

// Unlock implements [certmagic.Locker]. What is not locked here needs no
// unlocking: when the process exits, certmagic releases locks beside their holders,
// and some that it has released before.
func (c *certs) Unlock(ctx context.Context, name string) error {
	c.mu.Lock()
	l := c.locks[name]
	if l == nil || !l.held {
		c.mu.Unlock()
		return nil
	}
	l.held = false
	c.mu.Unlock()

	// Renewing ends first, or it might come after the row's end.
	l.stop()
	<-l.idle
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockTimeout)
	defer cancel()
	ours, err := l.store.Unlock(ctx, name, l.owner)
	c.forget(name, l)
	l.release()
	if err != nil {
		return fmt.Errorf("unlocking %q; its lease ends by itself: %w", name, err)
	}
	if !ours {
		c.logger.Warn("a lock was lost while it was held: the database was out of reach, or this process was suspended, for longer than its lease", "lock", name)
	}
	return nil
}

// RenewLockLease implements [certmagic.LockLeaseRenewer]. Leases are renewed
// without it, for as long as the lock is held; what it adds is that a lock that was
// lost is taken again if it is free. A longer lease than that is not given:
// certmagic asks for minutes or hours, for storages that cannot renew by
// themselves, and a crash would keep other nodes waiting that long.
func (c *certs) RenewLockLease(ctx context.Context, name string, _ time.Duration) error {
	c.mu.Lock()
	l := c.locks[name]
	held := l != nil && l.held
	c.mu.Unlock()
	if !held {
		return fmt.Errorf("renewing the lock %q: it is not locked here", name)
	}
	ours, err := l.store.TryLock(ctx, name, l.owner, c.lease)
	switch {
	case err != nil:
		return fmt.Errorf("renewing the lock %q: %w", name, err)
	case !ours:
		return fmt.Errorf("renewing the lock %q: somebody else has taken it", name)
	}
	return nil
}

// begin makes this goroutine the one that may take the lock, or returns the
// channel to wait on.
func (c *certs) begin(name string) (l *certLock, gone <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if other := c.locks[name]; other != nil {
		return nil, other.gone
	}
	l = &certLock{owner: rand.Text(), gone: make(chan struct{})}
	c.locks[name] = l
	return l, nil
}

// claim waits until begin succeeds.
func (c *certs) claim(ctx context.Context, name string) (*certLock, error) {
	for {
		l, gone := c.begin(name)
		if l != nil {
			return l, nil
		}
		select {
		case <-gone:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// forget lets another goroutine have a go.
func (c *certs) forget(name string, l *certLock) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.locks, name)
	close(l.gone)
}

// wait asks for the lock until it is ours.
func (c *certs) wait(ctx context.Context, name string, l *certLock) error {
	first, cancel := ctx, func() {}
	if ctx.Err() != nil {
		first, cancel = context.WithTimeout(context.WithoutCancel(ctx), lockTimeout)
	}
	locked, err := c.take(first, name, l)
	cancel()
	answered := time.Now()
	for pause := lockPollMin; !locked; pause = min(2*pause, lockPollMax) {
		if err == nil {
			answered = time.Now()
		} else if !errors.Is(err, storage.ErrUnreachable) || time.Since(answered) > lockPatience {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause - mathrand.N(pause/4)):
		}
		locked, err = c.take(ctx, name, l)
	}
	return nil
}

// take asks for the lock once. A held lock keeps the database open, whatever
// becomes of its configuration, and is renewed until it is released.
func (c *certs) take(ctx context.Context, name string, l *certLock) (bool, error) {
	store, release, err := c.open(ctx)
	if err != nil {
		return false, err
	}
	locked, err := store.TryLock(ctx, name, l.owner, c.lease)
	if !locked {
		release()
		return false, err
	}
	renewing, stop := context.WithCancel(context.Background())
	c.mu.Lock()
	l.held, l.store, l.release, l.stop, l.idle = true, store, release, stop, make(chan struct{})
	c.mu.Unlock()
	go c.renew(renewing, name, l)
	return true, nil
}

// renew renews the lease until ctx ends, which is at Unlock or with the process.
func (c *certs) renew(ctx context.Context, name string, l *certLock) {
	defer close(l.idle)
	tick := time.NewTicker(c.lease / 3)
	defer tick.Stop()
	lost := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		attempt, cancel := context.WithTimeout(ctx, c.lease/3)
		ours, err := l.store.RenewLock(attempt, name, l.owner, c.lease)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			c.logger.Warn("renewing the lease of a lock", "lock", name, "error", err)
		case !ours && !lost:
			c.logger.Error("a lock was lost while it was held; another node may be doing the same work", "lock", name)
		}
		lost = err == nil && !ours
	}
}

// stop ends the renewal of all leases: the process exits, and the locks are
// released, or their leases end, before long.
func (c *certs) stop() {
	c.mu.Lock()
	var idle []chan struct{}
	for _, l := range c.locks {
		if l.held {
			l.stop()
			idle = append(idle, l.idle)
		}
	}
	c.mu.Unlock()
	for _, ended := range idle {
		<-ended
	}
}
