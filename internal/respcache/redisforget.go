package respcache

import (
	"context"
	"sync"
	"sync/atomic"
)

// maxUnwanted is how many keys wait to be forgotten in Redis; more become a purge of
// everything.
const maxUnwanted = 1024

// unwanted are primary keys that Redis is to forget and that are not found there
// until it has. An unsafe request comes much more often than there is anything to
// forget, so that what is asked for again meanwhile is done once.
type unwanted struct {
	wake chan struct{}
	some atomic.Bool // to be fast when there are none, as usual

	mu   sync.Mutex
	keys map[Key]uint64 // and how often they were asked for
}

// add reports false if there are too many.
func (u *unwanted) add(k Key) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, known := u.keys[k]; !known && len(u.keys) >= maxUnwanted {
		clear(u.keys)
		u.some.Store(false)
		return false
	}
	u.keys[k]++
	u.some.Store(true)
	select {
	case u.wake <- struct{}{}:
	default:
	}
	return true
}

func (u *unwanted) has(k Key) bool {
	if !u.some.Load() {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	_, ok := u.keys[k]
	return ok
}

// next is any of the keys.
func (u *unwanted) next() (k Key, asked uint64, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for k, asked := range u.keys {
		return k, asked, true
	}
	return k, 0, false
}

// done takes a key out, unless it was asked for again.
func (u *unwanted) done(k Key, asked uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.keys[k] == asked {
		delete(u.keys, k)
	}
	u.some.Store(len(u.keys) > 0)
}

// invalidate has Redis forget what is under a primary key, soon. It is not found
// there from now on.
func (r *remote) invalidate(primary Key) {
	if !r.unwanted.add(primary) {
		r.postpone(Selector{By: ByAll})
	}
}

// forget forgets all unwanted keys, if Redis is there; if not, the keeper sees to it
// before Redis is asked again.
func (r *remote) forget() {
	ctx, cancel := context.WithTimeout(r.ctx, beatTimeout)
	defer cancel()
	if !r.up.Load() {
		return
	}
	if err := r.forgetAll(ctx); err != nil {
		r.failed(err)
	}
}

func (r *remote) forgetAll(ctx context.Context) error {
	for {
		k, asked, ok := r.unwanted.next()
		if !ok {
			return nil
		}
		r.writing.Lock()
		n, err := r.client.Unlink(ctx, r.hash(k)).Result()
		r.writing.Unlock()
		if err == nil && n > 0 { // others may have it in memory
			_, err = r.tell(ctx, Selector{By: ByKey, Value: k.String()})
		}
		if err != nil {
			return err
		}
		r.unwanted.done(k, asked)
	}
}
