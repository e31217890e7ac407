package respcache

import "sync"

// maxPurges is how many purges are remembered.
const maxPurges = 1024

// purge is one that was, in an order of them.
type purge struct {
	seq uint64
	sel Selector
}

// purgeLog remembers purges, so that what was asked for before one is not kept, or
// found, after it. It is safe for concurrent use.
type purgeLog struct {
	mu      sync.RWMutex
	purges  []purge // ascending
	dropped uint64  // the newest one that is not remembered any more
}

// add remembers a purge; one that is known already is not added again.
func (l *purgeLog) add(seq uint64, sel Selector) (added bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := len(l.purges)
	for i > 0 && l.purges[i-1].seq >= seq {
		if i--; l.purges[i].seq == seq {
			return false
		}
	}
	l.purges = append(l.purges, purge{})
	copy(l.purges[i+1:], l.purges[i:])
	l.purges[i] = purge{seq, sel}
	if len(l.purges) > maxPurges {
		l.dropped = l.purges[0].seq
		l.purges = append(l.purges[:0], l.purges[1:]...)
	}
	return true
}

// hits reports whether a purge after since is about an entry.
func (l *purgeLog) hits(since uint64, primary *Key, t *Tags) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for i := len(l.purges) - 1; i >= 0 && l.purges[i].seq > since; i-- {
		if l.purges[i].sel.Matches(primary, t) {
			return true
		}
	}
	return false
}

// forgot reports whether purges after since are not remembered any more.
func (l *purgeLog) forgot(since uint64) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return since < l.dropped
}
