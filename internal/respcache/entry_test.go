package respcache_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

func TestUsefulUntil(t *testing.T) {
	t.Parallel()
	tagged := http.Header{"Etag": {`"1"`}}
	for name, tc := range map[string]struct {
		meta       httpcache.Meta
		revalidate time.Duration
		want       time.Duration
	}{
		"fresh":                        {httpcache.Meta{Lifetime: 10}, 0, 10},
		"old when it came":             {httpcache.Meta{Lifetime: 10, InitialAge: 4}, 0, 6},
		"stale if there is an error":   {httpcache.Meta{Lifetime: 10, IfError: 5, WhileRefresh: 3}, 0, 15},
		"stale while it is refreshed":  {httpcache.Meta{Lifetime: 10, IfError: 3, WhileRefresh: 5}, 0, 15},
		"can be revalidated":           {httpcache.Meta{Method: "GET", Header: tagged}, 7, 7},
		"can be revalidated meanwhile": {httpcache.Meta{Method: "GET", Header: tagged, Lifetime: 10}, 7, 10},
		"cannot be revalidated":        {httpcache.Meta{Method: "POST", Header: tagged, Lifetime: 1}, 7, 1},
	} {
		tc.meta.ResponseTime = begin
		if got := respcache.UsefulUntil(&tc.meta, tc.revalidate).Sub(begin); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

// TestRefresh: what a 304 has made of an entry takes its place, with its body, unless
// it was purged while the origin was asked.
func TestRefresh(t *testing.T) {
	t.Parallel()
	conn := connect(t, redisURL(t))
	c, clock := node(t, conn, nil)
	old := get("/").entry(clock.Now(), time.Minute, "body")
	must(t, c.Put(old, c.Epoch()))
	epoch := c.Epoch()
	clock.Advance(50 * time.Second)
	meta := old.Meta
	meta.ResponseTime, meta.Header = clock.Now(), http.Header{"Etag": {`"2"`}}
	renewed := old.Renewed(meta, clock.Now().Add(time.Minute))
	must(t, c.Refresh(renewed, epoch))
	settle(t, c)
	clock.Advance(50 * time.Second) // the old one is of no use any more
	for name, find := range map[string]func() *respcache.Entry{
		"memory": func() *respcache.Entry { e, _, _ := c.Lookup(t.Context(), old.Primary, plain(old.Primary)); return e },
		"redis":  func() *respcache.Entry { e, _ := c.LookupRedis(t.Context(), old.Primary, plain(old.Primary)); return e },
	} {
		if e := find(); e == nil || string(e.Body) != "body" || e.Meta.Header.Get("Etag") != `"2"` || !e.Until.Equal(renewed.Until) {
			t.Errorf("in %s: %+v", name, e)
		}
	}
	if old.Meta.Header.Get("Etag") != `"1"` || !old.Until.Equal(begin.Add(time.Minute)) {
		t.Error("the old entry was changed")
	}
	if n := stats(c, "memory").Entries; n != 1 {
		t.Errorf("%d entries", n)
	}
	if _, err := c.Purge(t.Context(), respcache.Selector{By: respcache.ByAll}); err != nil {
		t.Fatal(err)
	}
	if err := c.Refresh(renewed, epoch); !errors.Is(err, respcache.ErrPurged) {
		t.Errorf("refreshed after a purge: %v", err)
	}
}
