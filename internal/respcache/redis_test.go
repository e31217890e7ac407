package respcache_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

func redisURL(t testing.TB) string { return testdb.Redis(t) }

const marker = "MARKER-of-a-prompt"

// everything is all that a Redis holds, names and values.
func everything(t *testing.T, c redis.UniversalClient) (all []byte, names []string) {
	t.Helper()
	ctx := t.Context()
	names, err := c.Keys(ctx, "*").Result()
	must(t, err)
	for _, name := range names {
		all = append(append(all, name...), '\n')
		dump, err := c.Dump(ctx, name).Result()
		must(t, err)
		all = append(all, dump...)
		kind, err := c.Type(ctx, name).Result()
		must(t, err)
		if kind == "hash" {
			fields, err := c.HGetAll(ctx, name).Result()
			must(t, err)
			for field, value := range fields {
				all = append(append(all, field...), value...)
			}
		}
	}
	return all, names
}

// TestSealedAtRest: nothing of what was asked or answered can be read in Redis, nor
// for whom.
func TestSealedAtRest(t *testing.T) {
	t.Parallel()
	conn := connect(t, redisURL(t))
	c, clock := node(t, conn, nil)
	for i, size := range []int{1, 100} { // stored as it is, and compressed
		q := request{project: marker + "-project", model: marker + "-model", method: "POST", path: "/" + marker, query: fmt.Sprint(marker, i)}
		e := q.entry(clock.Now(), time.Hour, strings.Repeat(marker, size))
		e.Meta.Header = http.Header{"X-Note": {marker}}
		e.Usage.Model = marker
		must(t, c.Put(e, c.Epoch()))
	}
	settle(t, c)
	all, names := everything(t, conn.Client())
	if len(names) != 2 {
		t.Fatalf("names %q", names)
	}
	primary := request{project: marker + "-project", model: marker + "-model", method: "POST", path: "/" + marker, query: marker + "0"}.key()
	for _, secret := range []string{marker, "MARKER", primary.String(), string(primary[:])} {
		if bytes.Contains(bytes.ToLower(all), bytes.ToLower([]byte(secret))) {
			t.Errorf("Redis shows %q", secret)
		}
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "llm_proxy:cache:") {
			t.Errorf("name %s", name)
		}
		ttl, err := conn.Client().PTTL(t.Context(), name).Result()
		if err != nil || ttl <= 0 || ttl > time.Hour {
			t.Errorf("%s lives for %v, %v", name, ttl, err)
		}
	}
	if e, _ := c.LookupRedis(t.Context(), primary, plain(primary)); e == nil || string(e.Body) != marker || e.Meta.Header.Get("X-Note") != marker {
		t.Errorf("found %+v", e)
	}
}

