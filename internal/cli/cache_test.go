package cli

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

// cacheOf is the real cache, and places beside it that exist for their numbers.
type cacheOf struct {
	*respcache.Tiered
	beside []respcache.BackendStats
	err    error // of purges, which are done all the same
}

func newCache(t *testing.T) *cacheOf {
	t.Helper()
	cache := must(respcache.New(respcache.Options{Memory: respcache.MinMemory}))
	t.Cleanup(cache.Close)
	return &cacheOf{Tiered: cache}
}

func (c *cacheOf) Purge(ctx context.Context, sel respcache.Selector) (int, error) {
	n, err := c.Tiered.Purge(ctx, sel)
	return n, errors.Join(err, c.err)
}

func (c *cacheOf) Stats() []respcache.BackendStats { return append(c.Tiered.Stats(), c.beside...) }

// fill stores an answer.
func (c *cacheOf) fill(t *testing.T, tags respcache.Tags) respcache.Key {
	t.Helper()
	id := respcache.Identity{
		Provider: "openai", Method: tags.Method, Path: tags.Path, Query: tags.Query,
		Scope: respcache.Scope{Kind: respcache.Project, ID: tags.Project}, Body: respcache.RawBody([]byte(tags.Model)),
	}
	primary, now := id.Key(), time.Now()
	err := c.Put(&respcache.Entry{
		Primary: primary, Variant: respcache.VariantKey(primary, nil, nil), Tags: tags, Body: []byte("{}"), Until: now.Add(time.Hour),
		Meta: httpcache.Meta{Status: 200, Method: tags.Method, ResponseTime: now, Date: now, Lifetime: time.Hour},
	}, c.Epoch())
	if err != nil {
		t.Fatal(err)
	}
	return primary
}

func TestPurgeCache(t *testing.T) {
	t.Parallel()
	cache := newCache(t)
	i := newInstallation(t, func(cfg *adminapi.Config) { cfg.Cache = cache })
	ctx := t.Context()
	i.do(func(m *Manager) error { return m.CreateProject(ctx, "Search", Fields{}) })
	project := firstID(t, i.json(func(m *Manager) error { return m.GetProject(ctx, "Search") }))
	tags := respcache.Tags{Provider: "openai", Project: project, Model: "gpt-4o", Method: "GET", Path: "/v1/models", Query: "limit=2"}
	for _, p := range []Purge{
		{Path: "/v1/models?limit=2"}, {Path: "https://llm.example.com/v1/models?limit=2", Method: "GET"}, {Prefix: "/v1/"}, {Pattern: "*/models"},
		{Project: "Search"}, {Project: project}, {Model: "gpt-4o"}, {All: true}, {Key: cache.fill(t, tags).String()},
	} {
		cache.fill(t, tags)
		i.err.take()
		if text := i.do(func(m *Manager) error { return m.PurgeCache(ctx, p) }); text != "" || i.err.take() != "1 answers purged\n" {
			t.Errorf("%+v: %q on standard output", p, text)
		}
	}
	cache.fill(t, tags)
	if text := i.json(func(m *Manager) error { return m.PurgeCache(ctx, Purge{Path: "/v1/models?limit=2", Method: "POST"}) }); text != `{"deleted":0}`+"\n" {
		t.Errorf("%q", text)
	}
	for _, p := range []Purge{{}, {Method: "GET"}, {Model: "gpt-4o", All: true}, {Prefix: "/v1/", Method: "GET"}} {
		if err := i.m.PurgeCache(ctx, p); err == nil || !IsUsage(err) {
			t.Errorf("%+v: %v", p, err)
		}
	}
	expectError(t, i.m.PurgeCache(ctx, Purge{Project: "Nobody"}), false, "no project is called")
	expectError(t, i.m.PurgeCache(ctx, Purge{Prefix: "v1"}), false, "slash", "invalid_request")

	// Not complete: what was done is told, and the command fails.
	cache.err = respcache.ErrPending
	i.err.take()
	expectError(t, i.m.PurgeCache(ctx, Purge{All: true}), false, "not complete", "Redis is away")
	expectText(t, i.err.take(), "1 answers purged")
	i.m.Out.JSON = true
	expectError(t, i.m.PurgeCache(ctx, Purge{All: true}), false, "not complete")
	expectText(t, i.out.take(), `"deleted":0`, `"warning"`)
	cache.err = errors.New("nobody answers")
	expectError(t, i.m.PurgeCache(ctx, Purge{All: true}), false, "purge_incomplete", "repeat it")
}

func TestCacheStats(t *testing.T) {
	t.Parallel()
	cache := newCache(t)
	i := newInstallation(t, func(cfg *adminapi.Config) { cfg.Cache = cache })
	ctx := t.Context()
	cache.fill(t, respcache.Tags{Method: "GET", Path: "/v1/models"})
	cache.beside = []respcache.BackendStats{{
		Name: "redis", Entries: respcache.Unknown, Bytes: respcache.Unknown, MaxBytes: respcache.Unknown, Hits: 2, Misses: 1, Puts: 4,
		Evictions: respcache.Unknown, Expired: respcache.Unknown, Purged: 5, Dropped: 6, Errors: 7,
	}}
	text := i.do(func(m *Manager) error { return m.CacheStats(ctx) })
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || strings.Join(strings.Fields(lines[0]), " ") != "CACHE UP ENTRIES SIZE OF HITS MISSES RATIO STORED EVICTED EXPIRED PURGED DROPPED ERRORS" {
		t.Fatalf("%s", text)
	}
	for n, want := range []string{`^memory yes 1 [0-9.]+ K?i?B 1 MiB 0 0 - 1 0 0 0 0 0$`, `^redis no - - - 2 1 66\.7 % 4 - - 5 6 7$`} {
		if got := strings.Join(strings.Fields(lines[n+1]), " "); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s, want %s", got, want)
		}
	}
	expectText(t, i.json(func(m *Manager) error { return m.CacheStats(ctx) }), `"name":"redis"`, `"entries":null`, `"damaged":0`)

	none := newInstallation(t)
	if text := none.do(func(m *Manager) error { return m.CacheStats(ctx) }); text != "" {
		t.Errorf("%q", text)
	}
	expectText(t, none.err.take(), "no handler has a cache")
}

func TestSize(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 256 << 20: "256 MiB", 5 << 30: "5 GiB", 3 << 50: "3072 TiB"} {
		if got := size(&n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
	if size(nil) != "" {
		t.Error("nil is something")
	}
}
