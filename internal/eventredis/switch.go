package eventredis

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

// Switch is a store of events whose way into the database changes with the
// configuration: the newest stream that is attached, or none. A database that
// outlives configurations has one for good.
type Switch struct {
	database Database
	mu       sync.Mutex
	attached []*Stream // newest last
	newest   atomic.Pointer[Stream]
}

// NewSwitch makes a switch without a stream.
func NewSwitch(database Database) *Switch { return &Switch{database: database} }

// AppendEvents implements [event.Store].
func (w *Switch) AppendEvents(ctx context.Context, events []*event.Event) error {
	if s := w.newest.Load(); s != nil {
		return s.AppendEvents(ctx, events)
	}
	return w.database.AppendEvents(ctx, events)
}

// Attach runs a stream and has events go to it until detach is called, which waits
// until the stream is empty, for some seconds at most. Whatever was attached before
// goes on by its side, and counts again afterwards.
func (w *Switch) Attach(s *Stream) (detach func()) {
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { s.Run(ctx) })
	w.change(func() { w.attached = append(w.attached, s) })
	return sync.OnceFunc(func() {
		w.change(func() {
			w.attached = slices.DeleteFunc(w.attached, func(a *Stream) bool { return a == s })
		})
		stop()
		work.Wait()
	})
}

func (w *Switch) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	newest := (*Stream)(nil)
	if n := len(w.attached); n > 0 {
		newest = w.attached[n-1]
	}
	w.newest.Store(newest)
}

// Stats returns the counters of the stream that events go to, if there is one.
func (w *Switch) Stats() (stats Stats, ok bool) {
	s := w.newest.Load()
	if s == nil {
		return Stats{}, false
	}
	return s.Stats(), true
}
