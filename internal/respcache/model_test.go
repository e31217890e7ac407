package respcache_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

// store is what the model is held against.
type store interface {
	find(primary respcache.Key, variant func([]string) respcache.Key) (*respcache.Entry, bool)
	put(e *respcache.Entry, epoch uint64) error
	epoch() uint64
	purge(respcache.Selector) (int, error)
	invalidate(respcache.Key)
}

type inMemory struct{ *respcache.Memory }

func (s inMemory) find(primary respcache.Key, variant func([]string) respcache.Key) (*respcache.Entry, bool) {
	return s.Lookup(primary, variant)
}
func (s inMemory) put(e *respcache.Entry, epoch uint64) error { return s.Put(e, epoch) }
func (s inMemory) epoch() uint64                              { return s.Epoch() }
func (s inMemory) purge(sel respcache.Selector) (int, error)  { return s.Apply(sel) }
func (s inMemory) invalidate(primary respcache.Key)           { s.Invalidate(primary) }

// inRedis looks past the memory, and waits for what is written behind.
type inRedis struct {
	t *rapid.T
	*respcache.Tiered
}

func (s inRedis) find(primary respcache.Key, variant func([]string) respcache.Key) (*respcache.Entry, bool) {
	s.settle()
	return s.LookupRedis(context.Background(), primary, variant)
}
func (s inRedis) put(e *respcache.Entry, epoch uint64) error { return s.Put(e, epoch) }
func (s inRedis) epoch() uint64                              { return s.Epoch() }
func (s inRedis) purge(sel respcache.Selector) (int, error) {
	s.settle()
	return s.Purge(context.Background(), sel)
}

// Until others have been told, what comes under the key is not kept in Redis.
func (s inRedis) invalidate(primary respcache.Key) { s.Invalidate(primary); s.settle() }

