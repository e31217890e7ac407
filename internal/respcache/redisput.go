package respcache

import (
	"context"
	"time"
)

// job is an entry to be written, whose request began at an epoch.
type job struct {
	entry *Entry
	size  int64
	epoch uint64
}

// put queues an entry. What Redis does not take in time is dropped.
func (r *remote) put(e *Entry, epoch uint64) {
	if len(e.Body) > maxPlain/2 {
		r.counted.tooLarge.Add(1)
		return
	}
	stamped := *e
	stamped.there = r.epochs.there(epoch)
	j := job{entry: &stamped, size: e.Size(), epoch: epoch}
	if !r.up.Load() {
		r.counted.dropped.Add(1)
		return
	}
	if r.queued.Add(j.size) > queueBytes {
		r.queued.Add(-j.size)
		r.counted.dropped.Add(1)
		return
	}
	select {
	case r.queue <- j:
	default:
		r.queued.Add(-j.size)
		r.counted.dropped.Add(1)
	}
}

// write writes what is queued, and at the end what is left, if Redis is there.
func (r *remote) write() {
	for {
		select {
		case <-r.ctx.Done():
			return
		case j := <-r.queue:
			r.do(j)
			continue
		case <-r.unwanted.wake:
			r.forget()
			continue
		case <-r.quit:
			r.forget()
		}
		for {
			select {
			case j := <-r.queue:
				r.do(j)
				continue
			default:
			}
			return
		}
	}
}

func (r *remote) do(j job) {
	defer r.queued.Add(-j.size)
	if !r.up.Load() {
		r.counted.dropped.Add(1)
		return
	}
	ctx, cancel := context.WithTimeout(r.ctx, beatTimeout)
	defer cancel()
	r.save(ctx, j.entry, j.epoch)
}

// save writes an entry unless it was purged meanwhile. A purge that Redis hears of
// before the entry is seen here; one that it hears of later sees the entry.
func (r *remote) save(ctx context.Context, e *Entry, epoch uint64) {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.epochs.gate.RLock()
	admitted := r.epochs.admits(epoch, e) && !r.log.hits(e.there, &e.Primary, &e.Tags)
	r.epochs.gate.RUnlock()
	if !admitted {
		r.counted.refused.Add(1)
		return
	}
	hash, field := r.hash(e.Primary), r.field(e.Variant)
	value := sealEntry(r.opts.Sealer, e)
	l := line{field: field, until: e.Until.UnixMilli(), label: sealLabel(r.opts.Sealer, hash, field, e), vary: e.Meta.Vary}
	text := l.String()
	now := r.now()
	ttl := e.Until.Sub(now)
	large := len(value) > r.opts.MaxValue || len(text) > maxLine
	if large {
		r.counted.tooLarge.Add(1)
	}
	if large || ttl < time.Millisecond {
		r.drop(ctx, hash, field) // or an older one would be found instead
		return
	}
	err := putScript.Run(ctx, r.client, []string{hash}, field, text, value, now.UnixMilli(), ttl.Milliseconds(), maxVariants).Err()
	if err != nil {
		r.failed(err)
		r.counted.dropped.Add(1)
		return
	}
	r.learn(e.Meta.Vary)
	newer, err := r.client.XRevRangeN(ctx, r.purgesKey(), "+", "-", 1).Result()
	if err == nil && (len(newer) == 0 || r.known(newer[0].ID)) {
		r.counted.puts.Add(1)
		return
	}
	if err == nil {
		err = r.sync(ctx)
	}
	if err == nil && !r.log.hits(e.there, &e.Primary, &e.Tags) {
		r.counted.puts.Add(1)
		return
	}
	if err != nil {
		r.failed(err)
	}
	r.counted.refused.Add(1)
	r.drop(ctx, hash, field)
}

// drop takes a variant away.
func (r *remote) drop(ctx context.Context, hash, field string) {
	if err := r.client.Eval(ctx, dropLua, []string{hash}, field).Err(); err != nil {
		r.failed(err)
	}
}
