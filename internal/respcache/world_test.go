package respcache_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/redisconn"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

var begin = time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)

func waitFor(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("did not happen: %s", what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// plain is the variant of a request without a header.
func plain(primary respcache.Key) func([]string) respcache.Key {
	return with(primary, nil)
}

func with(primary respcache.Key, header http.Header) func([]string) respcache.Key {
	return func(vary []string) respcache.Key { return respcache.VariantKey(primary, vary, header) }
}

// request is what entries are made for.
type request struct {
	project, model, method, path, query string
	header                              http.Header
	vary                                []string
}

func (q request) identity() *respcache.Identity {
	return &respcache.Identity{
		Provider: "openai", Method: q.method, Path: q.path, Query: q.query, Scope: respcache.Scope{Kind: respcache.Project, ID: q.project},
		Body: respcache.RawBody([]byte(q.model)),
	}
}

func (q request) key() respcache.Key { return q.identity().Key() }

// entry is one that is of use for a time from now on.
func (q request) entry(now time.Time, life time.Duration, body string) *respcache.Entry {
	primary := q.key()
	return &respcache.Entry{
		Primary: primary, Variant: respcache.VariantKey(primary, q.vary, q.header),
		Tags: respcache.Tags{Provider: "openai", Project: q.project, Model: q.model, Method: q.method, Path: q.path, Query: q.query},
		Meta: httpcache.Meta{
			Status: http.StatusOK, Method: q.method, Vary: q.vary, ResponseTime: now, Date: now, Lifetime: life,
			Header: http.Header{"Content-Type": {"application/json"}, "Etag": {`"1"`}},
		},
		Body: []byte(body), Until: now.Add(life),
	}
}

func get(path string) request {
	return request{project: "p1", model: "m1", method: http.MethodGet, path: path}
}

func memory(t testing.TB, size int64) (*respcache.Memory, *respcache.Clock) {
	t.Helper()
	clock := respcache.NewClock(begin)
	m, err := respcache.NewMemoryAt(size, clock)
	must(t, err)
	t.Cleanup(m.Close)
	return m, clock
}

func keyring(t testing.TB, n byte) *secret.Keyring {
	t.Helper()
	key := make([]byte, secret.KeySize)
	key[0] = n
	k, err := secret.NewKeyring(key)
	must(t, err)
	return k
}

func connect(t testing.TB, urls ...string) *redisconn.Conn {
	t.Helper()
	settings := redisconn.Settings{Cluster: len(urls) > 1}
	for _, u := range urls {
		settings.URLs = append(settings.URLs, secret.NewValue(u))
	}
	conn, err := redisconn.New(settings, nil)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	conn.Start()
	return conn
}

// node is one process's cache on a Redis. Its timeout is for a busy machine, unless
// the test is about that.
func node(t testing.TB, conn respcache.Conn, change func(*respcache.Options)) (*respcache.Tiered, *respcache.Clock) {
	t.Helper()
	clock := respcache.NewClock(begin)
	opts := respcache.Options{
		Memory: 64 << 20, Logger: slog.New(slog.DiscardHandler),
		Redis: &respcache.RedisOptions{Conn: conn, Sealer: keyring(t, 1), Namespace: []byte("ours"), Timeout: 10 * time.Second},
	}
	if change != nil {
		change(&opts)
	}
	c, err := respcache.NewAt(opts, clock)
	must(t, err)
	t.Cleanup(c.Close)
	c.Start()
	waitFor(t, "Redis is met", func() bool {
		if !c.Up() {
			c.Beat(context.Background())
		}
		return c.Up()
	})
	return c, clock
}

func settle(t testing.TB, c *respcache.Tiered) {
	t.Helper()
	waitFor(t, "what was queued is written", c.Settled)
}

func stats(c *respcache.Tiered, name string) respcache.BackendStats {
	for _, s := range c.Stats() {
		if s.Name == name {
			return s
		}
	}
	panic(fmt.Sprintf("no stats of %s", name))
}
