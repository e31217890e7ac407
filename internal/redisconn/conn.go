package redisconn

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
)

// quiet silences go-redis, whose log has a line for every attempt to connect: with
// Redis away that is one for each request. What is worth saying, Conn says once.
var quiet = sync.OnceFunc(logging.Disable)

// Conn is a Redis that is looked after. It is safe for concurrent use.
type Conn struct {
	target *target
	logger *slog.Logger
	client redis.UniversalClient // nil before Start

	mu    sync.Mutex // guards what follows
	state State
	stop  context.CancelFunc // nil before Start
	done  chan struct{}      // closed when the watch has ended
	ended bool
}

// New checks the settings. It does no I/O and starts nothing.
func New(s Settings, logger *slog.Logger) (*Conn, error) {
	t, err := s.target()
	if err != nil {
		return nil, err
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Conn{target: t, logger: logger, state: State{Degraded: true, Since: time.Now()}, done: make(chan struct{})}, nil
}

// Start makes the client and begins to watch. It neither waits for Redis nor
// fails when there is none. Calls after the first, or after Close, do nothing.
func (c *Conn) Start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil || c.ended {
		return
	}
	quiet()
	c.client = c.target.client()
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = cancel
	go func() {
		defer close(c.done)
		c.watch(ctx)
	}()
}

// Client is the client, for calls with a deadline of the caller's; nil before
// Start. It belongs to Conn: nobody else closes it.
func (c *Conn) Client() redis.UniversalClient {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.client
}

// Close ends the watch and every connection. It may be called more than once.
func (c *Conn) Close() error {
	c.mu.Lock()
	first := !c.ended
	c.ended = true
	stop := c.stop
	c.mu.Unlock()
	if stop == nil {
		return nil
	}
	stop()
	<-c.done
	if !first {
		return nil
	}
	return c.Explain(c.client.Close())
}

// String names the addresses and nothing else.
func (c *Conn) String() string { return strings.Join(c.target.addrs, ", ") }

// GoString is [Conn.String]: Caddy prints pooled values with %#v when a reference
// count goes wrong, and the password must not be in that.
func (c *Conn) GoString() string { return "redisconn.Conn(" + c.String() + ")" }
