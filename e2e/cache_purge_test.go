package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

// purge forgets what is selected, by way of one node, and returns how much that was.
func (p *proxy) purge(t *testing.T, selector object) int {
	t.Helper()
	return int(p.manage(t, http.MethodPost, "cache/purge", selector)["deleted"].(float64))
}

// cache runs the command `cache` against a node.
func (p *proxy) cache(t *testing.T, into any, args ...string) {
	t.Helper()
	cmd := p.command(append([]string{"llm-proxy", "--url", p.url, "--json", "cache"}, args...)...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, into)
	}
	if err != nil {
		t.Fatalf("cache %q: %v\n%s%s", args, err, out, errs.String())
	}
}

// purgeByCommand is purge by `cache purge`.
func (p *proxy) purgeByCommand(t *testing.T, selector object) int {
	t.Helper()
	args := []string{"purge"}
	for member, value := range selector {
		if flag, other := map[string]string{"url": "path", "project_id": "project"}[member]; other {
			member = flag
		}
		args = append(args, fmt.Sprintf("--%s=%v", member, value))
	}
	var r struct{ Deleted int }
	p.cache(t, &r, args...)
	return r.Deleted
}

// cacheKey is the key under which an answer was looked for, as the access log has it.
func (p *proxy) cacheKey(t *testing.T, got answer) (key string) {
	t.Helper()
	id := got.header.Get("X-LLM-Proxy-Request-Id")
	eventually(t, "the access log has the request", func() bool {
		text, err := os.ReadFile(filepath.Join(p.dir, "access.log"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var entry struct {
				Request struct {
					ID  string `json:"request_id"`
					Key string `json:"cache_key"`
				} `json:"llm_proxy"`
			}
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Request.ID == id {
				key = entry.Request.Key
				return true
			}
		}
		return false
	})
	return key
}

// purgeable is an answer that some selectors are about.
type purgeable struct {
	a *account
	r request
}

// on asks a node; only: for nothing but what is stored.
func (e purgeable) on(t *testing.T, p *proxy, only bool) answer {
	t.Helper()
	r := e.r
	r.token = e.a.token
	if only {
		r.header = http.Header{"Cache-Control": {"only-if-cached"}}
	}
	return p.do(t, r)
}

// TestCachePurge: what is purged on one node is gone on both, and nothing else is,
// whether the API or the command was asked.
func TestCachePurge(t *testing.T) {
	t.Parallel()
	c := newCacheNodes(t, 2, "mode always")
	one, two := c.nodes[0], c.nodes[1]
	alice, bob := one.account(t), one.account(t)
	about := func(model string) request {
		return request{path: "/v1/chat/completions", body: fmt.Sprintf(`{"model":%q}`, model)}
	}
	entries := map[string]purgeable{
		"models":       {alice, request{path: "/v1/models"}},
		"models?a=1":   {alice, request{path: "/v1/models?a=1"}},
		"a model":      {alice, request{path: "/v1/models/m"}},
		"bob's models": {bob, request{path: "/v1/models"}},
		"chat":         {alice, about("gpt-4o")},
		"chat mini":    {alice, about("gpt-4o-mini")},
		"bob's chat":   {bob, about("gpt-4o")},
	}
	bobsModels := one.cacheKey(t, entries["bob's models"].on(t, one, false))
	names := sortedKeys(entries)
	for _, tc := range []struct {
		selector object
		gone     []string
	}{
		{object{"key": respcache.Key{1}.String()}, nil},
		{object{"key": bobsModels}, []string{"bob's models"}},
		{object{"url": "/v1/models"}, []string{"models", "bob's models"}},
		{object{"url": "https://api.example.com/v1/models?a=1", "method": "GET"}, []string{"models?a=1"}},
		{object{"url": "/v1/models", "method": "POST"}, nil},
		{object{"prefix": "/v1/models"}, []string{"models", "models?a=1", "a model", "bob's models"}},
		{object{"pattern": "/v1/*/m"}, []string{"a model"}},
		{object{"project_id": alice.projectID}, []string{"models", "models?a=1", "a model", "chat", "chat mini"}},
		{object{"model": "gpt-4o"}, []string{"chat", "bob's chat"}},
		{object{"model": "gpt-4"}, nil},
		{object{"all": true}, names},
	} {
		for _, way := range []struct {
			teller, other *proxy
			purge         func(*proxy, *testing.T, object) int
		}{{two, one, (*proxy).purge}, {one, two, (*proxy).purgeByCommand}} {
			// A node may hear of the last purge once more, from Redis, and forget what it
			// has fetched in between, which the other does not use either.
			eventually(t, "all is in Redis", func() bool {
				there := true
				for _, name := range names {
					if e := entries[name]; !isHit(e.on(t, two, true)) || !isHit(e.on(t, one, true)) {
						e.r = with(e.r, "Cache-Control: no-cache")
						e.on(t, one, false)
						there = false
					}
				}
				return there && len(c.names(t)) == len(names)
			})
			if n := way.purge(way.teller, t, tc.selector); n != len(tc.gone) {
				t.Errorf("%v: deleted %d, want %d", tc.selector, n, len(tc.gone))
			}
			for _, name := range names {
				for _, p := range []*proxy{way.teller, way.other} {
					switch gone := func() bool { return entries[name].on(t, p, true).status == http.StatusGatewayTimeout }; {
					case !slices.Contains(tc.gone, name):
						eventually(t, fmt.Sprintf("%v: %s is still there", tc.selector, name), func() bool { return !gone() })
					case p == way.teller: // has forgotten by now
						if !gone() {
							t.Errorf("%v: %s is still there", tc.selector, name)
						}
					default:
						eventually(t, fmt.Sprintf("%v: %s is gone on the other node", tc.selector, name), gone)
					}
				}
			}
			c.stored(t, len(entries)-len(tc.gone))
		}
	}
	type backend struct {
		Name string
		Up   bool
		Hits int
	}
	var stats struct{ Backends []backend }
	one.cache(t, &stats, "stats")
	if b := stats.Backends; len(b) != 2 || b[0].Name != "memory" || b[1].Name != "redis" || !b[0].Up || !b[1].Up || b[0].Hits == 0 {
		t.Errorf("%+v", stats)
	}
}

// TestCachePurgeWithoutRedis: nodes that have nothing but the database in common hear of
// purges by it.
func TestCachePurgeWithoutRedis(t *testing.T) {
	t.Parallel()
	c := &cacheNodes{o: newOrigin(t, nil)}
	c.run(t, 2, c.o.site())
	alice, bob := c.nodes[0].account(t), c.nodes[1].account(t)
	mine, theirs := purgeable{alice, request{path: "/v1/files"}}, purgeable{bob, request{path: "/v1/models"}}
	for i, selector := range []object{{"url": "/v1/files"}, {"prefix": "/v1/f"}, {"pattern": "/*/files"}, {"project_id": alice.projectID}, {"all": true}} {
		for _, p := range c.nodes {
			for _, e := range []purgeable{mine, theirs} {
				if e.on(t, p, false); !isHit(e.on(t, p, true)) {
					t.Fatalf("%v: it is not stored", selector)
				}
			}
		}
		want := 1
		if selector["all"] != nil {
			want = 2
		}
		teller, other := c.nodes[i%2], c.nodes[1-i%2]
		if n := teller.purge(t, selector); n != want || isHit(mine.on(t, teller, true)) {
			t.Errorf("%v: deleted %d, want %d", selector, n, want)
		}
		eventually(t, fmt.Sprintf("%v: it is gone on the other node", selector), func() bool { return !isHit(mine.on(t, other, true)) })
		for _, p := range c.nodes {
			if stays := isHit(theirs.on(t, p, true)); stays != (want == 1) {
				t.Errorf("%v: the other answer is there: %t", selector, stays)
			}
		}
	}
}

// TestCachePurgeDuringFill: an answer that was on its way when something was purged is
// not stored, whichever node was told, and who comes after the purge does not wait for it.
func TestCachePurgeDuringFill(t *testing.T) {
	t.Parallel()
	c := newCacheNodes(t, 2, "mode always")
	a := c.nodes[0].account(t)
	about := func(what string, i, j int) purgeable {
		return purgeable{a, request{path: "/v1/chat/completions", body: fmt.Sprintf(`{"model":"m","n":%d,"of":%d,"what":%q}`, i, j, what)}}
	}
	for i, teller := range c.nodes {
		for j, selector := range []object{{"all": true}, {"prefix": "/v1/chat"}, {"model": "m"}, {"project_id": a.projectID}} {
			e := about("on its way", i, j)
			came := make(chan chan struct{}, 2)
			c.o.becomes(func(w http.ResponseWriter, r *http.Request, told telling) {
				gate := make(chan struct{})
				came <- gate
				gated(gate)(w, r, told)
			})
			ask := func() (got chan answer, gate chan struct{}) {
				got = make(chan answer, 1)
				go func() { got <- e.on(t, c.nodes[0], false) }()
				return got, receive(t, "the request", came)
			}
			got, gate := ask()
			teller.purge(t, selector)
			stored := 1
			if teller == c.nodes[0] { // to which the same request is another one from now on
				next, open := ask()
				close(open)
				toldIn(t, receive(t, "the other answer", next))
				stored = 2
			}
			close(gate)
			first := toldIn(t, receive(t, "the answer", got))
			c.o.becomes(tell)
			// What is written to Redis is written in order, and the other node uses this
			// one only if the first node knew of the purge when it was asked for.
			behind := about("behind it", i, j)
			behind.r = with(behind.r, "Cache-Control: no-cache")
			eventually(t, "what came later is there", func() bool {
				behind.on(t, c.nodes[0], false)
				return within(time.Second, func() bool { return isHit(behind.on(t, c.nodes[1], true)) }) // or Redis was too slow
			})
			for n, p := range c.nodes {
				if number := entryNumber(t, e.on(t, p, true)); number == first.Number {
					t.Errorf("%v: it is there, on node %d", selector, n)
				}
			}
			if names := c.names(t); len(names) > stored {
				t.Errorf("%v: %d answers are in Redis, want %d", selector, len(names), stored)
			}
		}
	}
}

// entryNumber is the number of the answer that was stored; 0: none was.
func entryNumber(t *testing.T, got answer) int {
	t.Helper()
	if got.status == http.StatusGatewayTimeout {
		return 0
	}
	return toldIn(t, got).Number
}
