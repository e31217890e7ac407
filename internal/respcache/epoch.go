package respcache

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
)

// epochs counts what takes entries away. A request notes the count when it begins;
// what it brings is kept only if nothing was taken away since that it would bring
// back.
type epochs struct {
	gate  sync.RWMutex // held to write while a purge is noted, to read while an entry is put
	count atomic.Uint64
	log   purgeLog
	// The last counts at which a key was invalidated, or another one in the same place.
	// A key has two places, of which it hardly shares both with any other.
	keys [2][4096]atomic.Uint64

	mu    sync.Mutex
	links []link // ascending
}

// link says that from a count on, a purge in Redis was known.
type link struct{ here, there uint64 }

// now is the count.
func (e *epochs) now() uint64 { return e.count.Load() }

// purge notes a purge and waits for entries that are being put: those that come
// later will see it, and it will see those.
func (e *epochs) purge(sel Selector) {
	e.gate.Lock()
	defer e.gate.Unlock()
	e.log.add(e.count.Add(1), sel)
}

// invalidate notes that a key was taken away. It must come before that.
func (e *epochs) invalidate(primary *Key) {
	at := e.count.Add(1)
	for _, place := range e.places(primary) {
		raise(place, at)
	}
}

// raise has a place say at, unless it says more.
func raise(place *atomic.Uint64, at uint64) {
	for last := place.Load(); last < at && !place.CompareAndSwap(last, at); last = place.Load() {
	}
}

func (e *epochs) places(primary *Key) (places [2]*atomic.Uint64) {
	for i := range e.keys {
		places[i] = &e.keys[i][int(binary.LittleEndian.Uint16(primary[2*i:]))%len(e.keys[i])]
	}
	return places
}

// admits reports whether an entry that was asked for at a count may be kept. The
// caller holds gate.
func (e *epochs) admits(at uint64, entry *Entry) bool {
	return !e.log.forgot(at) && !e.log.hits(at, &entry.Primary, &entry.Tags) && !e.invalidated(&entry.Primary, at)
}

// invalidated reports whether a key was, after a count.
func (e *epochs) invalidated(primary *Key, at uint64) bool {
	for _, place := range e.places(primary) {
		if place.Load() <= at {
			return false
		}
	}
	return true
}

// meet notes that a purge in Redis is known from now on.
func (e *epochs) meet(there uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(e.links); n > 0 && e.links[n-1].there >= there {
		return
	}
	if len(e.links) == maxPurges {
		e.links = append(e.links[:0], e.links[1:]...)
	}
	e.links = append(e.links, link{e.count.Add(1), there})
}

// there is the last purge in Redis that was known at a count; 0 if it is too long
// ago to say.
func (e *epochs) there(at uint64) uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := len(e.links) - 1; i >= 0; i-- {
		if e.links[i].here <= at {
			return e.links[i].there
		}
	}
	return 0
}
