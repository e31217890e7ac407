package limit_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
	"github.com/sofatutor/caddy-llm-proxy/internal/redisconn"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// startCluster starts a Redis Cluster of three masters.
func startCluster(t *testing.T) redisconn.Settings {
	t.Helper()
	settings := redisconn.Settings{Cluster: true}
	var clients []*redis.Client
	for i, slots := range [][2]int{{0, 5460}, {5461, 10922}, {10923, 16383}} {
		s := testdb.StartRedis(t, "--databases", "1", "--cluster-enabled", "yes", "--cluster-node-timeout", "60000")
		u, err := url.Parse(s.URL())
		if err != nil {
			t.Fatal(err)
		}
		u.Path = ""
		settings.URLs = append(settings.URLs, secret.NewValue(u.String()))
		c := redis.NewClient(&redis.Options{Addr: u.Host})
		t.Cleanup(func() { _ = c.Close() })
		clients = append(clients, c)
		ctx := t.Context()
		must(t, c.ClusterAddSlotsRange(ctx, slots[0], slots[1]).Err())
		must(t, c.Do(ctx, "cluster", "set-config-epoch", i+1).Err())
		if i > 0 {
			must(t, clients[0].Do(ctx, "cluster", "meet", u.Hostname(), u.Port(), s.BusPort()).Err())
		}
	}
	for _, c := range clients {
		waitFor(t, "the cluster forms", func() bool {
			info, err := c.ClusterInfo(context.Background()).Result()
			return err == nil && strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3")
		})
	}
	return settings
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestCluster: the limits of a project share a slot, those of everybody another one;
// what one slot takes and another refuses is undone.
func TestCluster(t *testing.T) {
	t.Parallel()
	settings := startCluster(t)
	var nodes []*limit.Redis
	for range 2 {
		r := node(t, connectTo(t, settings), nil, func(*limit.Redis) {})
		waitFor(t, "the cluster is met", shared(r))
		nodes = append(nodes, r)
	}
	all, address := everybody(requests("", 20, time.Hour)), requests("192.0.2.1", 100, time.Hour)
	address.Scope, address.Project = limit.IP, ""
	slot, conn := map[int64]bool{}, connectTo(t, settings)
	admitted := 0
	for i := range 60 {
		id := string(rune('a' + i%5))
		mine, project := requests(id, 10, time.Hour), tokens("", 100, time.Hour, 1)
		mine.Project, project.Project, project.Scope = id, id, limit.Project
		d, ticket := take(t, nodes[i%2], mine, project, all, address, slots(id, 3))
		if d.Admitted {
			admitted++
		}
		ticket.Release()
		n, err := conn.Client().ClusterKeySlot(t.Context(), limit.Name(mine.Key)).Result()
		must(t, err)
		other, err := conn.Client().ClusterKeySlot(t.Context(), limit.Name(project.Key)).Result()
		must(t, err)
		if n != other {
			t.Errorf("slots %d and %d in one call", n, other)
		}
		slot[n] = true
	}
	if admitted != 20 {
		t.Errorf("%d admitted, want 20", admitted)
	}
	if len(slot) != 5 {
		t.Errorf("five projects lie in %d slots", len(slot))
	}
	for i := range 5 {
		id := string(rune('a' + i))
		look := requests(id, 10, time.Hour)
		look.Project, look.Weight = id, 0
		waitFor(t, "what was refused is given back", func() bool {
			d, _ := take(t, nodes[0], look)
			return d.Requests.Remaining == 6 // of ten, after a fifth of twenty
		})
	}
}
