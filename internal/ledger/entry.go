package ledger

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/uuid/v5"
)

// entry is this process's lease of an account in one period. As far as this process
// knows, held + free + unflushed is what the database has leased to it; the database
// may have leased more, after an operation whose outcome was never learned, but
// never less, except by what a provider billed beyond a hold.
type entry struct {
	key   Key
	order uint64 // entries are locked in this order

	mu      sync.Mutex
	removed bool // from the map

	limit   int64 // newest that a request came with
	version int64

	free      int64         // below zero: a provider has billed more than was held
	held      int64         // by requests of this epoch
	unflushed int64         // settled, and not in the database yet
	used      int64         // what the database has of it
	until     time.Duration // when admission ends unless the lease is renewed
	chunk     int64         // what the last grant was more than was needed
	peak      int64         // most that was held since the last trim
	trimmed   time.Duration
	epoch     uint32 // another one after each lease that was lost
	holds     int    // of requests, of any epoch
	fresh     bool   // the database has no lease, as far as we know
	unsure    bool   // the outcome of an operation is not known

	row         Row // as last seen
	seen        bool
	refused     int64 // the smallest need that did not fit
	refusedAt   time.Duration
	wantedSeen  int64
	lastUse     time.Duration
	lastApplied time.Duration

	busy   bool // an operation is under way
	queued bool // for the next operation that has room
	urgent bool // for the next operation
	recall bool // return what is free
	refill bool
	next   *turn // who waits for an operation that is not under way yet

	sentPart      int64 // by the operation under way
	sentUnflushed int64
}

// turn is an operation that requests wait for.
type turn struct {
	needs []int64
	done  chan struct{}
	err   error // set before done is closed
}

// name is a Key that is quick to look up.
type name struct {
	id    uuid.UUID
	start int64
	kind  [3]uint8
}

const shardCount = 64

type shard struct {
	mu      sync.RWMutex
	entries map[name]*entry
	_       [24]byte // neighbours' locks stay off this cache line
}

// entries are those in use.
type entries struct {
	order  atomic.Uint64
	shards [shardCount]shard
}

func newEntries() *entries {
	s := new(entries)
	for i := range s.shards {
		s.shards[i].entries = make(map[name]*entry)
	}
	return s
}

func (s *entries) shard(n *name) *shard {
	return &s.shards[(binary.LittleEndian.Uint64(n.id[8:])+uint64(n.kind[1]))%shardCount] // the random part of an id
}

// get returns an account's entry of a period, a new one if there is none.
func (s *entries) get(a *Account, period int, start int64) *entry {
	n := name{a.ID, start, [3]uint8{uint8(a.Scope), uint8(a.Unit), uint8(period)}}
	sh := s.shard(&n)
	sh.mu.RLock()
	e := sh.entries[n]
	sh.mu.RUnlock()
	if e != nil {
		return e
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e := sh.entries[n]; e != nil {
		return e
	}
	e = &entry{key: Key{*a, start}, order: s.order.Add(1), fresh: true}
	e.key.Period = periods[period]
	sh.entries[n] = e
	return e
}

// find returns an entry, or nil.
func (s *entries) find(k *Key) *entry {
	n := name{k.ID, k.Start, [3]uint8{uint8(k.Scope), uint8(k.Unit), uint8(spanOf(k.Period))}}
	sh := s.shard(&n)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.entries[n]
}

// each calls f for every entry, locked. Those for which it returns true are removed.
func (s *entries) each(f func(*entry) (remove bool)) {
	type named struct {
		name
		*entry
	}
	var all []named
	for i := range s.shards {
		sh := &s.shards[i]
		all = all[:0]
		sh.mu.RLock()
		for n, e := range sh.entries {
			all = append(all, named{n, e})
		}
		sh.mu.RUnlock()
		for _, e := range all {
			e.mu.Lock()
			e.removed = e.removed || f(e.entry)
			removed := e.removed
			e.mu.Unlock()
			if removed {
				sh.mu.Lock()
				if sh.entries[e.name] == e.entry {
					delete(sh.entries, e.name)
				}
				sh.mu.Unlock()
			}
		}
	}
}

// size is how many entries there are.
func (s *entries) size() (n int) {
	for i := range s.shards {
		s.shards[i].mu.RLock()
		n += len(s.shards[i].entries)
		s.shards[i].mu.RUnlock()
	}
	return n
}

// idle reports whether nothing is lost with the entry.
func (e *entry) idle() bool {
	return e.holds == 0 && e.held == 0 && e.free == 0 && e.unflushed == 0 && !e.unsure && !e.busy && !e.queued && !e.urgent && e.next == nil
}

// due reports whether the database has to be told something.
func (e *entry) due(now time.Duration) bool {
	return e.unflushed != 0 || e.unsure || e.recall || e.free != 0 || e.held > 0 && now-e.lastApplied >= renewAfter
}

// take holds an amount, if the lease has it.
func (e *entry) take(amount int64, now time.Duration) {
	e.free -= amount
	e.held += amount
	e.holds++
	e.lastUse = now
	e.peak = max(e.peak, e.held)
}

// trim sets aside what the lease has beyond a chunk and what was held at a time since
// the last trim, so that holds much larger than costs do not make leases that are.
func (e *entry) trim(now time.Duration) {
	if now-e.trimmed < roundEvery {
		return
	}
	if surplus := e.held + e.free - max(e.peak, e.held) - e.chunk; surplus > 0 {
		e.free -= min(surplus, max(e.free, 0))
	}
	e.trimmed, e.peak = now, e.held
}

// settle ends a hold, whatever it has cost.
func (e *entry) settle(h *hold, cost int64) {
	e.holds--
	if h.epoch != e.epoch { // the lease was lost, and all of it counted as spent
		over := max(0, cost-h.amount)
		e.unflushed += over
		e.free -= over
		return
	}
	e.held -= h.amount
	e.unflushed += cost
	e.free += h.amount - cost
}
