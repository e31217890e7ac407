package delivery

import (
	"math/rand/v2"
	"time"
)

const (
	minPause      = 500 * time.Millisecond
	maxPause      = 5 * time.Minute
	maxRetryAfter = time.Hour // however long a receiver asks us to wait
)

// Backoff is how failed deliveries are repeated.
type Backoff struct {
	// Attempts and For: a batch is given up when it was tried so many times and so
	// long has passed since the first one.
	Attempts int
	For      time.Duration
}

// DefaultBackoff spreads a dozen attempts and more over an hour.
var DefaultBackoff = Backoff{Attempts: 12, For: time.Hour}

// spent reports whether a batch that was tried so often, for so long, is given up.
func (b Backoff) spent(attempts int, since time.Duration) bool {
	return attempts >= b.Attempts && since >= b.For
}

// pause is how long to wait after a number of failed attempts: anything up to a
// limit that doubles each time ("full jitter"), so that nodes and sinks that failed
// together do not come back together. A receiver's own wish is a minimum.
func pause(attempts int, asked time.Duration) time.Duration {
	limit := maxPause
	if shift := attempts - 1; shift < 30 {
		limit = min(minPause<<shift, maxPause)
	}
	return max(rand.N(limit)+1, min(asked, maxRetryAfter))
}
