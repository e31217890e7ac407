package storage

import (
	"slices"
	"sync"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// listeners is a set of functions to be called with changes.
type listeners struct {
	mu  sync.Mutex
	set []*listener
}

type listener struct{ notify func(token.Change) }

func (l *listeners) add(notify func(token.Change)) (remove func()) {
	added := &listener{notify}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set = append(l.set, added)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.set = slices.DeleteFunc(slices.Clone(l.set), func(x *listener) bool { return x == added })
	}
}

// announce calls every listener with every change, without holding the lock, so
// that a listener may remove itself.
func (l *listeners) announce(changes []token.Change) {
	l.mu.Lock()
	set := slices.Clone(l.set)
	l.mu.Unlock()
	for _, change := range changes {
		for _, to := range set {
			to.notify(change)
		}
	}
}
