package gateway

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

const (
	inflightShards = 32
	// tickEvery is the resolution of idle and header timeouts.
	tickEvery = 100 * time.Millisecond
	// unblockAfter is how many ticks a cut request has to end by itself before its
	// connection's deadlines are set to the past: it may be blocked on its client.
	unblockAfter = 3
)

// Inflight knows all requests that are being served, whatever configuration
// they began under, so that a revoked token's can be ended. It also watches
// their time limits, for all of them on one goroutine: a timer for each request
// would cost more than the rest of the gateway. It is safe for concurrent use.
type Inflight struct {
	tick   atomic.Int64
	count  atomic.Int64 // requests of clients
	listed atomic.Int64 // these, and what is fetched for several of them
	shards [inflightShards]inflightShard
	stop   chan struct{}
	done   chan struct{}
}

type inflightShard struct {
	mu   sync.Mutex
	root flight // sentinel of a doubly linked ring
	_    [64]byte
}

// flight is one request in the registry; it lives inside its exchange.
type flight struct {
	prev, next *flight
	shard      *inflightShard

	tokenID   uuid.UUID
	projectID uuid.UUID
	expires   time.Time // zero: never
	cancel    context.CancelCauseFunc
	writer    http.ResponseWriter // nil: it is fetched for several requests, which have flights of their own

	limit   atomic.Int64 // tick at which the provider has been silent for too long; 0: nobody waits; or sending
	cutTick int64        // under shard.mu: when it was cut; 0: not yet
}

// sending is the limit of a flight whose request is still being sent.
const sending = -1

// NewInflight starts the watch. Close it.
func NewInflight() *Inflight {
	f := &Inflight{stop: make(chan struct{}), done: make(chan struct{})}
	for i := range f.shards {
		root := &f.shards[i].root
		root.prev, root.next = root, root
	}
	go f.watch()
	return f
}

// Close ends the watch. Requests that are still registered are left alone.
func (f *Inflight) Close() {
	close(f.stop)
	<-f.done
}

// Count is the number of requests being served.
func (f *Inflight) Count() int64 { return f.count.Load() }

func (f *Inflight) add(fl *flight) {
	s := f.shardOf(fl.tokenID)
	fl.shard = s
	s.mu.Lock()
	fl.prev, fl.next = s.root.prev, &s.root
	fl.prev.next, fl.next.prev = fl, fl
	s.mu.Unlock()
	f.listed.Add(1)
	if fl.writer != nil {
		f.count.Add(1)
	}
}

// remove must be called before the handler returns: afterwards the response
// writer may not be touched.
func (f *Inflight) remove(fl *flight) {
	s := fl.shard
	s.mu.Lock()
	fl.prev.next, fl.next.prev = fl.next, fl.prev
	s.mu.Unlock()
	f.listed.Add(-1)
	if fl.writer != nil {
		f.count.Add(-1)
	}
}

// await starts the clock of a wait for the provider; arrived stops it. A wait may
// take up to one tick longer than d.
func (f *Inflight) await(fl *flight, d time.Duration) {
	if d > 0 {
		fl.limit.Store(f.deadline(d))
	}
}

// awaitSent is await for a request that was being sent; it does nothing if the
// provider has answered before.
func (f *Inflight) awaitSent(fl *flight, d time.Duration) {
	fl.limit.CompareAndSwap(sending, f.deadline(d))
}

func (f *Inflight) deadline(d time.Duration) int64 {
	return f.tick.Load() + int64((d+tickEvery-1)/tickEvery) + 1
}

func (fl *flight) arrived() { fl.limit.Store(0) }

// Changed ends the requests that a change does not allow any more.
func (f *Inflight) Changed(c token.Change) {
	if !c.Revoked {
		return
	}
	cause := errProjectInactive
	if c.Kind != token.ProjectChanged {
		cause = errTokenInactive
	}
	tick := f.tick.Load()
	for i := range f.shards {
		f.shards[i].each(func(fl *flight) {
			if c.Kind == token.TokenChanged && fl.tokenID == c.ID || c.Kind != token.TokenChanged && fl.projectID == c.ID {
				fl.cut(cause, tick)
			}
		})
	}
}

// Recheck asks again about every token with a request under way and ends the
// requests of those that are not accepted any more. Errors that only say that
// nothing can be looked up end none.
func (f *Inflight) Recheck(check func(tokenID uuid.UUID) error) {
	tokens := make(map[uuid.UUID]struct{})
	for i := range f.shards {
		f.shards[i].each(func(fl *flight) {
			if fl.writer != nil {
				tokens[fl.tokenID] = struct{}{}
			}
		})
	}
	for id := range tokens {
		var cause *apierr.Error
		switch err := check(id); {
		case errors.Is(err, token.ErrInactive), errors.Is(err, token.ErrUnknown):
			cause = errTokenInactive
		case errors.Is(err, token.ErrExpired):
			cause = errTokenExpired
		case errors.Is(err, token.ErrProjectInactive):
			cause = errProjectInactive
		default:
			continue
		}
		tick := f.tick.Load()
		f.shardOf(id).each(func(fl *flight) {
			if fl.tokenID == id {
				fl.cut(cause, tick)
			}
		})
	}
}

func (f *Inflight) shardOf(tokenID uuid.UUID) *inflightShard {
	return &f.shards[int(tokenID[15])%inflightShards]
}

func (s *inflightShard) each(visit func(*flight)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for fl := s.root.next; fl != &s.root; fl = fl.next {
		visit(fl)
	}
}

// cut needs shard.mu.
func (fl *flight) cut(cause error, tick int64) {
	if fl.cutTick == 0 {
		fl.cutTick = tick + 1 // never 0
		fl.cancel(cause)
	}
}

func (f *Inflight) watch() {
	defer close(f.done)
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-f.stop:
			return
		case <-ticker.C:
		}
		tick := f.tick.Add(1)
		if f.listed.Load() == 0 {
			continue
		}
		now := time.Now()
		for i := range f.shards {
			f.shards[i].each(func(fl *flight) { fl.check(tick, now) })
		}
	}
}

func (fl *flight) check(tick int64, now time.Time) {
	switch limit := fl.limit.Load(); {
	case fl.cutTick != 0 && fl.writer == nil:
	case fl.cutTick != 0:
		if tick >= fl.cutTick+unblockAfter {
			rc := http.NewResponseController(innermost(fl.writer))
			past := now.Add(-time.Second)
			_ = rc.SetWriteDeadline(past) // not supported: then there is nothing to unblock
			_ = rc.SetReadDeadline(past)
			fl.cutTick = tick // once more later, should a handler in between have moved it
		}
	case limit > 0 && tick >= limit:
		fl.cut(errUpstreamTimeout, tick)
	case !fl.expires.IsZero() && !now.Before(fl.expires):
		fl.cut(errTokenExpired, tick)
	}
}

// innermost is the server's own writer, whose deadlines may be set while
// another goroutine writes; those of the host's wrappers may not.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = wrapper.Unwrap()
	}
}
