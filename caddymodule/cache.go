package caddymodule

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/sofatutor/caddy-llm-proxy/internal/fill"
	"github.com/sofatutor/caddy-llm-proxy/internal/lease"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

// Cache says where answers are kept. Handlers say which, in their own cache.
type Cache struct {
	// How much memory answers may take, in bytes. Default: 256 MiB.
	Memory int64 `json:"memory,omitempty"`

	// The longest answer that is kept, in bytes. Default: 4 MiB.
	MaxObject int64 `json:"max_object,omitempty"`

	// Whether answers are kept in the app's Redis as well, sealed with the encryption
	// key, for all nodes and over restarts. Default: true if there is a Redis.
	Redis *bool `json:"redis,omitempty"`
}

const (
	defaultCacheMemory = 256 << 20
	defaultMaxObject   = 4 << 20
)

// parseCache reads
//
//	cache {
//		memory <size>
//		max_object <size>
//		redis on|off
//	}
func parseCache(d *caddyfile.Dispenser) (*Cache, error) {
	if err := noArg(d, "write a block, such as cache { memory 256MiB }, each option on a line of its own; which answers are kept, the llm_proxy directives say"); err != nil {
		return nil, err
	}
	c := new(Cache)
	seen := make(once)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		err := seen.add(d, option)
		if err != nil {
			return nil, err
		}
		switch option {
		case "memory":
			c.Memory, err = parseSize(d)
		case "max_object":
			c.MaxObject, err = parseSize(d)
		case "redis":
			c.Redis, err = parseSwitch(d)
		default:
			err = unknownOption(d, "memory, max_object, redis")
		}
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

// cacheConfig is the app's cache, resolved.
type cacheConfig struct {
	memory, maxObject int64
	redis             bool
}

func (a *App) cacheConfig() (cacheConfig, error) {
	c := cacheConfig{memory: defaultCacheMemory, maxObject: defaultMaxObject, redis: a.Redis != nil}
	if a.Cache == nil {
		return c, nil
	}
	if a.Cache.Memory != 0 {
		c.memory = a.Cache.Memory
	}
	c.maxObject = min(c.maxObject, c.memory/respcache.MemoryShare)
	if a.Cache.MaxObject != 0 {
		c.maxObject = a.Cache.MaxObject
	}
	if a.Cache.Redis != nil {
		c.redis = *a.Cache.Redis
	}
	switch {
	case c.memory < respcache.MinMemory:
		return c, fmt.Errorf("llm_proxy > cache > memory: expected at least %d bytes", int64(respcache.MinMemory))
	case c.maxObject < 1 || c.maxObject > c.memory/respcache.MemoryShare:
		return c, fmt.Errorf("llm_proxy > cache > max_object: expected a size of up to %d bytes, an eighth of the memory", c.memory/respcache.MemoryShare)
	case c.redis && a.Redis == nil:
		return c, fmt.Errorf("llm_proxy > cache > redis: there is no redis in llm_proxy")
	}
	return c, nil
}

// cachePool is a cache that configurations share. It keeps nothing until the
// database is open, which has what answers in Redis are sealed with.
type cachePool struct {
	config cacheConfig
	db     *database
	redis  *redisPool // nil: none
	logger *slog.Logger
	fills  *fill.Group
	tiered atomic.Pointer[respcache.Tiered]

	mu     sync.Mutex
	closed bool
	leases sync.WaitGroup // of fills
}

// finish ends what is fetched for nobody any more, when the process does: its events
// and what it has used are recorded before the database is closed.
func (p *cachePool) finish() {
	p.fills.Close()
	p.leases.Wait()
}

// useCache takes the cache for a configuration, after its Redis.
func (r *runtime) useCache(config cacheConfig, logger *slog.Logger) error {
	key := fmt.Sprintf("cache:%d:%d:%s", config.memory, config.maxObject, r.cfg.key())
	var redis *redisPool
	if config.redis {
		redis = r.redis
		key += ":" + r.redisKey
	}
	db := r.db
	value, _, err := shared.LoadOrNew(key, func() (caddy.Destructor, error) {
		p := &cachePool{config: config, db: db, redis: redis, logger: logger}
		// Nobody is cut off as long as the answer is kept anyway.
		p.fills = fill.New(fill.Options{MaxObject: config.maxObject, MaxLag: config.maxObject, Logger: logger})
		db.caches.add(p)
		return p, nil
	})
	if err != nil {
		return err
	}
	r.cache = value.(*cachePool)
	r.keys = append(r.keys, key)
	return nil
}

// Destruct implements [caddy.Destructor].
func (p *cachePool) Destruct() error {
	p.db.caches.remove(p)
	p.fills.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if t := p.tiered.Load(); t != nil {
		t.Close()
	}
	return nil
}

// store is where answers are; nil: not yet.
func (p *cachePool) store() *respcache.Tiered {
	if t := p.tiered.Load(); t != nil || !p.db.isOpen() {
		return t
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.tiered.Load(); t != nil || p.closed {
		return t
	}
	options := respcache.Options{Memory: p.config.memory, Logger: p.logger}
	if p.redis != nil {
		store := p.db.store.Load()
		options.Redis = &respcache.RedisOptions{Conn: p.redis, Sealer: p.db.ring, Namespace: store.Pepper()}
	}
	t, err := respcache.New(options)
	if err != nil {
		p.logger.Error("there is no cache", "error", err)
		return nil
	}
	t.Start()
	p.tiered.Store(t)
	return t
}

// Lookup implements [gateway.CacheStore].
func (p *cachePool) Lookup(ctx context.Context, primary respcache.Key, variant func([]string) respcache.Key) (*respcache.Entry, respcache.Tier, bool) {
	if t := p.store(); t != nil {
		return t.Lookup(ctx, primary, variant)
	}
	return nil, respcache.Nowhere, false
}

// Epoch implements [gateway.CacheStore].
func (p *cachePool) Epoch() uint64 {
	if t := p.store(); t != nil {
		return t.Epoch()
	}
	return 0
}

// Put implements [gateway.CacheStore].
func (p *cachePool) Put(e *respcache.Entry, epoch uint64) error {
	if t := p.store(); t != nil {
		return t.Put(e, epoch)
	}
	return nil
}

// Invalidate implements [gateway.CacheStore].
func (p *cachePool) Invalidate(primary respcache.Key) {
	if t := p.store(); t != nil {
		t.Invalidate(primary)
	}
	p.fills.Forget(func(key fill.Key, _ any) bool { return respcache.Key(key) == primary })
}

// Apply forgets what is selected in this process. It implements [respcache.Purger].
func (p *cachePool) Apply(sel respcache.Selector) (deleted int, err error) {
	if t := p.store(); t != nil {
		deleted, err = t.Apply(sel)
	}
	p.forget(sel)
	return deleted, err
}

// Purge forgets what is selected, here and wherever else it is.
func (p *cachePool) Purge(ctx context.Context, sel respcache.Selector) (deleted int, err error) {
	if err := sel.Check(); err != nil {
		return 0, err
	}
	if t := p.store(); t != nil {
		deleted, err = t.Purge(ctx, sel)
	}
	p.forget(sel)
	return deleted, err
}

// forget has nobody join, and nothing stored of, what is under way.
func (p *cachePool) forget(sel respcache.Selector) {
	p.fills.Forget(func(key fill.Key, about any) bool {
		primary, tags := respcache.Key(key), about.(*respcache.Tags)
		return sel.Matches(&primary, tags)
	})
}

// Stats is what the cache has and has done.
func (p *cachePool) Stats() []respcache.BackendStats {
	if t := p.store(); t != nil {
		return t.Stats()
	}
	return nil
}

// caches are those of a database.
type caches struct {
	mu   sync.Mutex
	list map[*cachePool]struct{}
}

func (c *caches) add(p *cachePool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.list == nil {
		c.list = make(map[*cachePool]struct{})
	}
	c.list[p] = struct{}{}
}

func (c *caches) remove(p *cachePool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.list, p)
}

// each visits all of them.
func (c *caches) each(visit func(*cachePool)) {
	c.mu.Lock()
	list := make([]*cachePool, 0, len(c.list))
	for p := range c.list {
		list = append(list, p)
	}
	c.mu.Unlock()
	for _, p := range list {
		visit(p)
	}
}

// fillLease keeps a configuration's resources open for a fill.
type fillLease struct {
	runtime *runtime
	pool    *cachePool
	held    *lease.Lease
}

// Acquire implements [fill.Lease].
func (l *fillLease) Acquire() bool {
	for _, candidate := range []*lease.Lease{l.runtime.lease, l.runtime.db.lease} {
		if candidate.Acquire() {
			l.held = candidate
			l.pool.leases.Add(1)
			return true
		}
	}
	return false
}

// Release implements [fill.Lease].
func (l *fillLease) Release() {
	l.held.Release()
	l.pool.leases.Done()
}
