package relay

import (
	"sync"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

const (
	// versionsFor is how long the version of a change is remembered at least, and
	// maxVersions of how many changes it is, twice.
	versionsFor = 2 * time.Minute
	maxVersions = 10_000
)

type changeKey struct {
	kind token.ChangeKind
	id   uuid.UUID
}

// versions knows which changes have been heard of, however they came: by Redis,
// by the database or from our own commits. A revocation that is late must not end
// the requests of a token that has been given a new life since.
type versions struct {
	mu       sync.Mutex
	now, old map[changeKey]int64
	since    time.Time // of now
}

// how a change compares with what is known of its kind and id.
type how uint8

const (
	fresh how = iota // newer than all before
	same             // heard before, by another way
	late             // overtaken by a newer one
)

// note compares a change, and remembers it if it is fresh.
func (v *versions) note(c token.Change) how {
	key := changeKey{c.Kind, c.ID}
	at := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.now == nil || len(v.now) >= maxVersions || at.Sub(v.since) > versionsFor {
		v.old, v.now, v.since = v.now, make(map[changeKey]int64), at
	}
	switch known := max(v.now[key], v.old[key]); {
	case c.Version == known:
		return same
	case c.Version < known:
		return late
	}
	v.now[key] = c.Version
	return fresh
}