func (s inRedis) settle() {
	tick := time.NewTicker(50 * time.Microsecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !s.Settled(); <-tick.C {
		if time.Now().After(deadline) {
			s.t.Fatal("what was queued is not written")
		}
	}
}

// inBoth is the whole: memory in front of Redis.
type inBoth struct{ inRedis }

func (s inBoth) find(primary respcache.Key, variant func([]string) respcache.Key) (*respcache.Entry, bool) {
	e, _, varied := s.Lookup(context.Background(), primary, variant)
	return e, varied
}

// model is the simplest cache that there can be.
type model struct {
	entries []*respcache.Entry
	headers map[*respcache.Entry]http.Header
	epochs  []uint64
	purges  []func(*respcache.Entry) bool // in the order of epochs
	known   []int                         // how many purges there were at each of epochs
}

func (m *model) remove(now time.Time, gone func(*respcache.Entry) bool) (deleted int) {
	var left []*respcache.Entry
	for _, e := range m.entries {
		if !gone(e) {
			left = append(left, e)
		} else if e.Until.After(now) {
			deleted++
		}
	}
	m.entries = left
	return deleted
}

func (m *model) find(now time.Time, primary respcache.Key, header http.Header) (found *respcache.Entry, present bool) {
	for _, e := range m.entries {
		if e.Primary != primary || !e.Until.After(now) {
			continue
		}
		present = true
		if e.Variant == respcache.VariantKey(primary, e.Meta.Vary, header) && (found == nil || e.Meta.ResponseTime.After(found.Meta.ResponseTime)) {
			found = e
		}
	}
	return found, found == nil && present
}

// checkAgainstModel does random things to a store and to the model.
func checkAgainstModel(t *rapid.T, s store, clock *respcache.Clock) {
	m := &model{headers: make(map[*respcache.Entry]http.Header)}
	pick := func(from int) *rapid.Generator[int] { return rapid.IntRange(0, from-1) }
	draw := func(t *rapid.T) request {
		q := request{
			project: fmt.Sprint("p", pick(2).Draw(t, "project")), model: fmt.Sprint("m", pick(2).Draw(t, "model")), method: "GET",
			path: fmt.Sprintf("/v%d/%d", pick(2).Draw(t, "version"), pick(2).Draw(t, "path")), header: http.Header{},
		}
		for _, name := range []string{"Accept", "Origin"} {
			if v := pick(3).Draw(t, name); v > 0 {
				q.header.Set(name, fmt.Sprint(v))
			}
		}
		q.vary = [][]string{nil, {"Accept"}, {"Accept", "Origin"}}[pick(3).Draw(t, "vary")]
		return q
	}
	look := func(t *rapid.T) {
		q := draw(t)
		primary := q.key()
		want, varied := m.find(clock.Now(), primary, q.header)
		got, gotVaried := s.find(primary, with(primary, q.header))
		if (got == nil) != (want == nil) || gotVaried != varied {
			t.Fatalf("%+v: found %t, varied %t, want %t, %t", q, got != nil, gotVaried, want != nil, varied)
		}
		if got != nil && (string(got.Body) != string(want.Body) || got.Variant != want.Variant || got.Primary != primary || got.Tags != want.Tags || !got.Until.Equal(want.Until)) {
			t.Fatalf("%+v: found %s, want %s", q, got.Body, want.Body)
		}
	}
	count := 0
	put := func(t *rapid.T, epoch uint64, purges []func(*respcache.Entry) bool) {
		q := draw(t)
		clock.Advance(time.Millisecond)
		count++
		e := q.entry(clock.Now(), time.Duration(1+pick(20).Draw(t, "life"))*time.Second, fmt.Sprint(count))
		purged := false
		for _, p := range purges {
			purged = purged || p(e)
		}
		err := s.put(e, epoch)
		if errors.Is(err, respcache.ErrPurged) != purged || !purged && err != nil {
			t.Fatalf("put: %v, purged %t", err, purged)
		}
		if !purged {
			m.remove(clock.Now(), func(old *respcache.Entry) bool { return old.Variant == e.Variant })
			m.entries = append(m.entries, e)
		}
	}
	t.Repeat(map[string]func(*rapid.T){
		"look":    look,
		"look ":   look,
		"put":     func(t *rapid.T) { put(t, s.epoch(), nil) },
		"put ":    func(t *rapid.T) { put(t, s.epoch(), nil) },
		"begin":   func(t *rapid.T) { m.epochs, m.known = append(m.epochs, s.epoch()), append(m.known, len(m.purges)) },
		"advance": func(t *rapid.T) { clock.Advance(time.Duration(pick(8000).Draw(t, "ms")) * time.Millisecond) },
		"end": func(t *rapid.T) {
			if len(m.epochs) > 0 {
				i := pick(len(m.epochs)).Draw(t, "which")
				put(t, m.epochs[i], m.purges[m.known[i]:])
			}
		},
		"invalidate": func(t *rapid.T) {
			primary := draw(t).key()
			gone := func(e *respcache.Entry) bool { return e.Primary == primary }
			m.purges = append(m.purges, gone)
			m.remove(clock.Now(), gone)
			s.invalidate(primary)
		},
		"purge": func(t *rapid.T) {
			q := draw(t)
			sel := []respcache.Selector{
				{By: respcache.ByProject, Value: q.project}, {By: respcache.ByModel, Value: q.model}, {By: respcache.ByKey, Value: q.key().String()},
				{By: respcache.ByURL, Value: q.path}, {By: respcache.ByPrefix, Value: q.path[:4]}, {By: respcache.ByPattern, Value: "*" + q.path[3:]}, {By: respcache.ByAll},
			}[pick(7).Draw(t, "by")]
			gone := func(e *respcache.Entry) bool { return sel.Matches(&e.Primary, &e.Tags) }
			m.purges = append(m.purges, gone)
			want := m.remove(clock.Now(), gone)
			if got, err := s.purge(sel); got != want || err != nil {
				t.Fatalf("purge by %v %s: %d, want %d: %v", sel.By, sel.Value, got, want, err)
			}
		},
	})
}

func TestMemoryModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		clock := respcache.NewClock(begin)
		m, err := respcache.NewMemoryAt(64<<20, clock)
		if err != nil {
			rt.Fatal(err)
		}
		defer m.Close()
		checkAgainstModel(rt, inMemory{m}, clock)
	})
}

func TestRedisModel(t *testing.T) {
	t.Parallel()
	checkOnRedis(t, func(s inRedis) store { return s })
}

func TestTieredModel(t *testing.T) {
	t.Parallel()
	checkOnRedis(t, func(s inRedis) store { return inBoth{s} })
}

func checkOnRedis(t *testing.T, of func(inRedis) store) {
	conn := connect(t, redisURL(t))
	rounds := 0
	rapid.Check(t, func(rt *rapid.T) {
		rounds++
		clock := respcache.NewClock(begin)
		c, err := respcache.NewAt(respcache.Options{Memory: 64 << 20, Redis: &respcache.RedisOptions{
			Conn: conn, Sealer: keyring(t, 1), Namespace: fmt.Append(nil, rounds), Timeout: 10 * time.Second,
		}}, clock)
		if err != nil {
			rt.Fatal(err)
		}
		defer c.Close()
		c.Start()
		for !c.Up() {
			c.Beat(context.Background())
		}
		checkAgainstModel(rt, of(inRedis{rt, c}), clock)
	})
}
