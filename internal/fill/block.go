package fill

// block is a link of an answer's chain. What data holds never changes; what is
// behind its length belongs to the writer. A chain is linked forwards only: what
// all readers have passed, and nobody keeps, the garbage collector takes. Blocks
// are not reused, so no mistake here can show one client the bytes of another.
type block struct {
	data []byte // its length is guarded by the fill's lock
	next *block
}

// blockSizes are lengths in bytes.
type blockSizes struct {
	first int // of the first block, when nothing is known
	most  int // of any; they double up to it
	room  int // less than that at the end of a block is left unused
}

// after is the size of the block behind one of the given size; before the first
// it is 0. An answer of a known length gets room to see its end without another.
func (s blockSizes) after(size int, length int64) int {
	switch {
	case size > 0:
		return min(2*size, s.most)
	case length > 0:
		return int(min(length+int64(s.room), int64(s.most)))
	}
	return s.first
}