// TestTampered: what was altered, or copied to another key or variant, or sealed by
// somebody else is not found and is counted.
func TestTampered(t *testing.T) {
	t.Parallel()
	conn := connect(t, redisURL(t))
	c, clock := node(t, conn, nil)
	a, b := get("/a"), get("/b")
	victim := get("/a")
	victim.project = "p2"
	var names, fields, values [3]string
	client, ctx := conn.Client(), t.Context()
	for i, q := range []request{a, b, victim} {
		e := q.entry(clock.Now(), time.Hour, "answer to "+q.project+q.path)
		must(t, c.Put(e, c.Epoch()))
		settle(t, c)
		names[i], fields[i] = c.HashName(e.Primary), c.FieldName(e.Variant)
		value, err := client.HGet(ctx, names[i], fields[i]).Result()
		must(t, err)
		values[i] = value
	}
	found := func(q request) bool {
		e, _ := c.LookupRedis(ctx, q.key(), plain(q.key()))
		return e != nil
	}
	damage := func(what string, change func() error) {
		t.Helper()
		before := stats(c, "redis").Damaged
		must(t, change())
		if found(a) {
			t.Errorf("%s: found", what)
		}
		if stats(c, "redis").Damaged != before+1 {
			t.Errorf("%s: not counted", what)
		}
		must(t, client.Del(ctx, names[0]).Err())
		must(t, c.Put(a.entry(clock.Now(), time.Hour, "answer"), c.Epoch()))
		settle(t, c)
		if !found(a) {
			t.Errorf("%s: not found when put again", what)
		}
	}
	set := func(value string) func() error {
		return func() error { return client.HSet(ctx, names[0], fields[0], value).Err() }
	}
	damage("another key's", set(values[1]))
	damage("another project's", set(values[2]))
	damage("truncated", set(values[0][:len(values[0])-1]))
	damage("altered", set(values[0][:30]+string(values[0][30]^1)+values[0][31:]))
	damage("not sealed", set("plain text"))
	damage("another version", set("\x09"+values[0][1:]))
	damage("another type", func() error {
		if err := client.Del(ctx, names[0]).Err(); err != nil {
			return err
		}
		return client.Set(ctx, names[0], "x", 0).Err()
	})
	for what, index := range map[string]string{"no index": "", "garbage for an index": "\xff \n 1 2 3 4"} {
		must(t, client.HSet(ctx, names[1], "i", index).Err())
		if found(b) {
			t.Errorf("%s: found", what)
		}
	}
	stranger, _ := node(t, conn, func(o *respcache.Options) { o.Redis.Sealer = keyring(t, 2) })
	if e, _ := stranger.LookupRedis(ctx, a.key(), plain(a.key())); e != nil || stats(stranger, "redis").Damaged != 1 {
		t.Error("another installation's key opens it")
	}
	other, _ := node(t, conn, func(o *respcache.Options) { o.Redis.Namespace = []byte("theirs") })
	if n, err := other.Purge(ctx, respcache.Selector{By: respcache.ByAll}); n != 0 || err != nil || !found(a) {
		t.Errorf("another installation's purge: %d, %v", n, err)
	}
	if !c.Up() {
		t.Error("damage counts as Redis being away")
	}
}

// TestTwoNodes: what one stores the other finds, once in Redis and then in memory,
// whatever it varies on; what one purges the other forgets, and what was on its way
// does not come back.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	conn := connect(t, redisURL(t))
	a, clock := node(t, conn, nil)
	b, _ := node(t, conn, nil)
	ctx := t.Context()
	q := get("/v1/models")
	q.vary, q.header = []string{"Accept", "X-New"}, http.Header{"Accept": {"json"}, "X-New": {"1"}}
	primary := q.key()
	tier := func(c *respcache.Tiered) respcache.Tier {
		_, from, _ := c.Lookup(ctx, primary, with(primary, q.header))
		return from
	}
	put := func() {
		t.Helper()
		must(t, a.Put(q.entry(clock.Now(), time.Hour, "body"), a.Epoch()))
		settle(t, a)
	}
	put()
	if from := tier(b); from != respcache.InRedis {
		t.Errorf("first found in %v", from)
	}
	if from := tier(b); from != respcache.InMemory {
		t.Errorf("then found in %v", from)
	}
	if _, from, varied := b.Lookup(ctx, primary, with(primary, http.Header{"Accept": {"text"}})); from != respcache.Nowhere || !varied {
		t.Errorf("another variant: %v, %t", from, varied)
	}
	for _, sel := range []respcache.Selector{
		{By: respcache.ByProject, Value: "p1"}, {By: respcache.ByKey, Value: primary.String()}, {By: respcache.ByPattern, Value: "/v1/*"}, {By: respcache.ByAll},
	} {
		put()
		tier(b)
		late := b.Epoch()
		if n, err := a.Purge(ctx, sel); n != 1 || err != nil {
			t.Errorf("%v: %d purged, %v", sel.By, n, err)
		}
		if tier(a) != respcache.Nowhere {
			t.Errorf("%v: still on the node that purged", sel.By)
		}
		// b may not have heard of it yet, and writes what it had asked for before.
		_ = b.Put(q.entry(clock.Now(), time.Hour, "late"), late)
		waitFor(t, "the other node hears of the purge", func() bool { return tier(b) == respcache.Nowhere })
		settle(t, b)
		if e, _ := a.LookupRedis(ctx, primary, with(primary, q.header)); e != nil {
			t.Errorf("%v: came back", sel.By)
		}
		if tier(b) != respcache.Nowhere {
			t.Errorf("%v: came back on the other node", sel.By)
		}
	}
	put()
	tier(b)
	a.Invalidate(primary)
	if tier(a) != respcache.Nowhere {
		t.Error("still there after it was invalidated")
	}
	waitFor(t, "the other node hears of it", func() bool { return tier(b) == respcache.Nowhere })
}

