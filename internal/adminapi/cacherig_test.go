package adminapi_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

// cacheRig is the host's side of the cache: the real one, and what goes wrong beside it.
type cacheRig struct {
	*respcache.Tiered
	t   *testing.T
	err error // of the next purge, which is done all the same
}

func newCacheRig(t *testing.T) *cacheRig {
	t.Helper()
	return startCache(t, respcache.Options{Memory: respcache.MinMemory})
}

func startCache(t *testing.T, opts respcache.Options) *cacheRig {
	t.Helper()
	cache, err := respcache.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cache.Close)
	cache.Start()
	return &cacheRig{Tiered: cache, t: t}
}

func (r *cacheRig) Purge(ctx context.Context, sel respcache.Selector) (int, error) {
	n, err := r.Tiered.Purge(ctx, sel)
	if err == nil {
		err, r.err = r.err, nil
	}
	return n, err
}

// keyOf is the key of what tags are about.
func keyOf(tags respcache.Tags) respcache.Key {
	id := respcache.Identity{
		Provider: tags.Provider, Method: tags.Method, Path: tags.Path, Query: tags.Query,
		Scope: respcache.Scope{Kind: respcache.Project, ID: tags.Project}, Body: respcache.RawBody([]byte(tags.Model)),
	}
	return id.Key()
}

func variantOf(primary respcache.Key) func([]string) respcache.Key {
	return func(vary []string) respcache.Key { return respcache.VariantKey(primary, vary, nil) }
}

// fill stores an answer for each.
func (r *cacheRig) fill(all ...respcache.Tags) {
	r.t.Helper()
	for _, tags := range all {
		primary := keyOf(tags)
		now := time.Now()
		err := r.Put(&respcache.Entry{
			Primary: primary, Variant: variantOf(primary)(nil), Tags: tags, Body: []byte("{}"), Until: now.Add(time.Hour),
			Meta: httpcache.Meta{Status: http.StatusOK, Method: tags.Method, ResponseTime: now, Date: now, Lifetime: time.Hour},
		}, r.Epoch())
		if err != nil {
			r.t.Fatal(err)
		}
	}
}

// has reports whether there is an answer.
func (r *cacheRig) has(tags respcache.Tags) bool {
	primary := keyOf(tags)
	e, _, _ := r.Lookup(r.t.Context(), primary, variantOf(primary))
	return e != nil
}
