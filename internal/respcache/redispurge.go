package respcache

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// scanCount is how many names of Redis a step of a purge looks at: it must not keep
// others waiting.
const scanCount = 500

// maxPending is how many purges wait for Redis; more become one of everything.
const maxPending = 256

// ErrPending says that Redis has not been told of a purge: nothing is found there by
// this process, and Redis will be told when it answers.
var ErrPending = errors.New("redis could not be told of the purge yet")

// tally counts what a purge takes away.
type tally struct {
	mu      sync.Mutex
	deleted int
	also    map[string]struct{} // fields of what was counted elsewhere
	twice   int
}

func (t *tally) count(fields []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.deleted += len(fields)
	for _, f := range fields {
		if _, ok := t.also[f]; ok {
			t.twice++
		}
	}
}

func (t *tally) net() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.deleted - t.twice
}

// purge tells Redis and all nodes of a purge, which holds from then on, and takes
// away what is in Redis. It tells how many entries that were, without those that
// were also elsewhere. If ctx ends first, the rest goes on without the caller.
func (r *remote) purge(ctx context.Context, sel Selector, also map[string]struct{}) (deleted int, err error) {
	if !r.up.Load() {
		r.postpone(sel)
		return 0, ErrPending
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), beatTimeout)
	defer cancel()
	seq, err := r.tell(bounded, sel)
	if err != nil {
		r.postpone(sel)
		r.failed(err)
		return 0, fmt.Errorf("%w: %w", ErrPending, r.opts.Conn.Explain(err))
	}
	t := &tally{also: also}
	done := make(chan error, 1)
	if !r.spawn(func(ctx context.Context) { done <- r.clear(ctx, sel, seq, t) }) {
		return 0, errors.New("the cache is closed")
	}
	select {
	case err = <-done:
	case <-ctx.Done():
		err = fmt.Errorf("the purge goes on: %w", ctx.Err())
	}
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("purging Redis: %w", r.opts.Conn.Explain(err))
	}
	return t.net(), err
}

// tell adds a purge to the stream that all nodes read.
func (r *remote) tell(ctx context.Context, sel Selector) (seq uint64, err error) {
	text, err := sel.MarshalText()
	if err != nil {
		return 0, err
	}
	r.syncing.Lock() // or it would be heard as somebody else's
	defer r.syncing.Unlock()
	id, err := r.client.XAdd(ctx, &redis.XAddArgs{
		Stream: r.purgesKey(), MaxLen: maxPurges, Values: []string{"s", string(text)},
	}).Result()
	if err != nil {
		return 0, err
	}
	seq = parseSeq(id)
	r.log.add(seq, sel) // its own memory has been told
	r.epochs.meet(seq)
	return seq, nil
}

// postpone keeps a purge for when Redis is back.
func (r *remote) postpone(sel Selector) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending = append(r.pending, sel); len(r.pending) > maxPending {
		r.pending = []Selector{{By: ByAll}}
	}
	r.up.Store(false) // until the keeper has told it
}

// tellPending tells Redis of the purges that it missed.
func (r *remote) tellPending(ctx context.Context) error {
	for {
		r.mu.Lock()
		if len(r.pending) == 0 {
			r.mu.Unlock()
			return nil
		}
		sel := r.pending[0]
		r.mu.Unlock()
		seq, err := r.tell(ctx, sel)
		if err != nil {
			return err
		}
		r.mu.Lock()
		if len(r.pending) > 0 && r.pending[0] == sel {
			r.pending = r.pending[1:]
		}
		r.mu.Unlock()
		// Nothing of it is found any more, cleared or not.
		r.spawn(func(ctx context.Context) { _ = r.clear(ctx, sel, seq, new(tally)) })
	}
}

// sync reads the purges that Redis knows and this node does not.
func (r *remote) sync(ctx context.Context) error {
	r.syncing.Lock()
	defer r.syncing.Unlock()
	after := "-"
	if r.cursor != "" {
		after = "(" + r.cursor
	}
	pipe := r.client.Pipeline()
	first := pipe.XRangeN(ctx, r.purgesKey(), "-", "+", 1)
	newer := pipe.XRangeN(ctx, r.purgesKey(), after, "+", maxPurges)
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	news := newer.Val()
	if oldest := first.Val(); r.cursor != "" && len(news) >= maxPurges && len(oldest) > 0 && parseSeq(oldest[0].ID) > parseSeq(r.cursor) {
		r.hear(oldest[0].ID, Selector{By: ByAll}) // and some before it have been missed
	}
	for _, m := range news {
		text, _ := m.Values["s"].(string)
		var sel Selector
		if err := sel.UnmarshalText([]byte(text)); err != nil {
			sel = Selector{By: ByAll} // a newer binary may know what it means
		}
		r.hear(m.ID, sel)
		r.cursor = m.ID
	}
	return nil
}

