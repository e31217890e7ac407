package delivery

import (
	"context"
	"time"
)

// Entry is an event in its place in the log.
type Entry struct {
	Seq   int64
	Event Event
}

// DeadLetter is an event that a sink does not take.
type DeadLetter struct {
	ID       int64 // of the letter; 0: not kept yet
	Sink     string
	Seq      int64
	Event    Event
	Reason   string
	Attempts int
	Time     time.Time
}

// Store is the event log, and what is remembered of its sinks. All nodes share it.
type Store interface {
	// ReadEvents returns up to limit events after a position, in the order of the
	// log. What is still being written before an event hides it: nothing is skipped.
	ReadEvents(ctx context.Context, after int64, limit int) ([]Entry, error)

	// OpenCursor returns the position up to which a sink has everything. A sink
	// without one gets it: before the first event of the log, or after the last.
	OpenCursor(ctx context.Context, sink string, fromBeginning bool) (int64, error)

	// AdvanceCursor moves a sink's cursor and keeps the dead letters of the way, all
	// or nothing. It reports false, and does nothing, if the cursor is not at from.
	AdvanceCursor(ctx context.Context, sink string, from, to int64, dead []DeadLetter) (bool, error)

	// TakeRequeued returns up to limit dead letters of a sink that are to be
	// delivered again, oldest first.
	TakeRequeued(ctx context.Context, sink string, limit int) ([]DeadLetter, error)

	// SettleRequeued deletes letters that were delivered, and keeps those that failed
	// again, with their new reasons, until somebody requeues them again.
	SettleRequeued(ctx context.Context, sink string, delivered []int64, failed []DeadLetter) error

	// Backlog is what a sink has still before it.
	Backlog(ctx context.Context, sink string) (Backlog, error)

	// RewindCursor has a sink begin again with the first event of a time or later, and
	// returns the new position.
	RewindCursor(ctx context.Context, sink string, from time.Time) (position int64, err error)

	// RequeueDead marks dead letters of a sink for [Store.TakeRequeued], all of them if
	// none is named, and returns how many there were.
	RequeueDead(ctx context.Context, sink string, ids ...int64) (int64, error)

	// DeleteCursor forgets a sink and its dead letters.
	DeleteCursor(ctx context.Context, sink string) error
}

// Backlog is what a sink has still before it, by the log.
type Backlog struct {
	Position int64
	Pending  int64
	Oldest   time.Time // zero: nothing is pending
	Dead     int64
}

// Leases say which node works for a sink. Time is the database's.
type Leases interface {
	TryLease(ctx context.Context, name, owner string, ttl time.Duration) (bool, error)
	ReleaseLease(ctx context.Context, name, owner string) error
}
