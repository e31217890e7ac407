package eventredis_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// TestOutages kills or freezes Redis while events are appended: none is lost or
// refused, and Redis is used again afterwards.
func TestOutages(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(s *testdb.RedisServer) (begin, end func()){
		"killed": func(s *testdb.RedisServer) (func(), func()) { return s.Kill, s.Start },
		"frozen": func(s *testdb.RedisServer) (func(), func()) { return s.Pause, s.Resume },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testdb.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always")
			begin, end := fault(server)
			db := openSQLite(t)
			n := start(t, server.URL(), db)
			var (
				m    made
				work sync.WaitGroup
			)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			work.Go(func() {
				for ctx.Err() == nil {
					m.appends(t, n, 5)
				}
			})
			const rounds = 2
			for range rounds {
				taken := n.Stats().Appended
				waitFor(t, "Redis takes events", func() bool { return n.Stats().Appended > taken })
				bypassed := n.Stats().Bypassed
				begin()
				waitFor(t, "the database takes events", func() bool { return n.Stats().Bypassed > bypassed+20 })
				end()
			}
			waitFor(t, "Redis is used again", n.used)
			stop()
			work.Wait()
			m.settled(t, db)
			if s := n.Stats(); s.Lost != 0 {
				t.Errorf("%+v", s)
			}
			if lines := strings.Count(n.log.String(), "as Redis does not take them"); lines > 3*rounds {
				t.Errorf("%d lines in the log: %s", lines, n.log)
			}
		})
	}
}

// TestEmptied takes the stream away in every way there is. What was in Redis alone
// is lost, and counted; what comes later is not.
func TestEmptied(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(ctx context.Context, s *testdb.RedisServer, r redis.UniversalClient) error
		lost bool
	}{
		"restarted without a file": {func(_ context.Context, s *testdb.RedisServer, _ redis.UniversalClient) error {
			s.Kill()
			s.Start()
			return nil
		}, true},
		"flushed": {func(ctx context.Context, _ *testdb.RedisServer, r redis.UniversalClient) error {
			return r.FlushAll(ctx).Err()
		}, true},
		"deleted": {func(ctx context.Context, _ *testdb.RedisServer, r redis.UniversalClient) error {
			return r.Del(ctx, testKey).Err()
		}, true},
		"made anew by another node": {func(ctx context.Context, _ *testdb.RedisServer, r redis.UniversalClient) error {
			pipe := r.TxPipeline()
			pipe.Del(ctx, testKey)
			pipe.XGroupCreateMkStream(ctx, testKey, "llm-proxy-another", "$")
			_, err := pipe.Exec(ctx)
			return err
		}, true},
		"without its mark": {func(ctx context.Context, _ *testdb.RedisServer, r redis.UniversalClient) error {
			groups, err := r.XInfoGroups(ctx, testKey).Result()
			if err != nil {
				return err
			}
			return r.XGroupDestroy(ctx, testKey, groups[0].Name).Err()
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testdb.StartRedis(t)
			db := openSQLite(t)
			g := &gated{Database: db}
			g.shut.Store(true)
			n := start(t, server.URL(), g)
			waitFor(t, "Redis is used", n.used)
			var gone, m made
			early := int64(0)
			gone.appends(t, n, 12)
			gone.appends(t, n, 5)
			waitFor(t, "they are seen", func() bool { return n.Stats().Pending == 2 })
			if err := c.do(t.Context(), server, n.conn.Client()); err != nil {
				t.Fatal(err)
			}
			if c.lost {
				soon := m.some(1) // before anybody has noticed
				if n.AppendEvents(t.Context(), soon) == nil {
					early = 1 // it is counted with the others, but not lost
				} else {
					m.ids = nil
				}
				waitFor(t, "the loss is known", func() bool { return n.Stats().Lost > 0 })
			} else {
				m.ids = gone.ids
				waitFor(t, "it is seen", func() bool {
					return len(n.conn.Client().XInfoGroups(t.Context(), testKey).Val()) > 0
				})
			}
			g.shut.Store(false)
			m.appends(t, n, 3)
			waitFor(t, "Redis is used again", n.used)
			m.appends(t, n, 3)
			m.settled(t, db)
			if s := n.Stats(); c.lost && s.Lost != 17+early || !c.lost && s.Lost != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestForeignKey: a key that is no stream is an error that says so, and the
// database has the events until somebody removes it.
func TestForeignKey(t *testing.T) {
	t.Parallel()
	url := testdb.Redis(t)
	db := openSQLite(t)
	n := start(t, url, db)
	waitFor(t, "Redis is used", n.used)
	var m made
	m.appends(t, n, 3)
	m.settled(t, db)
	waitFor(t, "the stream is empty", func() bool { return n.conn.Client().XLen(t.Context(), testKey).Val() == 0 })
	if err := n.conn.Client().Set(t.Context(), testKey, "mine", 0).Err(); err != nil {
		t.Fatal(err)
	}
	m.appends(t, n, 3)
	waitFor(t, "it is noticed", func() bool {
		err := n.Stats().Err
		return err != nil && strings.Contains(err.Error(), testKey+" in Redis is not a stream")
	})
	m.appends(t, n, 3)
	m.settled(t, db)
	if err := n.conn.Client().Del(t.Context(), testKey).Err(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "Redis is used again", n.used)
	m.appends(t, n, 3)
	m.settled(t, db)
}

// TestShortOfMemory: what a Redis without room refuses, the database takes.
func TestShortOfMemory(t *testing.T) {
	t.Parallel()
	server := testdb.StartRedis(t, "--maxmemory", "64mb", "--maxmemory-policy", "noeviction")
	db := openSQLite(t)
	n := start(t, server.URL(), db)
	waitFor(t, "Redis is used", n.used)
	if err := n.conn.Client().ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	var m made
	m.appends(t, n, 100)
	if s := n.Stats(); s.Bypassed != 100 {
		t.Errorf("%+v, logged %s", s, n.log)
	}
	if err := n.conn.Client().ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "Redis takes events again", func() bool {
		m.appends(t, n, 1)
		return n.Stats().Appended > 0
	})
	m.settled(t, db)
}
