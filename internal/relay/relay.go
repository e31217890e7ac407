package relay

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

const (
	// beatEvery is how often a node says that it is there and which message was its
	// last, and silence how long nothing may be heard of a node, ourselves included.
	beatEvery = 2 * time.Second
	silence   = 6 * time.Second

	publishTimeout = 500 * time.Millisecond
	goodbye        = 200 * time.Millisecond
	queueSize      = 1024

	retryMin = 100 * time.Millisecond
	retryMax = 2 * time.Second

	// gapPause lies between two gaps that are passed on: each has everything asked
	// for again, and whoever can publish can make one.
	gapPause = 250 * time.Millisecond
)

// Client is what a relay needs of a Redis client.
type Client interface {
	Publish(ctx context.Context, channel string, message any) *redis.IntCmd
	Subscribe(ctx context.Context, channels ...string) *redis.PubSub
}

// Config says what becomes of what is heard. Changed and Gap are required; they
// must not block.
type Config struct {
	Changed func(token.Change) // another node's change
	Gap     func()             // others' changes may have been missed
	Explain func(error) error  // says what an error of the client means; nil: its own words
	Logger  *slog.Logger       // nil: discard
}

// Relay is one node's part. It is safe for concurrent use.
type Relay struct {
	cfg      Config
	node     string
	queue    chan token.Change
	lost     atomic.Bool // something was not announced, and nobody knows yet
	versions versions
	gaps     chan struct{}

	published atomic.Int64 // UnixNano of our last message that Redis took
	heard     atomic.Bool  // whether there is a subscription
}

// New makes a relay. It does nothing before [Relay.Run].
func New(cfg Config) *Relay {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Explain == nil {
		cfg.Explain = func(err error) error { return err }
	}
	return &Relay{
		cfg:   cfg,
		node:  strings.ToLower(rand.Text()),
		queue: make(chan token.Change, queueSize),
		gaps:  make(chan struct{}, 1),
	}
}

// Channel names the channel of an installation below prefix. What all its nodes
// have in common and no other installation has is the pepper of its tokens, which
// the name does not reveal.
func Channel(prefix string, pepper []byte) string {
	mac := hmac.New(sha256.New, pepper)
	mac.Write([]byte("channel of changes, 1"))
	return prefix + "changes:" + hex.EncodeToString(mac.Sum(nil)[:16])
}

// Announce tells the other nodes of a committed change, soon: it does not wait. A
// change that came from another node by Redis is not sent on.
func (r *Relay) Announce(c token.Change) {
	if r.versions.note(c) == same {
		return
	}
	select {
	case r.queue <- c:
	default:
		r.lost.Store(true)
	}
}

// Listening reports whether other nodes' changes are being heard.
func (r *Relay) Listening() bool { return r.heard.Load() }

// Run announces and hears until ctx ends. Redis may be away at any time.
func (r *Relay) Run(ctx context.Context, client Client, channel string) {
	var work sync.WaitGroup
	work.Go(func() { r.passGaps(ctx) })
	work.Go(func() { (&sender{r: r, client: client, channel: channel}).run(ctx) })
	work.Go(func() { (&receiver{r: r, client: client, channel: channel}).run(ctx) })
	work.Wait()
}

// gap asks for a gap to be passed on, soon. Several become one.
func (r *Relay) gap() {
	select {
	case r.gaps <- struct{}{}:
	default:
	}
}

func (r *Relay) passGaps(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.gaps:
		}
		r.cfg.Gap()
		select {
		case <-ctx.Done():
			return
		case <-time.After(gapPause):
		}
	}
}

// grumble logs what keeps the relay from working: loudly when Redis itself says
// so, as nobody else does then, and once.
func (r *Relay) grumble(said *bool, what string, err error) {
	level := slog.LevelDebug
	if refusal(err) && !*said {
		*said = true
		level = slog.LevelError
	}
	r.cfg.Logger.LogAttrs(context.Background(), level, what, slog.Any("error", r.cfg.Explain(err)))
}
