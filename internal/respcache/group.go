package respcache

import (
	"slices"
	"time"
)

// Bounds of what is kept under one primary key.
const (
	maxVariants  = 32
	maxVaryLists = 8
)

// group is all that is kept under one primary key. It is immutable.
type group struct {
	items []*item    // the last that was put first
	lists [][]string // what they vary on, each once
	size  int64
	until int64 // of use until then, in Unix nanoseconds

	oneItem [1]*item // the usual case, in one piece of memory
	oneList [1][]string
}

// newGroup keeps the first items that fit.
func newGroup(items []*item, maxSize int64) (g *group, dropped []*item) {
	g = new(group)
	g.items, g.lists = g.oneItem[:0], g.oneList[:0]
	for i, it := range items {
		known := slices.ContainsFunc(g.lists, func(l []string) bool { return slices.Equal(l, it.entry.Meta.Vary) })
		full := len(g.items) == maxVariants || !known && len(g.lists) == maxVaryLists || i > 0 && g.size+it.size > maxSize
		if full {
			dropped = append(dropped, it)
			continue
		}
		if !known {
			g.lists = append(g.lists, it.entry.Meta.Vary)
		}
		g.items = append(g.items, it)
		g.size += it.size
		g.until = max(g.until, it.entry.Until.UnixNano())
	}
	return g, dropped
}

// find is the item that answers a request, whose keys under each list variant tells:
// the last that was stored, if there are several. RFC 9111, section 4.1. present
// says whether there is anything of use at all.
func (g *group) find(variant func(vary []string) Key, now time.Time) (found *item, present bool) {
	for _, list := range g.lists {
		key := variant(list)
		for _, it := range g.items {
			if !it.alive() || !it.entry.Until.After(now) {
				continue
			}
			present = true
			if it.entry.Variant == key && (found == nil || it.entry.Meta.ResponseTime.After(found.entry.Meta.ResponseTime)) {
				found = it
			}
		}
	}
	return found, present
}
