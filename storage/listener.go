package storage

import (
	"slices"
	"sync"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// listeners is a set of functions to be called with changes.
type listeners = listenersOf[token.Change]

// listenersOf is a set of functions to be called with events.
type listenersOf[T any] struct {
	mu  sync.Mutex
	set []*listener[T]
}

type listener[T any] struct{ notify func(T) }

func (l *listenersOf[T]) add(notify func(T)) (remove func()) {
	added := &listener[T]{notify}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set = append(l.set, added)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.set = slices.DeleteFunc(slices.Clone(l.set), func(x *listener[T]) bool { return x == added })
	}
}

// announce calls every listener with every event, without holding the lock, so
// that a listener may remove itself.
func (l *listenersOf[T]) announce(events []T) {
	l.mu.Lock()
	set := slices.Clone(l.set)
	l.mu.Unlock()
	for _, event := range events {
		for _, to := range set {
			to.notify(event)
		}
	}
}
