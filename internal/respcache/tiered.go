package respcache

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/maypok86/otter/v2"
)

// Tier says where an entry was found.
type Tier uint8

// Tiers.
const (
	Nowhere Tier = iota
	InMemory
	InRedis
)

func (t Tier) String() string {
	return [...]string{Nowhere: "", InMemory: "memory", InRedis: "redis"}[t]
}

// Options are what a [Tiered] is made of.
type Options struct {
	Memory int64         // bytes, at least MinMemory
	Redis  *RedisOptions // nil: this process alone
	Logger *slog.Logger  // nil: discard
}

// Tiered keeps entries in memory, in front of Redis if there is one. Redis being
// away is no error: what is there is not found then. It is safe for concurrent use.
type Tiered struct {
	memory *Memory
	redis  *remote // nil: none
}

// New makes a cache. [Tiered.Start] starts what needs Redis, [Tiered.Close] ends it.
func New(opts Options) (*Tiered, error) { return newTiered(opts, time.Now, nil) }

func newTiered(opts Options, now func() time.Time, clock otter.Clock) (*Tiered, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMemory(opts.Memory, now, clock)
	if err != nil {
		return nil, err
	}
	t := &Tiered{memory: m}
	if opts.Redis == nil {
		return t, nil
	}
	if t.redis, err = newRemote(*opts.Redis, opts.Logger, now, &m.epochs, m.Apply); err != nil {
		m.Close()
		return nil, err
	}
	return t, nil
}

// Start asks Redis once, for half a second at most, and goes on in the background.
// The connection has been started. Calls after the first, or after Close, do nothing.
func (t *Tiered) Start() {
	if t.redis != nil {
		t.redis.start()
	}
}

// Close ends what runs in the background, before the connection to Redis is
// closed. It may be called more than once.
func (t *Tiered) Close() {
	if t.redis != nil {
		t.redis.close()
	}
	t.memory.Close()
}

// Lookup finds the entry that answers a request. variant tells the request's key
// among responses that vary on some fields, as [VariantKey] does. varied says that
// there are responses under its key, none of which answers it.
func (t *Tiered) Lookup(ctx context.Context, primary Key, variant func(vary []string) Key) (e *Entry, from Tier, varied bool) {
	if e, varied = t.memory.Lookup(primary, variant); e != nil || t.redis == nil {
		if e == nil {
			return nil, Nowhere, varied
		}
		return e, InMemory, false
	}
	epoch := t.memory.Epoch()
	e, there := t.redis.lookup(ctx, primary, variant)
	if e == nil {
		return nil, Nowhere, varied || there
	}
	switch err := t.memory.Put(e, epoch); {
	case errors.Is(err, ErrPurged):
		return nil, Nowhere, varied // while it was on its way
	case err != nil:
		return e, InRedis, false // and nothing is wrong with that
	}
	return e, InRedis, false
}

// Epoch is to be noted when a request begins whose response may be put. It grows
// with each purge.
func (t *Tiered) Epoch() uint64 { return t.memory.Epoch() }

// Put keeps an entry whose request began at an epoch: in memory at once, and in
// Redis soon. ErrPurged and ErrTooLarge say why it does not.
func (t *Tiered) Put(e *Entry, epoch uint64) error {
	err := t.memory.Put(e, epoch)
	if t.redis != nil && (err == nil || errors.Is(err, ErrTooLarge)) {
		t.redis.put(e, epoch)
	}
	return err
}

// Refresh keeps what a 304 has made of an entry, whose revalidation began at an
// epoch.
func (t *Tiered) Refresh(renewed *Entry, epoch uint64) error { return t.Put(renewed, epoch) }

// Invalidate forgets what is kept under a primary key, here at once and elsewhere
// soon: an unsafe request has succeeded (RFC 9111, section 4.4).
func (t *Tiered) Invalidate(primary Key) {
	t.memory.Invalidate(primary)
	if t.redis != nil {
		t.redis.invalidate(primary)
	}
}

// Apply forgets what is selected in this process, for purges that the host has
// heard of. It implements [Purger].
func (t *Tiered) Apply(sel Selector) (deleted int, err error) { return t.memory.Apply(sel) }

// Purge forgets what is selected, fresh or stale, in this process and in Redis, and
// has all who share that Redis forget it. deleted is how many entries that were,
// each counted once. With an error it holds for this process, and deleted is right
// so far.
func (t *Tiered) Purge(ctx context.Context, sel Selector) (deleted int, err error) {
	taken, deleted, err := t.memory.purge(sel)
	if err != nil || t.redis == nil {
		t.memory.discard(taken)
		return deleted, err
	}
	now := t.memory.now()
	also := make(map[string]struct{}, deleted)
	for _, items := range taken {
		for _, it := range items {
			if it.entry.Until.After(now) {
				also[t.redis.field(it.entry.Variant)] = struct{}{}
			}
		}
	}
	t.memory.discard(taken)
	more, err := t.redis.purge(ctx, sel, also)
	return deleted + more, err
}
