package limit

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Conn is a Redis that is looked after.
type Conn interface {
	// Client is the client, nil until it was started.
	Client() redis.UniversalClient
	// Explain says what an error of the client means, without secrets.
	Explain(error) error
}

// Redis limits what all nodes admit that share a Redis. It is safe for
// concurrent use.
type Redis struct {
	conn    Conn
	logger  *slog.Logger
	node    string // this process, as others see it
	scripts *scripts
	store   *store
	clock   func() int64  // µs, monotonic
	young   int64         // see youngEpoch
	every   time.Duration // see beatEvery
	timeout time.Duration // see takeTimeout

	client  redis.UniversalClient // from Start on
	cluster bool

	seq     atomic.Int64 // of counts of slots
	slow    atomic.Int32 // calls in a row that were not answered
	stats   stats
	pending pending

	view    atomic.Pointer[view]
	mu      sync.Mutex // held to change the view, and for what follows
	missing string     // the epoch whose counters were found missing
	probe   chan struct{}

	life   sync.Mutex         // held to start and to close
	cancel context.CancelFunc // nil before Start
	done   sync.WaitGroup
	closed bool
}

// NewRedis makes a limiter that does nothing yet.
func NewRedis(conn Conn, logger *slog.Logger) *Redis {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	r := &Redis{
		conn:    conn,
		logger:  logger,
		node:    random(),
		scripts: newScripts(redisTime),
		store:   newStore(redisName),
		clock:   monotonic(),
		young:   youngEpoch.Microseconds(),
		every:   beatEvery,
		timeout: takeTimeout,
		probe:   make(chan struct{}, 1),
	}
	r.pending.wake = make(chan struct{}, 1)
	r.view.Store(&view{lost: never, made: never, since: never, changed: time.Now()})
	return r
}

// random is an id that nobody else has.
func random() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Start asks Redis once, for a moment, and goes on in the background. The conn has
// been started. Calls after the first, or after Close, do nothing.
func (r *Redis) Start() {
	r.life.Lock()
	defer r.life.Unlock()
	if r.cancel != nil || r.closed {
		return
	}
	r.client = r.conn.Client()
	_, cluster := r.client.(*redis.ClusterClient)
	r.cluster = r.cluster || cluster
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	first := make(chan struct{})
	r.done.Go(func() { r.keep(ctx, first) })
	r.done.Go(func() { r.store.tidy(ctx, r.clock) })
	<-first
}

// Close tells Redis what it has not been told and ends what runs in the
// background. It may be called more than once, and before the conn is closed.
func (r *Redis) Close() {
	r.life.Lock()
	defer r.life.Unlock()
	r.closed = true
	if r.cancel != nil {
		r.cancel()
	}
	r.done.Wait()
}

// Take is [Limiter.Take], in one round trip when the request is admitted.
func (r *Redis) Take(ctx context.Context, q Request, t *Ticket) (Decision, error) {
	if err := t.begin(q.Demands); err != nil {
		return Decision{}, fmt.Errorf("limit: %w", err)
	}
	all := t.held
	if d, refused := tooHeavy(all); refused || len(all) == 0 {
		return d, nil
	}
	v := r.view.Load()
	if !v.met {
		return Decision{}, unavailable(v.err)
	}
	now := r.clock()
	shared := v.split(all, now, q.OnFailure, r.young)
	here, there := all[:len(all)-shared], all[len(all)-shared:]
	if len(here) > 0 {
		if q.OnFailure == Deny {
			return Decision{}, unavailable(v.err)
		}
		admitted, err := r.takeHere(here, v, max(v.since, v.lost))
		if err != nil {
			return Decision{}, err
		}
		if !admitted {
			return decide(here), nil
		}
	}
	if len(there) > 0 {
		if err := r.takeThere(ctx, there, v); err != nil {
			v = r.view.Load()
			since := v.since
			if v.up { // for the others
				since = r.clock()
			}
			admitted := false
			if q.OnFailure == Deny {
				err = unavailable(err)
			} else {
				admitted, err = r.takeHere(there, v, since)
			}
			if !admitted {
				r.undoHere(here)
			}
			if err != nil {
				return Decision{}, err
			}
		}
	}
	d := decide(all)
	if d.Admitted {
		t.owner = r
	} else if len(there) > 0 && !there[0].local {
		r.undoHere(here)
	}
	return d, nil
}

// unavailable is ErrUnavailable with its cause.
func unavailable(cause error) error {
	if cause == nil {
		return fmt.Errorf("limit: %w", ErrUnavailable)
	}
	return fmt.Errorf("limit: %w: %w", ErrUnavailable, cause)
}
