package caddymodule

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
	"github.com/sofatutor/caddy-llm-proxy/storage/storetest"
)

// cacheNode is a configuration with a cache, without a site.
func cacheNode(t *testing.T, cfg databaseConfig) *runtime {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	r, err := newRuntime(cfg, logger)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.release)
	if err := r.db.start(); err != nil {
		t.Fatal(err)
	}
	if err := r.useCache(cacheConfig{memory: respcache.MinMemory, maxObject: 1 << 16}, logger); err != nil {
		t.Fatal(err)
	}
	return r
}

func cacheKey(path string) respcache.Key {
	id := respcache.Identity{
		Provider: "openai", Method: http.MethodGet, Path: path,
		Scope: respcache.Scope{Kind: respcache.Project, ID: "p"}, Body: respcache.RawBody(nil),
	}
	return id.Key()
}

func variantOf(primary respcache.Key) func([]string) respcache.Key {
	return func(vary []string) respcache.Key { return respcache.VariantKey(primary, vary, nil) }
}

// keep stores an answer.
func keep(t *testing.T, p *cachePool, path string) {
	t.Helper()
	primary, now := cacheKey(path), time.Now()
	err := p.Put(&respcache.Entry{
		Primary: primary, Variant: variantOf(primary)(nil), Body: []byte("{}"), Until: now.Add(time.Hour),
		Tags: respcache.Tags{Provider: "openai", Project: "p", Model: "m", Method: http.MethodGet, Path: path},
		Meta: httpcache.Meta{Status: http.StatusOK, Method: http.MethodGet, ResponseTime: now, Date: now, Lifetime: time.Hour},
	}, p.Epoch())
	if err != nil {
		t.Fatal(err)
	}
}

func kept(t *testing.T, p *cachePool, path string) bool {
	t.Helper()
	primary := cacheKey(path)
	e, _, _ := p.Lookup(t.Context(), primary, variantOf(primary))
	return e != nil
}

// TestPurgeReachesOtherNodes: without a Redis, by PostgreSQL.
func TestPurgeReachesOtherNodes(t *testing.T) {
	cfg := databaseConfig{driver: driverPostgres, dsn: storetest.Postgres(t), keys: [][]byte{bytes.Repeat([]byte{1}, 32)}, maxConns: 4}
	one := cacheNode(t, cfg)
	cfg.maxConns = 5 // or it would be the same database
	two := cacheNode(t, cfg)
	if one.db == two.db || one.cache == two.cache {
		t.Fatal("both nodes are one")
	}
	for _, path := range []string{"/v1/a", "/v1/b"} {
		keep(t, one.cache, path)
		keep(t, two.cache, path)
	}
	n, err := adminCache{one}.Purge(t.Context(), respcache.Selector{By: respcache.ByPrefix, Value: "/v1/a"})
	if n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	waitFor(t, "the other node has purged", func() bool { return !kept(t, two.cache, "/v1/a") })
	if kept(t, one.cache, "/v1/a") || !kept(t, one.cache, "/v1/b") || !kept(t, two.cache, "/v1/b") {
		t.Error("the wrong answers are gone")
	}

	// What a newer version says may mean anything.
	if err := one.db.store.Load().AnnouncePurge(t.Context(), "flavour bQ."); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "everything is gone from the other node", func() bool { return !kept(t, two.cache, "/v1/b") })
	if !kept(t, one.cache, "/v1/b") {
		t.Error("a node heeds its own announcement")
	}

	// Nobody knows what was missed.
	keep(t, two.cache, "/v1/c")
	two.db.purgesMissed()
	waitFor(t, "everything is gone after a gap", func() bool { return !kept(t, two.cache, "/v1/c") })
}

// TestPurgeOfAllCaches: those of configurations that share a database are one cache to
// who purges.
func TestPurgeOfAllCaches(t *testing.T) {
	cfg := databaseConfig{driver: driverSQLite, dsn: t.TempDir() + "/llm-proxy.db"}
	r := cacheNode(t, cfg)
	before := r.cache
	if err := r.useCache(cacheConfig{memory: 2 * respcache.MinMemory, maxObject: 1 << 16}, r.db.logger); err != nil {
		t.Fatal(err)
	}
	if before == r.cache {
		t.Fatal("other settings give the same cache")
	}
	keep(t, before, "/v1/old")
	keep(t, r.cache, "/v1/new")
	if n, err := (adminCache{r}).Purge(t.Context(), respcache.Selector{By: respcache.ByAll}); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if kept(t, before, "/v1/old") || kept(t, r.cache, "/v1/new") {
		t.Error("something is left")
	}
	if s := (adminCache{r}).Stats(); len(s) != 1 || s[0].Purged != 1 {
		t.Errorf("%+v", s)
	}
}

// TestPurgeWithoutCache is one of nothing, as far as this node goes.
func TestPurgeWithoutCache(t *testing.T) {
	r, err := newRuntime(databaseConfig{driver: driverSQLite, dsn: t.TempDir() + "/llm-proxy.db"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c := adminCache{r}
	if n, err := c.Purge(t.Context(), respcache.Selector{By: respcache.ByAll}); n != 0 || err != nil {
		t.Errorf("before the database is open: %d, %v", n, err)
	}
	if err := r.db.start(); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Purge(t.Context(), respcache.Selector{By: respcache.ByAll}); n != 0 || err != nil || c.Stats() != nil {
		t.Errorf("%d, %v, %v", n, err, c.Stats())
	}
	if _, err := c.Purge(t.Context(), respcache.Selector{}); err == nil {
		t.Error("purged nobody knows what")
	}
	r.release()
	if _, err := c.Purge(t.Context(), respcache.Selector{By: respcache.ByAll}); !errors.Is(err, errConfigurationGone) || c.Stats() != nil {
		t.Errorf("%v", err)
	}
}
