package respcache

import (
	"github.com/maypok86/otter/v2"
)

// Apply forgets what is selected, and what is on its way. It implements [Purger].
// Lookups go on meanwhile; the memory is freed in the background.
func (m *Memory) Apply(sel Selector) (deleted int, err error) {
	taken, deleted, err := m.purge(sel)
	m.discard(taken)
	return deleted, err
}

// purge also returns what was taken, which [Memory.discard] is to be given.
func (m *Memory) purge(sel Selector) (taken [][]*item, deleted int, err error) {
	if err := sel.Check(); err != nil {
		return nil, 0, err
	}
	m.epochs.purge(sel)
	if sel.By == ByKey {
		key, err := ParseKey(sel.Value)
		if err != nil {
			return nil, 0, err
		}
		items, deleted := m.drop(key)
		return [][]*item{items}, deleted, nil
	}
	now := m.now()
	matches := func(e *Entry) bool { return sel.Matches(&e.Primary, &e.Tags) }
	found, whole := m.cells.of(sel)
	for _, c := range found {
		var items []*item
		var bytes int64
		var n int
		if whole {
			items, bytes, n = c.kill(now)
		} else {
			items, bytes, n = c.removeIf(matches, now)
		}
		if whole || len(items) > 0 && c.die() {
			m.cells.drop(c)
		}
		if len(items) == 0 {
			continue
		}
		m.entries.Add(-int64(len(items)))
		m.bytes.Add(-bytes)
		deleted += n
		taken = append(taken, items)
	}
	m.purged.Add(int64(deleted))
	return taken, deleted, nil
}

// discard has the memory of purged items freed.
func (m *Memory) discard(taken [][]*item) {
	if len(taken) == 0 {
		return
	}
	m.mu.Lock()
	m.victims = append(m.victims, taken...)
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// free frees what was purged until the store is closed.
func (m *Memory) free() {
	for {
		select {
		case <-m.quit:
			return
		case <-m.wake:
		}
		m.mu.Lock()
		all := m.victims
		m.victims = nil
		m.mu.Unlock()
		for _, batch := range all {
			for i, it := range batch {
				m.freeItem(it.entry.Primary)
				batch[i] = nil
				if i%1024 == 0 && m.quitting() {
					return
				}
			}
		}
	}
}

func (m *Memory) quitting() bool {
	select {
	case <-m.quit:
		return true
	default:
		return false
	}
}

// freeItem takes what was purged out of the group of a key.
func (m *Memory) freeItem(primary Key) {
	m.groups.Compute(primary, func(old *group, found bool) (*group, otter.ComputeOp) {
		if !found {
			return nil, otter.CancelOp
		}
		var left []*item
		for _, it := range old.items {
			if it.alive() {
				left = append(left, it)
			}
		}
		switch len(left) {
		case len(old.items):
			return nil, otter.CancelOp
		case 0:
			return nil, otter.InvalidateOp
		}
		g, _ := newGroup(left, old.size)
		return g, otter.WriteOp
	})
}
