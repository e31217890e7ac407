package fill

import (
	"context"
	"log/slog"
	"net/http"
)

// Key is an identity of requests that may share an answer. Who may share with
// whom is part of it: a partition that is not in the key is not kept apart.
type Key [32]byte

// Options are a group's limits. The zero value of each means its default.
type Options struct {
	// MaxObject is the longest body that is kept for the store and for those who come
	// late. Beyond it, nobody joins any more. 4 MiB by default.
	MaxObject int64
	// MaxLag is how far behind a reader may fall while others read faster. What was
	// there before it joined does not count. 1 MiB by default.
	MaxLag int64
	// Window is how far ahead of its fastest reader a fill gets before it waits.
	// 64 KiB by default.
	Window int64
	// CancelUnread cancels a fill that nobody reads any more even if its answer would
	// be stored.
	CancelUnread bool
	// Logger hears of panics. slog's default by default.
	Logger *slog.Logger

	blocks blockSizes
}

func (o Options) withDefaults() Options {
	if o.MaxObject <= 0 {
		o.MaxObject = 4 << 20
	}
	if o.MaxLag <= 0 {
		o.MaxLag = 1 << 20
	}
	if o.Window <= 0 {
		o.Window = 64 << 10
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.blocks == (blockSizes{}) {
		o.blocks = blockSizes{first: 4 << 10, most: 32 << 10, room: 1 << 10}
	}
	return o
}

// Start is how a request asks upstream, if it is the one that has to.
type Start struct {
	// Run asks upstream and writes what comes, until the end, which it tells with
	// Close or Fail. It runs on the fill's goroutine, may outlive the request and must
	// not touch its ResponseWriter. Its context ends when nobody needs the answer, and
	// when the group closes. Header has to come before the body.
	Run func(ctx context.Context, w *Writer)
	// Lease, if any, is held from the moment when Run is due until it has returned. It is
	// taken while the request is still there, so a request that holds it itself is
	// enough for it to be had.
	Lease Lease
	// Values, if any, are seen through Run's context; their cancellation is not.
	Values context.Context
	// Epoch is the caller's count of purges when the request began; see Writer.Epoch.
	Epoch uint64
	// About is for the match of Forget.
	About any
	// Expected says that the answer will be stored unless its header forbids it: so it
	// is worth waiting for though everybody has left.
	Expected bool
}

// Lease keeps what Run uses open. Acquire must not block.
type Lease interface {
	Acquire() bool
	Release()
}

// Head is how an answer begins.
type Head struct {
	Status int
	Header http.Header // shared by all readers: not to be changed
	// Storable says that the header allows to store the answer, and so to share it.
	Storable bool
	// Length of the body if it is known, 0 otherwise; a hint for the first allocation.
	Length int64
	// About is whatever else readers need to know.
	About any
}

// Role is what a reader is to its fill.
type Role uint8

// Roles of readers.
const (
	Follower Role = iota // gets what another asked for
	Leader               // its Start's Run is the one that asks upstream
)
