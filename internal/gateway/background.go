package gateway

import "sync"

// maxBackground bounds the answers in the making that are remembered.
const maxBackground = 10_000

// background remembers answers that providers make while nobody waits (OpenAI's
// responses with background: true), until somebody has looked at the finished one:
// only then is it known what they used.
type background struct {
	mu      sync.Mutex
	pending map[string]struct{}
}

func (b *background) add(id string) {
	if id == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pending == nil {
		b.pending = make(map[string]struct{})
	}
	if len(b.pending) >= maxBackground {
		for old := range b.pending { // any: most of them nobody will ask for
			delete(b.pending, old)
			break
		}
	}
	b.pending[id] = struct{}{}
}

// settle reports whether the answer was pending; it is not any more.
func (b *background) settle(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.pending[id]
	delete(b.pending, id)
	return ok
}
