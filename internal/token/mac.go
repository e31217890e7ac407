package token

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"hash"
	"sync"

	"github.com/gofrs/uuid/v5"
)

// macs are pooled HMACs under the pepper: after its first use one keeps the state
// of the keyed pads, which halves the work and allocates nothing.
type macs struct{ pool sync.Pool } // of *mac

type mac struct {
	hash   hash.Hash
	pepper []byte // that it was keyed with
	buf    [maxMessage]byte
}

// sum is Secret.sum.
func (m *macs) sum(s *Secret, p purpose, pepper []byte) (sum [HashSize]byte) {
	h, _ := m.pool.Get().(*mac)
	if h == nil || !bytes.Equal(h.pepper, pepper) { // a restored database has another one
		h = &mac{hash: hmac.New(sha256.New, pepper), pepper: pepper}
	} else {
		h.hash.Reset()
	}
	h.hash.Write(s.appendMessage(h.buf[:0], p))
	copy(sum[:], h.hash.Sum(h.buf[:0]))
	clear(h.buf[:])
	m.pool.Put(h)
	return sum
}

// matches is [Secret.Matches] under the source's pepper.
func (a *Authority) matches(s *Secret, scheme string, stored []byte) bool {
	if scheme != s.Scheme() {
		return false
	}
	sum := a.macs.sum(s, forHash, a.source.Pepper())
	return subtle.ConstantTimeCompare(sum[:], stored) == 1
}

// rowID is [Secret.RowID] under the source's pepper. Without one, which is before
// the database is open, a legacy token would seem to be unknown.
func (a *Authority) rowID(s *Secret) (uuid.UUID, error) {
	if !s.legacy {
		return s.ID, nil
	}
	pepper := a.source.Pepper()
	if len(pepper) == 0 {
		return uuid.Nil, fmt.Errorf("%w: the database is not open", ErrUnavailable)
	}
	return idOf(a.macs.sum(s, forID, pepper)), nil
}
