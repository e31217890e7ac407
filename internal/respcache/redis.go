package respcache

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
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

// RedisOptions say where entries are kept for all nodes. Conn and Sealer are
// required.
type RedisOptions struct {
	Conn   Conn
	Sealer Sealer

	// Namespace is what all nodes of an installation have in common, and no other one
	// has, such as the pepper of its tokens. Names in Redis are made with it, so that
	// they tell nobody else what was asked.
	Namespace []byte

	// Timeout is what Redis has to answer a lookup. 0: DefaultTimeout.
	Timeout time.Duration
	// MaxValue is how large a sealed entry may be; larger ones would take longer than
	// that. 0: DefaultMaxValue.
	MaxValue int
}

// Defaults of [RedisOptions].
const (
	DefaultTimeout  = 5 * time.Millisecond
	DefaultMaxValue = 256 << 10
)

const (
	keyPrefix = "llm_proxy:cache:"
	nameSize  = 16 // bytes of names, in hex

	queueLength = 1024
	queueBytes  = 64 << 20
)

var (
	//go:embed lua/put.lua
	putLua string
	//go:embed lua/drop.lua
	dropLua string

	putScript = redis.NewScript(putLua)
)

// remote keeps entries in Redis. It never keeps a request waiting for longer than
// its timeout, and after one failure not at all until Redis was heard of again.
type remote struct {
	opts   RedisOptions
	logger *slog.Logger
	now    func() time.Time
	epochs *epochs                                 // of the memory, which is told of purges there
	apply  func(Selector) (deleted int, err error) // another node's purge, for the memory

	pepper [sha256.Size]byte
	prefix string // of all names
	client redis.UniversalClient

	up     atomic.Bool
	lists  atomic.Pointer[[][]string] // what entries varied on lately
	log    purgeLog                   // purges in Redis
	queue  chan job
	queued atomic.Int64 // bytes
	wake   chan struct{}

	unwanted unwanted
	writing  sync.Mutex // held from the look at what is unwanted to the end of a write

	syncing sync.Mutex // held to read the purges, and to add one
	cursor  string     // the last one that was read

	mu      sync.Mutex // guards what follows
	pending []Selector // purges that Redis has not been told of
	said    bool       // that Redis is away

	life    sync.Mutex // held to start and to close
	ctx     context.Context
	cancel  context.CancelFunc // nil before start
	work    sync.WaitGroup
	quit    chan struct{}
	closed  bool
	counted counters
}

type counters struct {
	hits, misses, puts, refused, dropped, tooLarge, damaged, purged, errors atomic.Int64
}

func newRemote(opts RedisOptions, logger *slog.Logger, now func() time.Time, e *epochs, apply func(Selector) (int, error)) (*remote, error) {
	switch {
	case opts.Conn == nil || opts.Sealer == nil:
		return nil, errors.New("expected a connection to Redis and a key to seal with")
	case opts.Timeout < 0 || opts.MaxValue < 0:
		return nil, errors.New("expected a positive timeout and size for Redis")
	}
	if opts.Timeout == 0 {
		opts.Timeout = DefaultTimeout
	}
	if opts.MaxValue == 0 {
		opts.MaxValue = DefaultMaxValue
	}
	r := &remote{
		opts: opts, logger: logger, now: now, epochs: e, apply: apply,
		pepper: sha256.Sum256(append([]byte("llm-proxy cache names 1\x00"), opts.Namespace...)),
		queue:  make(chan job, queueLength),
		wake:   make(chan struct{}, 1),
		quit:   make(chan struct{}),

		unwanted: unwanted{wake: make(chan struct{}, 1), keys: make(map[Key]uint64)},
	}
	space := r.name('s', Key{})
	r.prefix = keyPrefix + space[:8] + ":"
	r.lists.Store(&[][]string{nil})
	return r, nil
}

// start asks Redis once, for a moment, and goes on in the background.
func (r *remote) start() {
	r.life.Lock()
	defer r.life.Unlock()
	if r.cancel != nil || r.closed {
		return
	}
	if r.client = r.opts.Conn.Client(); r.client == nil {
		r.logger.Error("the cache goes on without Redis: its connection was not started")
		return
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.beat(r.ctx)
	r.work.Go(r.keep)
	r.work.Go(r.write)
}

// close writes what is queued, if Redis takes it at once, and ends what runs in the
// background.
func (r *remote) close() {
	r.life.Lock()
	first := !r.closed
	r.closed = true
	cancel := r.cancel
	r.life.Unlock()
	if cancel == nil {
		return
	}
	if first {
		close(r.quit)
		timer := time.AfterFunc(closeTimeout, cancel)
		defer timer.Stop()
	}
	r.work.Wait()
	cancel()
}

// spawn runs work that close waits for.
func (r *remote) spawn(work func(ctx context.Context)) bool {
	r.life.Lock()
	defer r.life.Unlock()
	if r.closed || r.cancel == nil {
		return false
	}
	r.work.Go(func() { work(r.ctx) })
	return true
}

// name is a key as it is named in Redis.
func (r *remote) name(kind byte, k Key) string {
	var b [2*sha256.Size + 1]byte
	copy(b[:], r.pepper[:])
	b[sha256.Size] = kind
	copy(b[sha256.Size+1:], k[:])
	sum := sha256.Sum256(b[:])
	return hex.EncodeToString(sum[:nameSize])
}

// hash names the hash of a primary key. In a Redis Cluster the whole name but for
// the prefix says where it lies.
func (r *remote) hash(primary Key) string { return r.prefix + "{" + r.name('p', primary) + "}" }

func (r *remote) field(variant Key) string { return r.name('v', variant) }

// purgesKey names the stream of purges.
func (r *remote) purgesKey() string { return r.prefix + "purges" }
