package fill

import "errors"

var (
	// ErrNotShared is for a follower of an answer that turned out to be its leader's
	// alone. It has no byte of it and asks upstream itself.
	ErrNotShared = errors.New("the answer cannot be shared: ask upstream")
	// ErrTooSlow is for a reader that fell too far behind the others. What it has read
	// is incomplete.
	ErrTooSlow = errors.New("the reader was cut off: it fell too far behind the others of its answer")
	// ErrIncomplete ends an answer whose Run returned without saying how it ended.
	ErrIncomplete = errors.New("the answer was given up before its end")
	// ErrClosed is for whoever comes when the group is closed, or its resources are.
	ErrClosed = errors.New("answers are no longer shared: the group is closed")
	// ErrAbandoned is why a fill's context ends when nobody reads any more and nothing
	// will be stored.
	ErrAbandoned = errors.New("nobody is left to read the answer")

	errEnded        = errors.New("writing an answer that has ended")
	errNoHeader     = errors.New("writing an answer before its header: call Header first")
	errSecondHeader = errors.New("writing a second header for an answer")
	errReaderClosed = errors.New("reading with a closed reader")
)
