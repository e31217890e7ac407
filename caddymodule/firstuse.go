package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// firstUse is for what Caddy asks of us before it starts any app: the database
// is opened at its first use then, and Start finds it open.
type firstUse struct {
	mu      sync.Mutex
	attempt *attempt // the last one
	tried   bool     // the first use has waited for the database, and in vain
}

// attempt is an attempt to open the database, shared by all who wait for it.
type attempt struct {
	over chan struct{} // closed when it is
	err  error
}

// firstPatience is how long the first use waits for a database that is out of
// reach when the process starts: Caddy cannot start without its certificates, and
// does not try again. At a reload it is openTimeout.
const firstPatience = time.Minute

// use returns the open database, and opens it if need be: never waiting for
// Start, which may not come before we are done. The first use waits for a database
// that is out of reach; later ones try once. The caller holds a lease on the
// database, or on a runtime that does.
func (d *database) use(ctx context.Context) (*storage.DB, error) {
	if d.isOpen() {
		return d.store.Load(), nil
	}
	a := d.try()
	select {
	case <-d.ready:
	case <-a.over:
		if a.err != nil {
			return nil, a.err
		}
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the database to open: %w", ctx.Err())
	}
	return d.store.Load(), nil
}

// try begins an attempt, or joins the one that is under way.
func (d *database) try() *attempt {
	d.first.mu.Lock()
	defer d.first.mu.Unlock()
	if a := d.first.attempt; a != nil {
		select {
		case <-a.over:
		default:
			return a
		}
	}
	a := &attempt{over: make(chan struct{})}
	var patience time.Duration
	switch {
	case d.first.tried:
	case served.Load():
		patience = openTimeout
	default:
		patience = firstPatience
	}
	d.first.attempt, d.first.tried = a, true
	d.work.Go(func() {
		defer close(a.over)
		a.err = d.connectWithin(patience)
	})
	return a
}

// connectWithin tries at least once, and for as long as patience lasts.
func (d *database) connectWithin(patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for pause := retryMin; ; pause = min(2*pause, retryMax) {
		d.mu.Lock()
		err := d.connect()
		d.mu.Unlock()
		if err == nil || !errors.Is(err, storage.ErrUnreachable) || time.Now().Add(pause).After(deadline) {
			return err
		}
		d.logger.Error("the database is out of reach, and Caddy's certificates with it", "error", err, "next_attempt_in", pause)
		select {
		case <-d.ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}
