package respcache_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// startCluster starts a Redis Cluster of three masters.
func startCluster(t *testing.T) (urls []string) {
	t.Helper()
	var clients []*redis.Client
	for i, slots := range [][2]int{{0, 5460}, {5461, 10922}, {10923, 16383}} {
		s := testdb.StartRedis(t, "--databases", "1", "--cluster-enabled", "yes", "--cluster-node-timeout", "60000")
		u, err := url.Parse(s.URL())
		must(t, err)
		u.Path = ""
		urls = append(urls, u.String())
		c := redis.NewClient(&redis.Options{Addr: u.Host})
		t.Cleanup(func() { _ = c.Close() })
		clients = append(clients, c)
		ctx := t.Context()
		must(t, c.ClusterAddSlotsRange(ctx, slots[0], slots[1]).Err())
		must(t, c.Do(ctx, "cluster", "set-config-epoch", i+1).Err())
		if i > 0 {
			meet := []any{"cluster", "meet", u.Hostname(), u.Port()}
			bus, err := c.ConfigGet(ctx, "cluster-port").Result()
			must(t, err)
			if port := bus["cluster-port"]; port != "" && port != "0" { // else it is 10000 above the other
				meet = append(meet, port)
			}
			must(t, clients[0].Do(ctx, meet...).Err())
		}
	}
	for _, c := range clients {
		waitFor(t, "the cluster forms", func() bool {
			info, err := c.ClusterInfo(context.Background()).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3")
		})
	}
	return urls
}

// TestCluster: entries lie on all masters, and a purge finds those of each.
func TestCluster(t *testing.T) {
	t.Parallel()
	conn := connect(t, startCluster(t)...)
	a, clock := node(t, conn, nil)
	b, _ := node(t, conn, nil)
	for i := range 60 {
		q := get(fmt.Sprintf("/v%d/%d", i%2, i))
		must(t, a.Put(q.entry(clock.Now(), time.Hour, "x"), a.Epoch()))
	}
	settle(t, a)
	if s := stats(a, "redis"); s.Puts != 60 {
		t.Fatalf("%+v", s)
	}
	for i := range 60 {
		primary := get(fmt.Sprintf("/v%d/%d", i%2, i)).key()
		if e, from, _ := b.Lookup(t.Context(), primary, plain(primary)); e == nil || from != respcache.InRedis {
			t.Fatalf("%d is in %v", i, from)
		}
	}
	fresh, _ := node(t, conn, nil) // has nothing in memory
	if n, err := fresh.Purge(t.Context(), respcache.Selector{By: respcache.ByPrefix, Value: "/v1/"}); n != 30 || err != nil {
		t.Errorf("%d purged, %v", n, err)
	}
	gone, kept := get("/v1/1").key(), get("/v0/0").key()
	waitFor(t, "another node hears of it", func() bool {
		e, _, _ := b.Lookup(t.Context(), gone, plain(gone))
		return e == nil
	})
	if e, _ := fresh.LookupRedis(t.Context(), kept, plain(kept)); e == nil {
		t.Error("more was purged than selected")
	}
	a.Invalidate(kept)
	waitFor(t, "another node hears of it", func() bool {
		e, _, _ := b.Lookup(t.Context(), kept, plain(kept))
		return e == nil
	})
}
