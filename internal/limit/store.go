package limit

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

const (
	shards = 64
	// sweepEvery is how often idle entries are looked for, in one shard at a time.
	sweepEvery = 10 * time.Second / shards
)

// store has the entries that are in use, by key.
type store struct {
	seed   maphash.Seed
	order  atomic.Uint64
	name   func(Key) string // nil: entries have no name
	shards [shards]shard
}

type shard struct {
	mu      sync.RWMutex
	entries map[Key]*entry
	_       [32]byte // neighbours' locks stay off this cache line
}

func newStore(name func(Key) string) *store {
	s := &store{seed: maphash.MakeSeed(), name: name}
	for i := range s.shards {
		s.shards[i].entries = make(map[Key]*entry)
	}
	return s
}

func (s *store) shard(k *Key) *shard {
	h := maphash.String(s.seed, k.ID) + uint64(k.Window)/uint64(MinWindow)*31 + uint64(k.Scope)*7 + uint64(k.Kind)
	return &s.shards[h%shards]
}

// get returns the key's entry, a new one if there is none. No entry may be locked.
func (s *store) get(k *Key) *entry {
	sh := s.shard(k)
	sh.mu.RLock()
	e := sh.entries[*k]
	sh.mu.RUnlock()
	if e != nil {
		return e
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e := sh.entries[*k]; e != nil {
		return e
	}
	e = &entry{key: *k, order: s.order.Add(1)}
	if k.Kind != Concurrency {
		e.counts = new(window)
	}
	if s.name != nil {
		e.name = s.name(*k)
	}
	sh.entries[*k] = e
	return e
}

// locked returns the key's entry, locked.
func (s *store) locked(k *Key) *entry {
	for {
		e := s.get(k)
		e.mu.Lock()
		if !e.gone {
			return e
		}
		e.mu.Unlock()
	}
}

// lock finds and locks the entries of several limits. All do it in one order, so
// that nobody waits for each other.
func (s *store) lock(all []held) {
	for {
		for i := range all {
			if all[i].entry == nil {
				all[i].entry = s.get(&all[i].limit.Key)
			}
			for k := i; k > 0 && all[k].entry.order < all[k-1].entry.order; k-- {
				all[k], all[k-1] = all[k-1], all[k]
			}
		}
		gone := false
		for i := range all {
			all[i].entry.mu.Lock()
			gone = gone || all[i].entry.gone
		}
		if !gone {
			return
		}
		unlock(all)
	}
}

// unlock ends a lock.
func unlock(all []held) {
	for i := range all {
		all[i].entry.mu.Unlock()
		all[i].entry = nil
	}
}

// each calls f for every entry, locked.
func (s *store) each(f func(*entry)) {
	var all []*entry
	for i := range s.shards {
		sh := &s.shards[i]
		all = all[:0]
		sh.mu.RLock()
		for _, e := range sh.entries {
			all = append(all, e)
		}
		sh.mu.RUnlock()
		for _, e := range all {
			e.mu.Lock()
			if !e.gone {
				f(e)
			}
			e.mu.Unlock()
		}
	}
}

// sweep forgets the entries of one shard that count nothing any more.
func (s *store) sweep(i int, now int64) {
	sh := &s.shards[i%shards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for k, e := range sh.entries {
		if !e.mu.TryLock() {
			continue // somebody uses it
		}
		if e.idle(now) {
			e.gone = true
			delete(sh.entries, k)
		}
		e.mu.Unlock()
	}
}

// idle reports whether forgetting the entry changes no decision.
func (e *entry) idle(now int64) bool {
	if e.counts == nil {
		return e.inflight == 0 && (e.seenAt == 0 || now-e.seenAt >= slotsTrust.Microseconds())
	}
	b := width(e.key.Window)
	if e.seenAt != 0 && now-e.seenAt < buckets*b {
		return false
	}
	for _, w := range [...]*window{e.counts, e.away, e.unpushed} {
		if w != nil && w.live(w.index(now, b)) != 0 {
			return false
		}
	}
	return true
}

// size is how many entries there are.
func (s *store) size() int {
	n := 0
	for i := range s.shards {
		s.shards[i].mu.RLock()
		n += len(s.shards[i].entries)
		s.shards[i].mu.RUnlock()
	}
	return n
}
