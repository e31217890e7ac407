package ledger

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/uuid/v5"
)

const (
	// roundEvery is how often the database is told what was spent.
	roundEvery = time.Second
	// reapGrace is how long after its end a lease is taken back.
	reapGrace = 30 * time.Second
	reapEvery = 5 * time.Second // at least; twice as long at most
	reapLimit = 200
	// closeTimeout bounds what Close waits for the database.
	closeTimeout = 5 * time.Second
)

// Config is what a ledger needs. Store is required. The functions are called outside
// of all locks, and must not block.
type Config struct {
	Store  Store
	Logger *slog.Logger // nil: discard

	// OnOvershoot hears what a provider has billed beyond a request's hold, which was
	// charged all the same.
	OnOvershoot func(a Account, nano int64)
	// OnThreshold hears that so many percent of a limit, one of Thresholds, are used: on
	// one of all nodes, and at most once in each period. 100 also says that what is left
	// was not enough for a request, with half of it used.
	OnThreshold func(a Account, percent int, b Balance)
	// OnForfeit hears of what was left of the lease of a process that is gone.
	OnForfeit func(a Account, amount int64)
}

// Ledger is this process's part of all accounts. It is safe for concurrent use.
type Ledger struct {
	store       Store
	logger      *slog.Logger
	onOvershoot func(Account, int64)
	onThreshold func(Account, int, Balance)
	onForfeit   func(Account, int64)
	holder      uuid.UUID

	clock   *clock
	entries *entries
	queue   *queue

	started sync.Once
	closing sync.Once
	closed  atomic.Bool
	away    atomic.Bool // the last transaction failed
	done    chan struct{}
	context context.Context // of transactions
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// New makes a ledger of a process that the database does not know yet. It does no I/O.
func New(cfg Config) (*Ledger, error) {
	if cfg.Store == nil {
		return nil, errors.New("the ledger needs a database")
	}
	holder, err := uuid.NewV4()
	if err != nil {
		return nil, err
	}
	logger := cfg.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	l := &Ledger{
		store: cfg.Store, logger: logger, holder: holder,
		onOvershoot: cfg.OnOvershoot, onThreshold: cfg.OnThreshold, onForfeit: cfg.OnForfeit,
		clock: newClock(), entries: newEntries(), queue: newQueue(), done: make(chan struct{}),
	}
	l.context, l.cancel = context.WithCancel(context.Background())
	return l, nil
}

// Holder is the id by which the database knows this process's leases.
func (l *Ledger) Holder() uuid.UUID { return l.holder }

// Start begins to speak with the database. It does nothing the second time, or after
// Close.
func (l *Ledger) Start() {
	l.started.Do(func() {
		for range clerks {
			c := &clerk{l: l}
			l.running.Go(func() { c.run(l.done) })
		}
		l.running.Go(func() { l.every(func() time.Duration { return roundEvery }, l.round) })
		l.running.Go(func() { l.every(func() time.Duration { return reapEvery + rand.N(reapEvery) }, l.reap) })
	})
}

func (l *Ledger) every(pause func() time.Duration, do func()) {
	timer := time.NewTimer(pause())
	defer timer.Stop()
	for {
		select {
		case <-l.done:
			return
		case <-timer.C:
			do()
			timer.Reset(pause())
		}
	}
}

// round has the database told what it does not know, and forgets what is over.
func (l *Ledger) round() {
	now := l.clock.mono()
	l.entries.each(func(e *entry) bool {
		if e.due(now) {
			l.queue.push(e, false)
			return false
		}
		return e.idle()
	})
}

// reap ends the leases of processes that are gone.
func (l *Ledger) reap() {
	ctx, cancel := context.WithTimeout(l.context, applyTimeout)
	defer cancel()
	for {
		list, err := l.store.ReapLedger(ctx, reapGrace, reapLimit)
		if err != nil {
			if ctx.Err() == nil {
				l.logger.Warn("leases of processes that are gone were not looked for; they will be", "error", err)
			}
			return
		}
		for i := range list {
			f := &list[i]
			l.logger.Warn("a process ended without returning its lease: what was left of it counts as spent",
				"scope", f.Scope.String(), "id", f.ID, "unit", f.Unit.String(), "amount", f.Amount, "holder", f.Holder)
			if l.onForfeit != nil {
				l.onForfeit(f.Account, f.Amount)
			}
		}
		if len(list) < reapLimit {
			return
		}
	}
}

// Recall returns what no request holds of an account's leases, at once: another node
// lacks it.
func (l *Ledger) Recall(a Account) {
	period := spanOf(a.Period)
	if period < 0 || period > 0 && !l.clock.known() {
		return
	}
	e := l.entries.find(&Key{a, l.clock.start(period, l.clock.mono())})
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.recall = e.free > 0; e.recall {
		l.queue.push(e, false)
	}
}

// Leases is how many leases this process has, or had a moment ago.
func (l *Ledger) Leases() int { return l.entries.size() }

// answered notes whether the database answers, and logs when that changes.
func (l *Ledger) answered(err error) {
	switch {
	case err != nil && l.context.Err() == nil && !l.away.Swap(true):
		l.logger.Error("the ledger cannot reach the database: requests with a quota or budget are served until their leases are used up or end", "error", err)
	case err == nil && l.away.Swap(false):
		l.logger.Info("the ledger reaches the database again")
	}
}

// Close returns all leases but what requests still hold, which counts as spent soon.
// It waits for the database until ctx ends, and 5 seconds at most. Nothing is held
// from then on.
func (l *Ledger) Close(ctx context.Context) error {
	var err error
	l.closing.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, closeTimeout)
		defer cancel()
		l.started.Do(func() {}) // never
		l.closed.Store(true)
		close(l.done)
		stopped := make(chan struct{})
		go func() { l.running.Wait(); close(stopped) }()
		select {
		case <-stopped:
		case <-ctx.Done():
			l.cancel()
			<-stopped
		}
		err = l.drain(ctx)
		l.cancel()
	})
	return err
}

// drain tells the database everything that it does not know.
func (l *Ledger) drain(ctx context.Context) error {
	c := &clerk{l: l}
	for ctx.Err() == nil {
		left := false
		l.entries.each(func(e *entry) bool {
			if e.unflushed != 0 || e.unsure || e.free != 0 {
				left = true
				l.queue.push(e, false)
			}
			return e.idle()
		})
		if !left {
			return nil
		}
		for l.queue.size() > 0 && ctx.Err() == nil {
			c.serve(ctx)
		}
		if l.away.Load() {
			break
		}
	}
	return errors.New("leases of quotas and budgets could not be returned to the database: what was left of them counts as spent in a minute")
}