// hear applies a purge that another node has told Redis of.
func (r *remote) hear(id string, sel Selector) {
	seq := parseSeq(id)
	if !r.log.add(seq, sel) {
		return
	}
	if _, err := r.apply(sel); err != nil {
		_, _ = r.apply(Selector{By: ByAll})
	}
	r.epochs.meet(seq)
}

// known reports whether all purges up to one have been read.
func (r *remote) known(id string) bool {
	r.syncing.Lock()
	defer r.syncing.Unlock()
	return r.cursor == id
}

// parseSeq makes a number of the id of a stream's entry: milliseconds and a number
// in them.
func parseSeq(id string) uint64 {
	ms, n, _ := strings.Cut(id, "-")
	m, _ := strconv.ParseUint(ms, 10, 64)
	i, _ := strconv.ParseUint(n, 10, 64)
	return m<<20 | min(i, 1<<20-1)
}

// clear takes away what is in Redis and was asked for before a purge.
func (r *remote) clear(ctx context.Context, sel Selector, seq uint64, t *tally) error {
	if sel.By == ByKey {
		key, err := ParseKey(sel.Value)
		if err != nil {
			return err
		}
		return r.clearSome(ctx, r.client, []string{r.hash(key)}, sel, seq, t)
	}
	some := func(ctx context.Context, c redis.Cmdable) error {
		return scan(ctx, c, r.prefix+"{*", func(names []string) error {
			return r.clearSome(ctx, c, names, sel, seq, t)
		})
	}
	if cluster, ok := r.client.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return some(ctx, c) })
	}
	return some(ctx, r.client)
}

// scan walks through all names that match, some at a time.
func scan(ctx context.Context, c redis.Cmdable, match string, each func(names []string) error) error {
	for cursor := uint64(0); ; {
		names, next, err := c.Scan(ctx, cursor, match, scanCount).Result()
		if err != nil {
			return err
		}
		if err := each(names); err != nil {
			return err
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// clearSome looks at some hashes, in two round trips at most.
func (r *remote) clearSome(ctx context.Context, c redis.Cmdable, names []string, sel Selector, seq uint64, t *tally) error {
	if len(names) == 0 {
		return nil
	}
	pipe := c.Pipeline()
	indexes := make([]*redis.StringCmd, len(names))
	for i, name := range names {
		indexes[i] = pipe.HGet(ctx, name, indexField)
	}
	if err := execute(ctx, pipe); err != nil {
		return err
	}
	now := r.now()
	useful := make(map[string]bool)
	var drops []*redis.Cmd
	pipe = c.Pipeline()
	for i, name := range names {
		var fields []any
		for _, l := range parseIndex(indexes[i].Val()) {
			b, ok := openLabel(r.opts.Sealer, name, l)
			if ok && (b.there >= seq || !sel.Matches(&b.key, &b.tags)) || !ok && sel.By != ByAll {
				continue
			}
			fields = append(fields, l.field)
			useful[l.field] = l.ofUse(now)
		}
		if len(fields) > 0 {
			drops = append(drops, pipe.Eval(ctx, dropLua, []string{name}, fields...))
		}
	}
	if len(drops) == 0 {
		return nil
	}
	if err := execute(ctx, pipe); err != nil {
		return err
	}
	for _, d := range drops {
		gone, _ := d.StringSlice()
		var counted []string
		for _, f := range gone {
			if useful[f] {
				counted = append(counted, f)
			}
		}
		t.count(counted)
		r.counted.purged.Add(int64(len(counted)))
	}
	return nil
}

// execute runs a pipeline in which commands may be refused one by one.
func execute(ctx context.Context, pipe redis.Pipeliner) error {
	_, err := pipe.Exec(ctx)
	var refusal redis.Error
	if err == nil || errors.Is(err, redis.Nil) || errors.As(err, &refusal) && strings.HasPrefix(refusal.Error(), "WRONGTYPE") {
		return nil
	}
	return err
}
