package price

import (
	"cmp"
	"strings"
	"sync"
)

// memo remembers what was looked up. Models are named by clients, so that it is
// bounded: what was not asked for while half of it was filled anew is forgotten.
type memo[V any] struct {
	half     int // entries; 0: memoHalf
	mu       sync.RWMutex
	recent   map[memoKey]V
	previous map[memoKey]V
}

type memoKey struct{ provider, kind, model string }

// clone lets go of the request that the names were cut from.
func (k memoKey) clone() memoKey {
	return memoKey{strings.Clone(k.provider), strings.Clone(k.kind), strings.Clone(k.model)}
}

const (
	memoHalf = 2048 // entries
	maxModel = 256  // bytes of a model's name that has prices
)

func (m *memo[V]) get(key memoKey) (value V, ok bool) {
	m.mu.RLock()
	value, ok = m.recent[key]
	if ok {
		m.mu.RUnlock()
		return value, true
	}
	value, ok = m.previous[key]
	m.mu.RUnlock()
	if ok {
		m.put(key.clone(), value)
	}
	return value, ok
}

func (m *memo[V]) put(key memoKey, value V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.recent) >= cmp.Or(m.half, memoHalf) {
		m.previous, m.recent = m.recent, nil
	}
	if m.recent == nil {
		m.recent = make(map[memoKey]V)
	}
	m.recent[key] = value
}
