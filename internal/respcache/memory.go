package respcache

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// MinMemory is the smallest bound of a [Memory].
const MinMemory = 1 << 20

// MemoryShare is the part of the memory, one of so many, that what is kept under one key may take.
const MemoryShare = 8

// Memory keeps entries in this process, within a bound in bytes: what is least
// likely to be asked for again leaves first. It is safe for concurrent use.
type Memory struct {
	max    int64
	now    func() time.Time
	groups *otter.Cache[Key, *group]
	cells  *cells
	epochs epochs

	entries, bytes                      atomic.Int64
	hits, misses, puts, refused         atomic.Int64
	evictions, expirations, purged, big atomic.Int64

	work    sync.WaitGroup
	mu      sync.Mutex // guards what follows
	victims [][]*item  // purged, and still to be freed
	wake    chan struct{}
	quit    chan struct{}
	closed  bool
}

// NewMemory makes a store of at most so many bytes. [Memory.Close] ends it.
func NewMemory(maxBytes int64) (*Memory, error) { return newMemory(maxBytes, time.Now, nil) }

func newMemory(maxBytes int64, now func() time.Time, clock otter.Clock) (*Memory, error) {
	if maxBytes < MinMemory {
		return nil, fmt.Errorf("expected at least %d bytes for the cache in memory", MinMemory)
	}
	m := &Memory{max: maxBytes, now: now, cells: newCells(), wake: make(chan struct{}, 1), quit: make(chan struct{})}
	var err error
	m.groups, err = otter.New(&otter.Options[Key, *group]{
		MaximumWeight:    uint64(maxBytes),
		Weigher:          func(_ Key, g *group) uint32 { return uint32(min(g.size, math.MaxUint32)) },
		ExpiryCalculator: expiry{m},
		OnAtomicDeletion: m.deleted,
		Executor:         m.execute,
		Clock:            clock,
	})
	if err != nil {
		return nil, fmt.Errorf("making the cache in memory: %w", err)
	}
	m.work.Go(m.free)
	return m, nil
}

// Close ends what runs in the background. It may be called more than once; what
// uses the store afterwards finds it as it was.
func (m *Memory) Close() {
	m.mu.Lock()
	first := !m.closed
	m.closed = true
	m.mu.Unlock()
	if first {
		close(m.quit)
		m.groups.StopAllGoroutines()
	}
	m.work.Wait()
}

// execute runs otter's housekeeping beside its callers.
func (m *Memory) execute(work func()) {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		work()
		return
	}
	m.work.Go(work)
	m.mu.Unlock()
}

// Lookup finds the entry that answers a request. varied says that there are others
// under its key. It does not allocate.
func (m *Memory) Lookup(primary Key, variant func(vary []string) Key) (e *Entry, varied bool) {
	if g, ok := m.groups.GetIfPresent(primary); ok {
		found, present := g.find(variant, m.now())
		if found != nil {
			m.hits.Add(1)
			return found.entry, false
		}
		varied = present
	}
	m.misses.Add(1)
	return nil, varied
}

// Epoch is to be noted when a request begins whose response may be put.
func (m *Memory) Epoch() uint64 { return m.epochs.now() }

// ErrPurged says that an entry was not kept as it was purged before it came.
var ErrPurged = errors.New("purged while it was fetched")

// ErrTooLarge says that an entry is too large to be kept.
var ErrTooLarge = errors.New("too large for the cache")

// errStale says that an entry is of no use any more.
var errStale = errors.New("of no use any more")

// Put keeps an entry whose request began at an epoch.
func (m *Memory) Put(e *Entry, epoch uint64) error {
	if err := e.check(); err != nil {
		return err
	}
	it := &item{entry: e, size: e.Size()}
	if it.size > m.max/MemoryShare {
		m.big.Add(1)
		return ErrTooLarge
	}
	now := m.now()
	if !e.Until.After(now) {
		return errStale
	}
	m.epochs.gate.RLock()
	defer m.epochs.gate.RUnlock()
	admitted := false
	m.groups.Compute(e.Primary, func(old *group, found bool) (*group, otter.ComputeOp) {
		if admitted = m.epochs.admits(epoch, e); !admitted {
			return nil, otter.CancelOp
		}
		items := []*item{it}
		if found {
			for _, other := range old.items {
				if other.entry.Variant != e.Variant && other.alive() && other.entry.Until.After(now) {
					items = append(items, other)
				} else {
					m.take(other)
				}
			}
		}
		g, dropped := newGroup(items, m.max/MemoryShare)
		for _, other := range dropped {
			if m.take(other) {
				m.evictions.Add(1)
			}
		}
		m.cells.add(it)
		m.entries.Add(1)
		m.bytes.Add(it.size)
		return g, otter.WriteOp
	})
	if !admitted {
		m.refused.Add(1)
		return ErrPurged
	}
	m.puts.Add(1)
	return nil
}

// Invalidate forgets what is kept under a primary key, and what is on its way.
func (m *Memory) Invalidate(primary Key) (deleted int) {
	m.epochs.invalidate(&primary)
	_, deleted = m.drop(primary) // after a Put that is under way and has been admitted
	return deleted
}

// drop takes away what is kept under a key, and counts what was of use.
func (m *Memory) drop(primary Key) (taken []*item, deleted int) {
	now := m.now()
	m.groups.Compute(primary, func(old *group, found bool) (*group, otter.ComputeOp) {
		if !found {
			return nil, otter.CancelOp
		}
		for _, it := range old.items {
			if !m.take(it) {
				continue
			}
			taken = append(taken, it)
			if it.entry.Until.After(now) {
				deleted++
			}
		}
		return nil, otter.InvalidateOp
	})
	m.purged.Add(int64(deleted))
	return taken, deleted
}

// take takes an item out of the index, once.
func (m *Memory) take(it *item) bool {
	if !m.cells.remove(it) {
		return false
	}
	m.entries.Add(-1)
	m.bytes.Add(-it.size)
	return true
}

// deleted is told by otter what it has let go.
func (m *Memory) deleted(e otter.DeletionEvent[Key, *group]) {
	if !e.Cause.IsEviction() {
		return // Put and those who purge have seen to it
	}
	for _, it := range e.Value.items {
		if !m.take(it) {
			continue
		}
		if e.Cause == otter.CauseExpiration {
			m.expirations.Add(1)
		} else {
			m.evictions.Add(1)
		}
	}
}

// expiry has otter free what is of no use any more.
type expiry struct{ m *Memory }

func (x expiry) ExpireAfterCreate(e otter.Entry[Key, *group]) time.Duration {
	return max(1, time.Duration(e.Value.until-x.m.now().UnixNano()))
}

func (x expiry) ExpireAfterUpdate(e otter.Entry[Key, *group], _ *group) time.Duration {
	return x.ExpireAfterCreate(e)
}

func (x expiry) ExpireAfterRead(e otter.Entry[Key, *group]) time.Duration { return e.ExpiresAfter() }
