package event

import (
	"log/slog"
	"sync"
)

// trouble tells of changes for the worse and the better, once each.
type trouble struct {
	logger *slog.Logger

	mu      sync.Mutex
	spills  bool
	holds   bool
	dropped int64 // since things were well
}

// spilling: events go to disk.
func (t *trouble) spilling(why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.spills {
		t.spills = true
		t.logger.Warn("events wait on disk until the database takes them", "error", why)
	}
	t.better()
}

// drained: nothing is on disk any more.
func (t *trouble) drained() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.spills {
		t.spills = false
		t.logger.Info("no events wait on disk any more")
	}
}

// holding: neither database nor disk takes events.
func (t *trouble) holding(why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.holds {
		t.holds = true
		t.logger.Error("events can be written nowhere; they wait in memory", "error", why)
	}
}

// dropping: events are lost.
func (t *trouble) dropping(n int64, why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dropped == 0 {
		t.logger.Error("events are lost from now on", "error", why)
	}
	t.dropped += n
}

// kept: the database has taken events in time.
func (t *trouble) kept() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.better()
}

// better needs mu.
func (t *trouble) better() {
	if t.dropped > 0 {
		t.logger.Error("events are written again", "lost", t.dropped)
	} else if t.holds {
		t.logger.Info("events are written again")
	}
	t.dropped, t.holds = 0, false
}

// listeners are called in no order.
type listeners struct {
	mu   sync.Mutex
	next int
	all  map[int]func()
}

func (l *listeners) add(f func()) (remove func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := l.next
	l.next++
	if l.all == nil {
		l.all = map[int]func(){}
	}
	l.all[id] = f
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.all, id)
	}
}

func (l *listeners) call() {
	l.mu.Lock()
	all := make([]func(), 0, len(l.all))
	for _, f := range l.all {
		all = append(all, f)
	}
	l.mu.Unlock()
	for _, f := range all {
		f()
	}
}
