package fill

import (
	"context"
	"sync"
)

// Group knows the fills under way. It is safe for concurrent use.
type Group struct {
	opts   Options
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // of fills' goroutines

	// mu may be held when a fill's lock is taken, not the other way round.
	mu     sync.Mutex
	fills  map[Key]*fill // those that might be joined
	closed bool
}

// New makes a group. Close it.
func New(o Options) *Group {
	g := &Group{opts: o.withDefaults(), fills: make(map[Key]*fill)}
	g.ctx, g.cancel = context.WithCancelCause(context.Background())
	return g
}

// Close cancels all fills and returns when each Run has. Readers that are left get an
// abnormal end.
func (g *Group) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.cancel(ErrClosed)
	g.wg.Wait()
}

// Join makes a reader of the answer to key: of the fill under way if it can be
// joined, else of a new one for which s.Run is started. Close the reader. A
// follower's s is kept: if the leader fails before the first byte, one of the
// followers becomes the leader, see [Reader.Role].
func (g *Group) Join(key Key, s Start) (*Reader, Role) {
	r := &Reader{start: s}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		r.err = ErrClosed
		return r, Follower
	}
	if f := g.fills[key]; f != nil && f.join(r) {
		return r, Follower
	}
	f := &fill{g: g, key: key, about: s.About, joinable: true, listed: true, kept: true, patience: g.opts.MaxLag}
	g.fills[key] = f
	f.mu.Lock()
	f.attach(r)
	f.launch(r)
	f.mu.Unlock()
	return r, Leader
}

// Forget has nobody join the fills under way that match, nor their answers stored: a
// purge calls it, having advanced the epoch. Who has joined reads on. Without
// a match, it is all of them. It returns how many there were. The match must not call the group.
func (g *Group) Forget(match func(key Key, about any) bool) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for key, f := range g.fills {
		if match != nil && !match(key, f.about) {
			continue
		}
		delete(g.fills, key)
		f.mu.Lock()
		f.listed = false
		if f.kept { // else it is about to leave the map by itself
			n++
			f.release()
			f.abandon()
		}
		f.mu.Unlock()
	}
	return n
}

// unlist takes out a fill that cannot be joined any more.
func (g *Group) unlist(f *fill) {
	g.mu.Lock()
	if g.fills[f.key] == f {
		delete(g.fills, f.key)
	}
	g.mu.Unlock()
}

// valued is a context with values of another one.
type valued struct {
	context.Context
	values context.Context
}

// Value asks the context itself first, so that package context recognises it and
// needs no goroutine to pass its end on.
func (v valued) Value(key any) any {
	if own := v.Context.Value(key); own != nil {
		return own
	}
	return v.values.Value(key)
}
