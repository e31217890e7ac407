package caddymodule

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/sofatutor/caddy-llm-proxy/internal/redisconn"
	"github.com/sofatutor/caddy-llm-proxy/internal/relay"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// announcer tells other nodes by one Redis what changed in one database, and the
// database's memory what changed there. Whoever holds it holds both.
type announcer struct {
	db    *database
	redis *redisPool
	relay *relay.Relay

	mu     sync.Mutex // guards began
	began  bool
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
}

func newAnnouncer(db *database, redis *redisPool, logger *slog.Logger) *announcer {
	a := &announcer{db: db, redis: redis}
	a.relay = relay.New(relay.Config{Changed: db.changed, Gap: db.missed, Explain: redis.Explain, Logger: logger})
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a
}

// start begins to collect changes, which are announced from when the database is
// open: the channel's name is made of its pepper.
func (a *announcer) start() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.began {
		return
	}
	a.began = true
	a.db.announcers.add(a)
	a.work.Go(func() {
		select {
		case <-a.ctx.Done():
		case <-a.db.ready:
			a.relay.Run(a.ctx, a.redis.Client(), relay.Channel(redisconn.ChannelPrefix, a.db.Pepper()))
		}
	})
}

// Destruct implements [caddy.Destructor].
func (a *announcer) Destruct() error {
	a.db.announcers.remove(a)
	a.cancel()
	a.work.Wait()
	return nil
}

// GoString keeps secrets out of the panic message of Caddy's UsagePool.
func (a *announcer) GoString() string { return "llm_proxy announcer" }

// announcers are those of one database.
type announcers struct {
	mu   sync.Mutex
	list []*announcer
}

func (l *announcers) add(a *announcer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(slices.Clone(l.list), a)
}

func (l *announcers) remove(a *announcer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = slices.DeleteFunc(slices.Clone(l.list), func(x *announcer) bool { return x == a })
}

func (l *announcers) announce(c token.Change) {
	l.mu.Lock()
	list := l.list
	l.mu.Unlock()
	for _, a := range list {
		a.relay.Announce(c)
	}
}

// changed is called with a change, whichever node made it.
func (d *database) changed(c token.Change) {
	d.authority.Changed(c) // first: whoever is listed after this asks again
	d.inflight.Changed(c)
}
