package respcache

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// item is an entry in memory.
type item struct {
	entry *Entry
	size  int64
	cell  *cell
	at    int         // its place in the cell, which guards it
	gone  atomic.Bool // was taken away by itself; see also cell.dead
}

// alive reports whether the item was not purged, though it may not be of use any more.
func (it *item) alive() bool { return !it.gone.Load() && !it.cell.dead.Load() }

// cell indexes the entries of one project and model, such that all of them can be
// purged at once: lookups see one flag, and the count needs no entry, as its times
// lie side by side.
type cell struct {
	project, model string
	dead           atomic.Bool // everything in it was purged, or nothing was left

	mu    sync.Mutex
	items []*item
	until []int64 // of items, in Unix nanoseconds
	bytes int64
}

// add puts an item into the cell, unless that is dead.
func (c *cell) add(it *item) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead.Load() {
		return false
	}
	it.at = len(c.items)
	c.items = append(c.items, it)
	c.until = append(c.until, it.entry.Until.UnixNano())
	c.bytes += it.size
	return true
}

// remove takes an item out, and reports whether it was in and whether the cell is
// empty now.
func (c *cell) remove(it *item) (removed, empty bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead.Load() || it.gone.Load() {
		return false, false
	}
	c.takeOut(it)
	return true, len(c.items) == 0
}

// takeOut is for those who hold mu.
func (c *cell) takeOut(it *item) {
	it.gone.Store(true)
	last := len(c.items) - 1
	c.items[it.at], c.until[it.at] = c.items[last], c.until[last]
	c.items[it.at].at = it.at
	c.items[last] = nil
	c.items, c.until = c.items[:last], c.until[:last]
	c.bytes -= it.size
	if last > 64 && last < cap(c.items)/4 {
		c.items = append(make([]*item, 0, 2*last), c.items...)
		c.until = append(make([]int64, 0, 2*last), c.until...)
	}
}

// removeIf takes out what matches, a step at a time so that others get their turn. It
// counts what was of use.
func (c *cell) removeIf(matches func(*Entry) bool, now time.Time) (taken []*item, bytes int64, deleted int) {
	const step = 1024
	at := now.UnixNano()
	for next := math.MaxInt; next > 0; {
		c.mu.Lock()
		next = min(next, len(c.items))
		for range min(step, next) {
			next--
			it, until := c.items[next], c.until[next]
			if !matches(it.entry) {
				continue
			}
			c.takeOut(it) // the last one comes here, which was looked at
			taken = append(taken, it)
			bytes += it.size
			if until > at {
				deleted++
			}
		}
		c.mu.Unlock()
	}
	return taken, bytes, deleted
}

// kill purges everything in the cell. It counts what was of use.
func (c *cell) kill(now time.Time) (taken []*item, bytes int64, deleted int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead.Load() {
		return nil, 0, 0
	}
	c.dead.Store(true)
	at := now.UnixNano()
	for _, until := range c.until {
		if until > at {
			deleted++
		}
	}
	taken, bytes = c.items, c.bytes
	c.items, c.until, c.bytes = nil, nil, 0
	return taken, bytes, deleted
}

// die makes an empty cell dead.
func (c *cell) die() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead.Load() || len(c.items) > 0 {
		return false
	}
	c.dead.Store(true)
	return true
}

// cells are all cells, by project and by model.
type cells struct {
	mu        sync.RWMutex
	byProject map[string]map[string]*cell
	byModel   map[string]map[string]*cell
}

func newCells() *cells {
	return &cells{byProject: make(map[string]map[string]*cell), byModel: make(map[string]map[string]*cell)}
}

// add puts an item into its cell, which is made if there is none.
func (s *cells) add(it *item) {
	project, model := it.entry.Tags.Project, it.entry.Tags.Model
	for {
		s.mu.RLock()
		c := s.byProject[project][model]
		s.mu.RUnlock()
		if c == nil {
			c = s.make(project, model)
		}
		it.cell = c
		if c.add(it) {
			return
		}
		s.drop(c)
	}
}

func (s *cells) make(project, model string) *cell {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.byProject[project][model]; c != nil {
		return c
	}
	c := &cell{project: project, model: model}
	if s.byProject[project] == nil {
		s.byProject[project] = make(map[string]*cell)
	}
	if s.byModel[model] == nil {
		s.byModel[model] = make(map[string]*cell)
	}
	s.byProject[project][model], s.byModel[model][project] = c, c
	return c
}

// drop forgets a dead cell.
func (s *cells) drop(c *cell) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byProject[c.project][c.model] != c {
		return
	}
	delete(s.byProject[c.project], c.model)
	if len(s.byProject[c.project]) == 0 {
		delete(s.byProject, c.project)
	}
	delete(s.byModel[c.model], c.project)
	if len(s.byModel[c.model]) == 0 {
		delete(s.byModel, c.model)
	}
}

// remove takes an item out of its cell.
func (s *cells) remove(it *item) bool {
	removed, empty := it.cell.remove(it)
	if empty && it.cell.die() {
		s.drop(it.cell)
	}
	return removed
}

// of lists the cells in which a selector may find something, and says whether that
// is all that is in them.
func (s *cells) of(sel Selector) (found []*cell, whole bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch sel.By {
	case ByProject:
		for _, c := range s.byProject[sel.Value] {
			found = append(found, c)
		}
		return found, true
	case ByModel:
		for _, c := range s.byModel[sel.Value] {
			found = append(found, c)
		}
		return found, true
	}
	for _, models := range s.byProject {
		for _, c := range models {
			found = append(found, c)
		}
	}
	return found, sel.By == ByAll
}
