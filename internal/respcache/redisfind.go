package respcache

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// maxGuesses is how many lists a lookup guesses that the response may vary on. What
// was not guessed costs a second round trip.
const maxGuesses = 4

// lookup finds the entry that answers a request. Whatever is wrong is a miss.
func (r *remote) lookup(ctx context.Context, primary Key, variant func(vary []string) Key) (e *Entry, varied bool) {
	if r.up.Load() && ctx.Err() == nil && !r.unwanted.has(primary) {
		// Not the request's own context: a client that leaves would break the connection.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.opts.Timeout)
		defer cancel()
		e, varied = r.find(ctx, primary, variant)
	}
	if e == nil {
		r.counted.misses.Add(1)
		return nil, varied
	}
	r.counted.hits.Add(1)
	return e, false
}

// answer is what a hash has in some fields.
type answer map[string]string

func (r *remote) find(ctx context.Context, primary Key, variant func(vary []string) Key) (e *Entry, present bool) {
	hash := r.hash(primary)
	fields := []string{indexField}
	for _, list := range *r.lists.Load() {
		fields = append(fields, r.field(variant(list)))
	}
	have := make(answer, len(fields))
	if !r.get(ctx, hash, fields, have) || have[indexField] == "" {
		return nil, false
	}
	now := r.now()
	lines := parseIndex(have[indexField])
	keys := make(map[string]Key)
	var missing []string
	var lists [][]string
	for _, l := range lines {
		if !l.ofUse(now) {
			continue
		}
		present = true
		if slices.ContainsFunc(lists, func(seen []string) bool { return slices.Equal(seen, l.vary) }) {
			continue
		}
		lists = append(lists, l.vary)
		r.learn(l.vary)
		key := variant(l.vary)
		field := r.field(key)
		if !slices.ContainsFunc(lines, func(l line) bool { return l.field == field && l.ofUse(now) }) {
			continue
		}
		keys[field] = key
		if _, ok := have[field]; !ok {
			missing = append(missing, field)
		}
	}
	if len(missing) > 0 && !r.get(ctx, hash, missing, have) {
		return nil, present
	}
	for field, key := range keys {
		found := r.open(primary, key, have[field], now)
		if found != nil && (e == nil || found.Meta.ResponseTime.After(e.Meta.ResponseTime)) {
			e = found
		}
	}
	return e, present
}

// get adds what a hash has in some fields to have.
func (r *remote) get(ctx context.Context, hash string, fields []string, have answer) bool {
	values, err := r.client.HMGet(ctx, hash, fields...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		if !r.failed(err) {
			r.counted.damaged.Add(1)
		}
		return false
	}
	for i, v := range values {
		if text, ok := v.(string); ok && i < len(fields) {
			have[fields[i]] = text
		}
	}
	return true
}

// open is an entry that was found, unless it was altered, moved, purged or has
// expired.
func (r *remote) open(primary, variant Key, value string, now time.Time) *Entry {
	if value == "" {
		return nil
	}
	e, err := openEntry(r.opts.Sealer, primary, variant, []byte(value))
	if err != nil {
		r.counted.damaged.Add(1)
		return nil
	}
	if !e.Until.After(now) {
		return nil
	}
	if r.log.hits(e.there, &primary, &e.Tags) {
		r.counted.refused.Add(1)
		return nil
	}
	return e
}

// learn notes what a response varied on, for the next guess.
func (r *remote) learn(list []string) {
	known := *r.lists.Load()
	if slices.ContainsFunc(known, func(k []string) bool { return slices.Equal(k, list) }) {
		return
	}
	lists := [][]string{nil, list}
	for _, k := range known {
		if len(k) > 0 && len(lists) < maxGuesses {
			lists = append(lists, k)
		}
	}
	r.lists.Store(&lists)
}
