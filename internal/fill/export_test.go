package fill

// NewSmall is New with blocks of other sizes.
func NewSmall(o Options, first, most, room int) *Group {
	o.blocks = blockSizes{first: first, most: most, room: room}
	return New(o)
}

// Retained is how many bytes the fill of a writer keeps in memory: what can be
// reached from the start of its chain or from any of its readers, and what the
// readers have in hand.
func Retained(w *Writer) int {
	f := w.f
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := make(map[*block]bool)
	sum := 0
	walk := func(b *block) {
		for ; b != nil && !seen[b]; b = b.next {
			seen[b] = true
			sum += cap(b.data)
		}
	}
	walk(f.first)
	walk(f.last)
	for _, r := range f.readers {
		walk(r.block)
		sum += r.taken
	}
	return sum
}

// Marks is how many marks a fill has.
func Marks(w *Writer) int { return len(w.f.record.marks) }

// Listed is how many fills the group's map has.
func Listed(g *Group) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.fills)
}

// MaxMarks is what the marks of an answer are held to.
const MaxMarks = maxMarks

// Total is how long a fill's body is up to now.
func Total(w *Writer) int64 {
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	return w.f.total
}

// Attached tells whether a reader's fill still serves it.
func Attached(r *Reader) bool {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	return r.index != detached
}
