// Package housekeeping deletes what is too old: a little at a time, every few
// minutes, and on one node only.
package housekeeping

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/gofrs/uuid/v5"
)

const (
	leaseName = "housekeeping"
	batch     = 500                    // rows of one transaction
	breather  = 100 * time.Millisecond // between two, for everybody else
	interval  = 10 * time.Minute
	// leaseTime is longer than the longest pause, so that the node that has the lease
	// keeps it for as long as it lives.
	leaseTime   = 2 * interval
	stopTimeout = 2 * time.Second
)

// Store is the database.
type Store interface {
	TryLease(ctx context.Context, name, owner string, ttl time.Duration) (bool, error)
	ReleaseLease(ctx context.Context, name, owner string) error
}

// Job is one kind of rows.
type Job struct {
	Name string
	Age  time.Duration // rows older than this are deleted; zero: none are
	// Batch is how many rows one transaction deletes; 0: 500.
	Batch int
	// Delete deletes up to limit rows and returns how many.
	Delete func(ctx context.Context, age time.Duration, limit int) (int64, error)
}

// Config is what the keeper needs. Store and Jobs are required.
type Config struct {
	Store  Store
	Jobs   func() []Job                      // asked in every round, as ages may change
	Pause  func(time.Duration) time.Duration // between rounds; nil: anything from half to one and a half times as long
	Logger *slog.Logger                      // nil: discard
}

// Run keeps house until ctx ends.
func Run(ctx context.Context, cfg Config) {
	if cfg.Pause == nil {
		cfg.Pause = jitter
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	k := &keeper{Config: cfg, owner: uuid.Must(uuid.NewV4()).String()}
	defer k.release(context.WithoutCancel(ctx))
	for wait(ctx, cfg.Pause(interval)) {
		k.round(ctx)
	}
}

// jitter spreads nodes that were started together.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// wait reports whether the time is over before ctx is.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

type keeper struct {
	Config
	owner string
	has   bool // the lease, as far as known
}

// round does every job to its end, unless another node does.
func (k *keeper) round(ctx context.Context) {
	for _, job := range k.Jobs() {
		if job.Age <= 0 {
			continue
		}
		deleted, err := k.do(ctx, job)
		if err != nil && ctx.Err() == nil {
			k.Logger.Warn("housekeeping is left for the next time", "job", job.Name, "deleted", deleted, "error", err)
			return
		}
		if deleted > 0 {
			k.Logger.Info("old rows deleted", "job", job.Name, "deleted", deleted, "older_than", job.Age)
		}
		if !k.has || ctx.Err() != nil {
			return
		}
	}
}

// do deletes in batches. The lease is renewed before each of them, so that a
// node that was held up for long finds out that it has lost it.
func (k *keeper) do(ctx context.Context, job Job) (deleted int64, err error) {
	for {
		if k.has, err = k.Store.TryLease(ctx, leaseName, k.owner, leaseTime); err != nil || !k.has {
			return deleted, err
		}
		limit := cmp.Or(job.Batch, batch)
		n, err := job.Delete(ctx, job.Age, limit)
		deleted += n
		if err != nil || n < int64(limit) || !wait(ctx, breather) {
			return deleted, err
		}
	}
}

// release lets another node take over at once.
func (k *keeper) release(ctx context.Context) {
	if !k.has {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if err := k.Store.ReleaseLease(ctx, leaseName, k.owner); err != nil {
		k.Logger.Warn("housekeeping's lease was not given back; it ends by itself", "error", err)
	}
}