// TestPurgeReachesWhatNobodyHasInMemory, and counts what is in both once.
func TestPurgeReachesWhatNobodyHasInMemory(t *testing.T) {
	t.Parallel()
	conn := connect(t, redisURL(t))
	old, clock := node(t, conn, nil)
	const many = 1500 // several steps of a scan
	for i := range many {
		q := get(fmt.Sprint("/", i))
		q.project = fmt.Sprint("p", i%3)
		must(t, old.Put(q.entry(clock.Now(), time.Hour, "x"), old.Epoch()))
		if i%500 == 499 {
			settle(t, old)
		}
	}
	if s := stats(old, "redis"); s.Puts != many {
		t.Fatalf("%+v", s)
	}
	fresh, _ := node(t, conn, nil)
	for i := range 300 { // 100 of each project
		must(t, fresh.Put(func() *respcache.Entry {
			q := get(fmt.Sprint("/fresh/", i))
			q.project = fmt.Sprint("p", i%3)
			return q.entry(clock.Now(), time.Hour, "x")
		}(), fresh.Epoch()))
	}
	for i := range 30 { // 10 of each project, from Redis
		q := get(fmt.Sprint("/", i))
		q.project = fmt.Sprint("p", i%3)
		if e, from, _ := fresh.Lookup(t.Context(), q.key(), plain(q.key())); e == nil || from != respcache.InRedis {
			t.Fatalf("%d is in %v", i, from)
		}
	}
	settle(t, fresh)
	if n, err := fresh.Purge(t.Context(), respcache.Selector{By: respcache.ByProject, Value: "p1"}); n != 600 || err != nil {
		t.Errorf("%d purged, want 600: %v", n, err)
	}
	if n, err := fresh.Purge(t.Context(), respcache.Selector{By: respcache.ByAll}); n != 1200 || err != nil {
		t.Errorf("%d purged, want 1200: %v", n, err)
	}
	if names, err := conn.Client().Keys(t.Context(), "*{*").Result(); len(names) != 0 || err != nil {
		t.Errorf("%d names are left, %v", len(names), err)
	}
}

// TestTooLarge: what would take too long to fetch is kept in memory alone.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	conn := connect(t, redisURL(t))
	c, clock := node(t, conn, func(o *respcache.Options) { o.Redis.MaxValue = 1000 })
	e := get("/").entry(clock.Now(), time.Hour, strings.Repeat("x", 500))
	e.Meta.Header = http.Header{"Random": {respcache.Key{1}.String() + noise(4000)}}
	must(t, c.Put(e, c.Epoch()))
	settle(t, c)
	if s := stats(c, "redis"); s.TooLarge != 1 || s.Puts != 0 {
		t.Errorf("%+v", s)
	}
	if _, from, _ := c.Lookup(t.Context(), e.Primary, plain(e.Primary)); from != respcache.InMemory {
		t.Errorf("found in %v", from)
	}
}

// noise is text that does not compress to less than half.
func noise(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		id := respcache.Identity{Path: fmt.Sprint(i)}
		b.WriteString(id.Key().String())
	}
	return b.String()
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, o := range []respcache.Options{
		{}, {Memory: 1}, {Memory: 1 << 20, Redis: &respcache.RedisOptions{}}, {Memory: 1 << 20, Redis: &respcache.RedisOptions{Sealer: keyring(t, 1)}},
		{Memory: 1 << 20, Redis: &respcache.RedisOptions{Conn: connect(t, redisURL(t)), Sealer: keyring(t, 1), Timeout: -1}},
	} {
		if c, err := respcache.New(o); err == nil {
			c.Close()
			t.Errorf("%+v is taken", o)
		}
	}
	c, err := respcache.New(respcache.Options{Memory: 1 << 20})
	must(t, err)
	c.Start()
	defer c.Close()
	if s := c.Stats(); len(s) != 1 || s[0].Name != "memory" {
		t.Errorf("%+v", s)
	}
	must(t, c.Put(get("/").entry(time.Now(), time.Hour, "x"), c.Epoch()))
	if n, err := c.Purge(t.Context(), respcache.Selector{By: respcache.ByAll}); n != 1 || err != nil {
		t.Errorf("%d purged, %v", n, err)
	}
}
