package respcache_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// TestOutage: with Redis away in the midst of traffic lookups are misses, without an
// error and without asking it; when it is back with its data, hits go on, but for
// what was purged meanwhile.
func TestOutage(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(s *testdb.RedisServer) (begin, end func()){
		"killed": func(s *testdb.RedisServer) (func(), func()) { return s.Kill, s.Start },
		"frozen": func(s *testdb.RedisServer) (func(), func()) { return s.Pause, s.Resume },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testdb.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always")
			conn := connect(t, server.URL())
			c, clock := node(t, conn, func(o *respcache.Options) { o.Redis.Timeout = 200 * time.Millisecond })
			kept, purged, invalid := get("/kept"), get("/purged"), get("/invalid")
			for _, q := range []request{kept, purged, invalid} {
				must(t, c.Put(q.entry(clock.Now(), time.Hour, q.path), c.Epoch()))
			}
			settle(t, c)
			stop := make(chan struct{})
			var traffic sync.WaitGroup
			for range 4 {
				traffic.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						if e, _ := c.LookupRedis(context.Background(), kept.key(), plain(kept.key())); e != nil && string(e.Body) != "/kept" {
							t.Error("another entry")
						}
					}
				})
			}
			begin, end := fault(server)
			begin()
			waitFor(t, "Redis counts as away", func() bool { return !c.Up() })
			before := stats(c, "redis")
			for range 100 {
				if e, _ := c.LookupRedis(t.Context(), purged.key(), plain(purged.key())); e != nil {
					t.Fatal("found without Redis")
				}
			}
			waitFor(t, "lookups go on", func() bool { return stats(c, "redis").Misses > before.Misses+1000 })
			must(t, c.Put(get("/unwritten").entry(clock.Now(), time.Hour, ""), c.Epoch()))
			if n, err := c.Purge(t.Context(), respcache.Selector{By: respcache.ByURL, Value: "/purged"}); n != 1 || !errors.Is(err, respcache.ErrPending) {
				t.Errorf("%d purged, %v", n, err)
			}
			c.Invalidate(invalid.key())
			if s := stats(c, "redis"); s.Up || s.Dropped == 0 || s.Errors == 0 {
				t.Errorf("%+v", s)
			}
			end()
			waitFor(t, "hits go on", func() bool {
				e, _ := c.LookupRedis(t.Context(), kept.key(), plain(kept.key()))
				return e != nil
			})
			close(stop)
			traffic.Wait()
			for _, q := range []request{purged, invalid} {
				if e, _, _ := c.Lookup(t.Context(), q.key(), plain(q.key())); e != nil {
					t.Errorf("%s is back", q.path)
				}
			}
		})
	}
}

// TestRestart: a process that begins finds what one before it had stored, and what
// that one still had to write when it ended.
func TestRestart(t *testing.T) {
	t.Parallel()
	server := testdb.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	conn := connect(t, server.URL())
	c, clock := node(t, conn, nil)
	for i := range 200 {
		must(t, c.Put(get(fmt.Sprint("/", i)).entry(clock.Now(), time.Hour, "x"), c.Epoch()))
	}
	c.Close()
	c.Close()
	server.Kill()
	server.Start()
	next, _ := node(t, conn, nil)
	for i := range 200 {
		primary := get(fmt.Sprint("/", i)).key()
		if e, from, _ := next.Lookup(t.Context(), primary, plain(primary)); e == nil || from != respcache.InRedis {
			t.Fatalf("%d is in %v", i, from)
		}
	}
	must(t, c.Put(get("/late").entry(clock.Now(), time.Hour, "x"), c.Epoch())) // a request outlives its cache
}

// TestEmptied: when Redis is emptied nothing goes wrong, and purges hold afterwards.
func TestEmptied(t *testing.T) {
	t.Parallel()
	conn := connect(t, redisURL(t))
	a, clock := node(t, conn, nil)
	b, _ := node(t, conn, nil)
	ctx := t.Context()
	q := get("/")
	primary := q.key()
	for range 3 {
		must(t, a.Put(q.entry(clock.Now(), time.Hour, "x"), a.Epoch()))
		settle(t, a)
		if e, _, _ := b.Lookup(ctx, primary, plain(primary)); e == nil {
			t.Fatal("not found")
		}
		if n, err := a.Purge(ctx, respcache.Selector{By: respcache.ByModel, Value: "m1"}); n != 1 || err != nil {
			t.Fatalf("%d purged, %v", n, err)
		}
		waitFor(t, "the other node hears of it", func() bool { e, _, _ := b.Lookup(ctx, primary, plain(primary)); return e == nil })
		must(t, conn.Client().FlushDB(ctx).Err())
	}
}

// TestManyMissed: a node that has missed more purges than Redis remembers forgets
// everything.
func TestManyMissed(t *testing.T) {
	t.Parallel()
	conn := connect(t, redisURL(t))
	c, clock := node(t, conn, nil)
	text, err := respcache.Selector{By: respcache.ByModel, Value: "another"}.MarshalText()
	must(t, err)
	client, ctx := conn.Client(), t.Context()
	add := func(n int) {
		pipe := client.TxPipeline()
		for range n {
			pipe.XAdd(ctx, &redis.XAddArgs{Stream: c.PurgesName(), MaxLen: 1024, Values: []string{"s", string(text)}})
		}
		_, err := pipe.Exec(ctx)
		must(t, err)
	}
	add(1)
	c.Beat(ctx)
	primary := get("/").key()
	must(t, c.Put(get("/").entry(clock.Now(), time.Hour, "x"), c.Epoch()))
	add(5000)
	waitFor(t, "the node forgets", func() bool { e, _ := c.Memory().Lookup(primary, plain(primary)); return e == nil })

	must(t, c.Put(get("/").entry(clock.Now(), time.Hour, "x"), c.Epoch()))
	must(t, client.XAdd(ctx, &redis.XAddArgs{Stream: c.PurgesName(), MaxLen: 1024, Values: []string{"s", "sideways 1234"}}).Err())
	waitFor(t, "what it does not understand counts as everything", func() bool {
		e, _ := c.Memory().Lookup(primary, plain(primary))
		return e == nil
	})
}
