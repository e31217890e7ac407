package ledger

import "sync"

// queue has the entries whose leases the database is to be asked about. Entries are
// locked when they are pushed, and not when they are popped.
type queue struct {
	mu     sync.Mutex
	urgent []*entry // requests wait for them
	later  []*entry
	wake   chan struct{}
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

func (q *queue) push(e *entry, urgent bool) {
	switch {
	case urgent && !e.urgent:
		e.urgent = true
		q.mu.Lock()
		q.urgent = append(q.urgent, e)
		q.mu.Unlock()
	case !urgent && !e.queued:
		e.queued = true
		q.mu.Lock()
		q.later = append(q.later, e)
		q.mu.Unlock()
	default:
		return
	}
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// pop takes up to limit entries, the urgent ones first. urgent tells how many they are.
func (q *queue) pop(to []*entry, limit int) (list []*entry, urgent int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	urgent = min(limit, len(q.urgent))
	to = append(to, q.urgent[:urgent]...)
	q.urgent = rest(q.urgent, urgent)
	n := min(limit-urgent, len(q.later))
	to = append(to, q.later[:n]...)
	q.later = rest(q.later, n)
	if len(q.urgent)+len(q.later) > 0 {
		q.signal()
	}
	return to, urgent
}

// rest is a slice without its first n, in the same memory.
func rest(list []*entry, n int) []*entry {
	kept := copy(list, list[n:])
	clear(list[kept:])
	return list[:kept]
}

func (q *queue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.urgent) + len(q.later)
}
