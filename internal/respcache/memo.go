package respcache

import (
	"crypto/sha256"
	"encoding/binary"
	"sync/atomic"
)

// memoSlots is how many bodies a [Memo] remembers at most; of 80 bytes each.
const memoSlots = 1 << 14

// Memo is [JSONBody] with a memory: who asks the same again mostly sends the same
// bytes, and to make a body canonical takes longer than the rest of a hit. It is
// safe for concurrent use.
type Memo struct {
	ignore *Ignore
	// A body's digest says which slot is its own, and the last one there stays. Whoever
	// picks bodies for a slot only makes others be looked at again.
	slots [memoSlots]atomic.Pointer[memory]
}

// memory is what the bytes of a body, by their digest, are as JSON.
type memory struct{ bytes, json [sha256.Size]byte }

// NewMemo makes a memo for bodies less what is ignored, which may be nil.
func NewMemo(ignore *Ignore) *Memo { return &Memo{ignore: ignore} }

// JSONBody is [JSONBody] less what the memo ignores.
func (m *Memo) JSONBody(body []byte, fields ...string) Body {
	sum := sha256.Sum256(body)
	slot := &m.slots[binary.LittleEndian.Uint32(sum[:])%memoSlots]
	if known := slot.Load(); known != nil && known.bytes == sum {
		return Body{jsonBody, known.json}
	}
	b := JSONBody(body, m.ignore, fields...)
	if b.kind == jsonBody { // others depend on their fields
		slot.Store(&memory{sum, b.sum})
	}
	return b
}
