package event

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of a [Config].
const (
	DefaultRing     = 65536
	DefaultBatch    = 1000
	DefaultInterval = 20 * time.Millisecond
	DefaultPatience = 50 * time.Millisecond
	DefaultTimeout  = 10 * time.Second
	DefaultMaxSpill = 1 << 30
	maxQueuedBodies = 64 << 20 // bytes of captured bodies in the ring
)

// Store keeps events for good.
type Store interface {
	// AppendEvents keeps all events or none. Those that it has already, by their
	// ids, it leaves as they are. It must not keep or change what it is given.
	AppendEvents(ctx context.Context, events []*Event) error
}

// Config is what a Log needs. Store is required; zero values stand for defaults.
type Config struct {
	Store    Store
	Dir      string        // for events that the store does not take; "": memory alone holds them
	MaxSpill int64         // bytes in Dir
	Ring     int           // events in memory
	Batch    int           // events of one transaction
	Interval time.Duration // how long an event waits for others
	Patience time.Duration // how long a batch waits for the store before it is written to Dir
	Timeout  time.Duration // of one call of the store
	Logger   *slog.Logger  // nil: discard
}

// Stats is what a Log has done since it was made, but for what is pending.
type Stats struct {
	Published     int64 // events that were appended
	Committed     int64 // that the store took, from memory or from the spill
	Spilled       int64 // that were written to the spill
	Dropped       int64 // that are lost
	Pending       int64 // in memory
	SpillBytes    int64 // waiting on disk
	SpillEvents   int64
	CommitLatency time.Duration // of the last batch, in the store
}

// item is an event in the ring. done is somebody who waits for it, or nil.
type item struct {
	ev   *Event
	done chan error
}

// Log takes the events of requests and hands them to the store, in batches and in
// the order in which they came, as long as the store takes them in time. What it
// does not take in time waits on disk, and is handed over beside the others later.
//
// Append may be called at once; nothing is written before Start.
type Log struct {
	cfg   Config
	spill *spill // nil: none

	mu      sync.Mutex
	ring    []item
	head, n int
	bodies  int64 // bytes of captured bodies in the ring
	waiting int   // items in the ring with somebody who waits
	closed  bool
	started bool

	wake      chan struct{} // the collector has something to look at
	drainWake chan struct{}
	soft      context.Context // ends when Close begins
	stop      context.CancelFunc
	hard      context.Context // ends when Close has waited for long enough
	kill      context.CancelFunc
	collector sync.WaitGroup
	drainer   sync.WaitGroup
	calls     sync.WaitGroup // of the store, by the collector

	// Of the collector alone:
	late    *call // has taken longer than the patience
	retryAt time.Time
	pause   time.Duration
	buf     []byte

	published, committed, spilled, dropped, inHand, latency atomic.Int64

	trouble   trouble
	listeners listeners
}

// New checks the configuration. It does no I/O.
func New(cfg Config) (*Log, error) {
	if cfg.Store == nil {
		return nil, errors.New("the event log needs a store")
	}
	if cfg.MaxSpill < 0 || cfg.Ring < 0 || cfg.Batch < 0 || cfg.Interval < 0 || cfg.Patience < 0 || cfg.Timeout < 0 {
		return nil, errors.New("the event log's bounds must not be negative")
	}
	cfg.MaxSpill = cmp.Or(cfg.MaxSpill, DefaultMaxSpill)
	cfg.Ring = cmp.Or(cfg.Ring, DefaultRing)
	cfg.Batch = cmp.Or(cfg.Batch, DefaultBatch)
	cfg.Interval = cmp.Or(cfg.Interval, DefaultInterval)
	cfg.Patience = cmp.Or(cfg.Patience, DefaultPatience)
	cfg.Timeout = cmp.Or(cfg.Timeout, DefaultTimeout)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Log{cfg: cfg, ring: make([]item, cfg.Ring), wake: make(chan struct{}, 1), drainWake: make(chan struct{}, 1)}
	l.trouble.logger = cfg.Logger
	l.soft, l.stop = context.WithCancel(context.Background())
	l.hard, l.kill = context.WithCancel(context.Background())
	if cfg.Dir != "" {
		l.spill = &spill{dir: cfg.Dir, max: cfg.MaxSpill}
	}
	return l, nil
}

// Start makes the directory and begins to write events, those that other processes
// have left behind included. Calling it again does nothing.
func (l *Log) Start() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.started || l.closed {
		return nil
	}
	if l.spill != nil {
		if err := os.MkdirAll(l.cfg.Dir, 0o700); err != nil {
			return fmt.Errorf("making the directory for events that wait for the database: %w", err)
		}
		if err := l.spill.adopt(); err != nil {
			l.cfg.Logger.Error("events that were left behind on disk cannot be read", "error", err)
		}
		l.drainer.Go(l.drain)
	}
	l.started = true
	l.collector.Go(l.collect)
	return nil
}

