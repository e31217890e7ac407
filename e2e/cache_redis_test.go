package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// cacheNodes are processes that share a database, and a Redis if there is one, before
// one origin.
type cacheNodes struct {
	o      *origin
	server *testdb.RedisServer
	redis  *redis.Client
	nodes  []*proxy
}

func newCacheNodes(t *testing.T, n int, options ...string) *cacheNodes {
	t.Helper()
	c := &cacheNodes{o: newOrigin(t, nil), server: testdb.StartRedis(t)}
	c.redis = redisClient(t, c.server.URL())
	s := c.o.site(options...)
	s.app = "redis {env.REDIS_URL}"
	c.run(t, n, s, "REDIS_URL="+c.server.URL())
	for _, p := range c.nodes {
		p.redisIs(t, "ok")
	}
	return c
}

// run starts processes that share a database.
func (c *cacheNodes) run(t *testing.T, n int, s site, env ...string) {
	t.Helper()
	s.postgres = true
	env = append(env, "DATABASE_URL="+testdb.Postgres(t), "LLM_PROXY_KEY="+secret.NewKey())
	for range n {
		p := prepare(t)
		p.env = env
		p.write(s)
		p.run()
		c.nodes = append(c.nodes, p)
	}
	for _, p := range c.nodes {
		p.await()
	}
}

// names are those of the answers in Redis.
func (c *cacheNodes) names(t *testing.T) (names []string) {
	t.Helper()
	all := c.redis.Scan(t.Context(), 0, "llm_proxy:cache:*{*", 1000).Iterator()
	for all.Next(t.Context()) {
		names = append(names, all.Val())
	}
	if err := all.Err(); err != nil {
		t.Error(err)
	}
	return names
}

// stored waits until there are n answers in Redis and returns their names.
func (c *cacheNodes) stored(t *testing.T, n int) (names []string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d answers are in Redis", n), func() bool {
		names = c.names(t)
		return len(names) == n
	})
	return names
}

// TestCacheSurvives: answers in Redis outlive a process, and are sealed there.
func TestCacheSurvives(t *testing.T) {
	t.Parallel()
	const answers, marker = 20, "CANARY-in-the-answer"
	c := newCacheNodes(t, 1, "mode always")
	c.o.becomes(func(w http.ResponseWriter, _ *http.Request, told telling) {
		told.Owner = strings.Repeat(marker, 1+99*(told.Number%2)) // large ones are compressed
		told.write(w)
	})
	p := c.nodes[0]
	a := p.account(t)
	ask := func(i int, control string) answer {
		return p.do(t, with(request{path: "/v1/chat/completions?of=CANARY-in-the-query", token: a.token, body: fmt.Sprintf(`{"model":"CANARY-model","n":%d}`, i)}, "Cache-Control: "+control))
	}
	bodies := make([][]string, answers)
	for i := range answers {
		eventually(t, fmt.Sprintf("answer %d is in Redis", i), func() bool { // which a busy machine may be too slow for
			got := ask(i, "no-cache")
			if !strings.Contains(got.body, marker) {
				t.Fatalf("%d %s", got.status, got.body)
			}
			bodies[i] = append(bodies[i], got.body)
			return within(time.Second, func() bool { return len(c.names(t)) == i+1 })
		})
	}
	for _, name := range c.names(t) {
		dump := name
		for field, value := range c.redis.HGetAll(t.Context(), name).Val() {
			dump += field + value
		}
		if len(dump) < 200 || strings.Contains(dump, "CANARY") || strings.Contains(dump, a.projectID) || strings.Contains(dump, "/v1/chat") {
			t.Errorf("%s holds %q", name, dump)
		}
	}
	everything := c.redis.Scan(t.Context(), 0, "*", 1000).Iterator()
	for everything.Next(t.Context()) {
		if dump := everything.Val() + c.redis.Dump(t.Context(), everything.Val()).Val(); strings.Contains(dump, "CANARY") {
			t.Errorf("Redis holds %q", dump)
		}
	}
	if err := everything.Err(); err != nil {
		t.Error(err)
	}
	p.kill()
	p.again()
	before := c.o.count()
	for i := range answers {
		eventually(t, fmt.Sprintf("answer %d is found", i), func() bool {
			got := ask(i, "only-if-cached")
			if isHit(got) && !slices.Contains(bodies[i], got.body) {
				t.Errorf("answer %d: %v %.100s", i, got.header, got.body)
			}
			return isHit(got)
		})
	}
	if n := c.o.count() - before; n != 0 {
		t.Errorf("the origin was asked %d times", n)
	}
}

// TestCacheNodes: what one node has fetched, others have; without Redis each has its
// own, and nobody gets an error.
func TestCacheNodes(t *testing.T) {
	t.Parallel()
	c := newCacheNodes(t, 2, "mode always")
	one, two := c.nodes[0], c.nodes[1]
	a := one.account(t)
	ask := func(p *proxy, what string, lines ...string) answer {
		return p.do(t, with(request{path: "/v1/chat/completions", token: a.token, body: fmt.Sprintf(`{"what":%q}`, what)}, lines...))
	}
	shared := func(what string) {
		t.Helper()
		eventually(t, what+", one has what the other has fetched", func() bool {
			name := fmt.Sprint(what, c.o.count())
			first := ask(one, name)
			return within(time.Second, func() bool { // or the machine was too slow for Redis
				got := ask(two, name, "Cache-Control: only-if-cached")
				return isHit(got) && got.body == first.body
			})
		})
	}
	shared("before")

	var stop atomic.Bool
	var all sync.WaitGroup
	var answered, hits atomic.Int64
	for i := range 8 {
		all.Go(func() {
			for n := 0; !stop.Load(); n++ {
				got := ask(c.nodes[(i+n)%2], fmt.Sprintf("%d of %d", n/10, i))
				if toldIn(t, got); t.Failed() {
					return
				}
				answered.Add(1)
				if isHit(got) {
					hits.Add(1)
				}
			}
		})
	}
	more := func() {
		t.Helper()
		before := answered.Load()
		eventually(t, "traffic goes on", func() bool { return answered.Load() > before+50 || t.Failed() })
	}
	more()
	c.server.Kill()
	more()
	one.redisIs(t, "degraded")
	two.redisIs(t, "degraded")
	more()
	c.server.Start()
	one.redisIs(t, "ok")
	two.redisIs(t, "ok")
	more()
	stop.Store(true)
	all.Wait()
	t.Logf("%d answers, %d of them hits", answered.Load(), hits.Load())
	if hits.Load() == 0 {
		t.Error("no hits")
	}
	if err := c.redis.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	shared("after")
}
