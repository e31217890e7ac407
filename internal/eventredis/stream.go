package eventredis

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/uuid/v5"
	"github.com/redis/go-redis/v9"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

// DefaultMaxBytes is how large a stream may grow in Redis while the database takes
// nothing. Then events go where they go without Redis.
const DefaultMaxBytes = 1 << 30

// Database is the event log that everything reads.
type Database interface {
	// AppendEvents keeps all events or none. Those that it has already, by their
	// ids, it leaves as they are. It must not keep or change what it is given.
	AppendEvents(ctx context.Context, events []*event.Event) error
}

// Leases say which node moves events into the database. Time is the database's.
type Leases interface {
	TryLease(ctx context.Context, name, owner string, ttl time.Duration) (bool, error)
	ReleaseLease(ctx context.Context, name, owner string) error
}

// Config is what a [Stream] needs. Client, Key and Database are required.
type Config struct {
	Client   redis.UniversalClient
	Key      string // of the stream in Redis; see [Key]
	Database Database
	Leases   Leases            // nil: no other process moves events
	Durable  bool              // what was appended must survive a crash of Redis
	MaxBytes int64             // of the stream in Redis; 0: DefaultMaxBytes
	Moved    func()            // called when events have come into the database; must not block; nil: nobody asks
	Explain  func(error) error // says what an error of the client means; nil: its own words
	Logger   *slog.Logger      // nil: discard
}

// Stats is what a Stream has done since it was made, but for what is pending.
type Stats struct {
	Appended int64 // events that Redis took
	Bypassed int64 // events that the database took, as Redis did not
	Moved    int64 // events that this process moved into the database, those that it had already included
	Damaged  int64 // what was in the stream and is no event
	Lost     int64 // events, at most, that Redis took from this process and has lost
	Pending  int64 // entries of the stream, of all nodes, each of some events
	Bytes    int64 // of the stream in Redis; 0: Redis does not say
	Err      error // why Redis is not used; nil: it is
}

// Stream is a stream of events in Redis, in front of a database. It is the store of
// an [event.Log], on as many nodes as there are.
type Stream struct {
	cfg   Config
	owner string // of this stream's lease

	ready atomic.Bool  // Redis may be appended to
	using sync.RWMutex // read-held while appending; written by the end
	ended bool         // guarded by using

	mu      sync.Mutex // guards what follows
	why     error      // Redis is not used; nil: it is
	said    string     // why, as the log has it
	saidAt  time.Time
	born    string  // tells one stream of this key from another; "": none was seen
	unmoved []batch // that Redis took from us, and may still have; oldest first
	length  int64
	bytes   int64

	hurried chan struct{} // 1 slot: there is something to move
	doubted chan struct{} // 1 slot: Redis has failed

	buffers                                      sync.Pool
	appended, bypassed, moved, damaged, vanished atomic.Int64
}

// Key names the stream of an installation below prefix. What all its nodes have in
// common and no other installation has is the pepper of its tokens, which the name
// does not reveal.
func Key(prefix string, pepper []byte) string {
	mac := hmac.New(sha256.New, pepper)
	mac.Write([]byte("stream of events, 1"))
	return prefix + "events:" + hex.EncodeToString(mac.Sum(nil)[:16])
}

var errNotAsked = errors.New("not asked yet")

// New makes a stream. It does no I/O, and uses Redis only once [Stream.Run] has
// found it to be well.
func New(cfg Config) (*Stream, error) {
	if cfg.Client == nil || cfg.Key == "" || cfg.Database == nil || cfg.MaxBytes < 0 {
		return nil, errors.New("a stream of events needs a client, a key and a database, and a bound that is not negative")
	}
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, DefaultMaxBytes)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Explain == nil {
		cfg.Explain = func(err error) error { return err }
	}
	if cfg.Moved == nil {
		cfg.Moved = func() {}
	}
	return &Stream{
		cfg: cfg, owner: uuid.Must(uuid.NewV4()).String(), why: errNotAsked,
		hurried: make(chan struct{}, 1), doubted: make(chan struct{}, 1),
	}, nil
}

// Run watches Redis and moves events into the database until ctx ends, and then
// what is left, for some seconds at most. From then on events go to the database
// at once. It must not be called twice.
func (s *Stream) Run(ctx context.Context) {
	var work sync.WaitGroup
	work.Go(func() { (&watch{s: s}).run(ctx) })
	work.Go(func() { (&mover{s: s}).run(ctx) })
	work.Wait()
	s.using.Lock() // waits for what is being appended
	s.ended = true
	s.using.Unlock()
	s.ready.Store(false)
	s.leave()
}

// Stats returns the counters.
func (s *Stream) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{
		Appended: s.appended.Load(), Bypassed: s.bypassed.Load(), Moved: s.moved.Load(), Damaged: s.damaged.Load(),
		Lost: s.vanished.Load(), Pending: s.length, Bytes: s.bytes, Err: s.why,
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