// Append takes over the event and writes it soon: within Interval + Patience it is
// in the store or on disk. It does no I/O, except when memory is full: then it
// writes to the spill itself, without waiting for the disk.
func (l *Log) Append(e *Event) { l.append(item{ev: e}) }

// AppendDurable is Append that returns once the event is safe from a crash and a
// power cut: in the store or on disk. Many callers share one commit. An event whose
// caller's ctx ends is written all the same.
func (l *Log) AppendDurable(ctx context.Context, e *Event) error {
	done := make(chan error, 1)
	l.append(item{ev: e, done: done})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("waiting for an event to be written: %w", ctx.Err())
	}
}

func (l *Log) append(it item) {
	l.published.Add(1)
	bodies := int64(len(it.ev.Request) + len(it.ev.Response))
	l.mu.Lock()
	if l.closed || l.n == len(l.ring) || bodies > 0 && l.n > 0 && l.bodies+bodies > maxQueuedBodies {
		closed := l.closed
		l.mu.Unlock()
		l.overflow(it, closed)
		return
	}
	at := l.head + l.n
	if at >= len(l.ring) {
		at -= len(l.ring)
	}
	l.ring[at] = it
	l.n++
	l.bodies += bodies
	if it.done != nil {
		l.waiting++
	}
	signal := l.n == 1 || l.n == l.cfg.Batch || it.done != nil
	l.mu.Unlock()
	if signal {
		poke(l.wake)
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// errClosed and errRingFull say why an event was not taken into memory.
var (
	errClosed   = errors.New("the event log is closed")
	errRingFull = errors.New("too many events wait in memory")
)

// overflow is for an event that memory has no room for.
func (l *Log) overflow(it item, closed bool) {
	why := errRingFull
	if closed {
		why = errClosed
	}
	if l.spill != nil && !closed {
		it.ev.prepare()
		recs := appendRecord(nil, it.ev)
		err := error(nil)
		if it.done != nil {
			err = l.spill.append(recs, 1)
		} else {
			err = l.spill.appendLater(recs, 1)
		}
		if err == nil {
			l.spilled.Add(1)
			l.trouble.spilling(why)
			poke(l.drainWake)
			finish([]item{it}, nil, true)
			return
		}
		why = fmt.Errorf("%w, and %w", why, err)
	}
	l.drop([]item{it}, why)
}

// drop gives events up.
func (l *Log) drop(items []item, why error) {
	l.dropped.Add(int64(len(items)))
	l.trouble.dropping(int64(len(items)), why)
	finish(items, why, true)
}

// finish tells who waits, and why if the events are lost, and releases them if
// nobody else has them.
func finish(items []item, why error, release bool) {
	for _, it := range items {
		if it.done != nil {
			err := why
			if why != nil {
				err = fmt.Errorf("an event is lost: %w", why)
			}
			it.done <- err
		}
		if release {
			it.ev.Release()
		}
	}
}

// OnCommit calls listener whenever the store has taken events. It must not block.
// remove ends that; a call that is under way may still finish after it returns.
func (l *Log) OnCommit(listener func()) (remove func()) { return l.listeners.add(listener) }

// Stats returns the counters.
func (l *Log) Stats() Stats {
	s := Stats{
		Published: l.published.Load(), Committed: l.committed.Load(), Spilled: l.spilled.Load(), Dropped: l.dropped.Load(),
		CommitLatency: time.Duration(l.latency.Load()),
	}
	l.mu.Lock()
	s.Pending = int64(l.n) + l.inHand.Load()
	l.mu.Unlock()
	if l.spill != nil {
		s.SpillBytes, s.SpillEvents = l.spill.pending()
	}
	return s
}

// Close writes what is in memory, to the store or else to disk, and ends every
// goroutine. When ctx ends first it stops waiting for the store. Events that are
// appended later are lost, and counted.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	started := l.started
	l.mu.Unlock()
	if !first {
		return nil
	}
	defer context.AfterFunc(ctx, l.kill)()
	l.stop()
	poke(l.wake)
	if !started {
		l.abandon(errors.New("the event log was never started"))
	}
	l.collector.Wait()
	l.kill()
	l.calls.Wait()
	l.drainer.Wait()
	if l.spill != nil {
		if err := l.spill.close(); err != nil {
			return fmt.Errorf("closing the events on disk: %w", err)
		}
	}
	return nil
}

// abandon drops what is in the ring.
func (l *Log) abandon(why error) {
	for batch := l.take(); len(batch) > 0; batch = l.take() {
		l.drop(batch, why)
		l.inHand.Store(0)
	}
}
