package respcache

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// beatEvery is how often a node asks for purges that others have told Redis, and
	// probeEvery how often it asks whether Redis is back.
	beatEvery  = 400 * time.Millisecond
	probeEvery = 200 * time.Millisecond

	// beatTimeout is for what no request waits for.
	beatTimeout  = 500 * time.Millisecond
	closeTimeout = 2 * time.Second
)

// failed takes note of an error of the client: Redis is not asked any more until it
// has answered the keeper. It reports false if only this one answer is no good.
func (r *remote) failed(err error) bool {
	r.counted.errors.Add(1)
	var refusal redis.Error
	if errors.As(err, &refusal) && !errors.Is(err, redis.ErrPoolTimeout) {
		switch word, _, _ := strings.Cut(refusal.Error(), " "); word {
		case "WRONGTYPE", "OOM", "ERR", "EXECABORT":
			return false
		}
	}
	r.trip(err)
	return true
}

func (r *remote) trip(err error) {
	if !r.up.CompareAndSwap(true, false) {
		return
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
	r.say(err)
}

// say logs a change for the worse, once.
func (r *remote) say(err error) {
	r.mu.Lock()
	first := !r.said
	r.said = true
	r.mu.Unlock()
	if first {
		r.logger.LogAttrs(context.Background(), slog.LevelWarn, "the cache goes on without Redis", slog.Any("error", r.opts.Conn.Explain(err)))
	}
}

func (r *remote) enter() {
	r.mu.Lock()
	if len(r.pending) > 0 { // since the keeper looked
		r.mu.Unlock()
		return
	}
	r.up.Store(true)
	said := r.said
	r.said = false
	r.mu.Unlock()
	if said {
		r.logger.LogAttrs(context.Background(), slog.LevelInfo, "the cache has Redis again")
	}
}

// keep reads others' purges, and looks whether Redis is back, until it is closed.
func (r *remote) keep() {
	timer := time.NewTimer(r.pause())
	defer timer.Stop()
	for {
		select {
		case <-r.quit:
			return
		case <-r.ctx.Done():
			return
		case <-r.wake:
		case <-timer.C:
			r.beat(r.ctx)
		}
		timer.Reset(r.pause())
	}
}

func (r *remote) pause() time.Duration {
	every := beatEvery
	if !r.up.Load() {
		every = probeEvery
	}
	return every*9/10 + rand.N(every/5)
}

// beat tells Redis of purges that it missed and reads those that it knows. Only
// then it may be asked for entries.
func (r *remote) beat(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	err := r.tellPending(ctx)
	if err == nil {
		err = r.forgetAll(ctx)
	}
	if err == nil {
		err = r.sync(ctx)
	}
	if err == nil {
		r.enter()
		return
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	r.counted.errors.Add(1)
	r.up.Store(false)
	r.say(err)
}
