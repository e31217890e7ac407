package respcache_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

func TestMemoryBounds(t *testing.T) {
	t.Parallel()
	if _, err := respcache.NewMemory(respcache.MinMemory - 1); err == nil {
		t.Error("a cache of no size")
	}
	m, clock := memory(t, 1<<20)
	body := strings.Repeat("x", 4096)
	for i := range 2000 {
		must(t, m.Put(get(fmt.Sprint("/", i)).entry(clock.Now(), time.Hour, body), m.Epoch()))
	}
	waitFor(t, "the bound is kept", func() bool { m.CleanUp(); return m.Weight() <= 1<<20 })
	s := m.Stats()
	if s.Bytes > 1<<20 || s.Entries < 150 || s.Evictions != 2000-s.Entries || s.Puts != 2000 {
		t.Errorf("%+v", s)
	}
	if uint64(s.Bytes) != m.Weight() {
		t.Errorf("%d bytes are counted, otter has %d", s.Bytes, m.Weight())
	}
	if err := m.Put(get("/large").entry(clock.Now(), time.Hour, strings.Repeat("x", 1<<18)), m.Epoch()); !errors.Is(err, respcache.ErrTooLarge) {
		t.Errorf("a quarter of the memory: %v", err)
	}
	wide := get("/wide").entry(clock.Now(), time.Hour, "")
	wide.Meta.Vary = slices.Repeat([]string{"A"}, 17)
	if err := m.Put(wide, m.Epoch()); err == nil {
		t.Error("an entry that varies on 17 fields")
	}
	if err := m.Put(get("/stale").entry(clock.Now(), 0, ""), m.Epoch()); err == nil {
		t.Error("an entry that is of no use")
	}
}

// TestExpiry: what is of no use any more is neither found nor kept.
func TestExpiry(t *testing.T) {
	t.Parallel()
	m, clock := memory(t, 1<<20)
	for i := range 100 {
		must(t, m.Put(get(fmt.Sprint("/", i)).entry(clock.Now(), time.Duration(1+i)*time.Second, "x"), m.Epoch()))
	}
	clock.Advance(50 * time.Second)
	for i := range 100 {
		primary := get(fmt.Sprint("/", i)).key()
		if e, _ := m.Lookup(primary, plain(primary)); (e != nil) != (i >= 50) {
			t.Errorf("%d: found %t", i, e != nil)
		}
	}
	clock.Advance(10 * time.Second) // a step of otter's timer wheel more
	waitFor(t, "what is of no use is freed", func() bool { m.CleanUp(); return m.Groups() <= 50 })
	if s := m.Stats(); s.Expired < 50 || s.Entries != int64(m.Groups()) {
		t.Errorf("%+v", s)
	}
}

// TestVariants: a request finds the response to one that was the same in what that
// response varies on; the newest, if responses disagree on what that is.
func TestVariants(t *testing.T) {
	t.Parallel()
	m, clock := memory(t, 1<<20)
	put := func(q request, body string) {
		clock.Advance(time.Second)
		must(t, m.Put(q.entry(clock.Now(), time.Hour, body), m.Epoch()))
	}
	find := func(header http.Header) (string, bool) {
		primary := get("/").key()
		e, varied := m.Lookup(primary, with(primary, header))
		if e == nil {
			return "", varied
		}
		return string(e.Body), varied
	}
	json, text := http.Header{"Accept": {"json"}}, http.Header{"Accept": {"text"}}
	if _, varied := find(json); varied {
		t.Error("an empty cache has variants")
	}
	q := get("/")
	q.vary, q.header = []string{"Accept"}, json
	put(q, "json")
	if body, _ := find(json); body != "json" {
		t.Errorf("%q", body)
	}
	if body, varied := find(text); body != "" || !varied {
		t.Errorf("%q, varied %t", body, varied)
	}
	q.header = text
	put(q, "text")
	q.vary = nil
	put(q, "any")
	for _, h := range []http.Header{json, text, nil} {
		if body, _ := find(h); body != "any" {
			t.Errorf("%v: %q", h, body)
		}
	}
	q.vary = []string{"Accept"}
	put(q, "text again")
	if body, _ := find(text); body != "text again" {
		t.Errorf("%q", body)
	}
	if body, _ := find(json); body != "any" {
		t.Errorf("%q", body)
	}
	for i := range 100 {
		q.header = http.Header{"Accept": {fmt.Sprint(i)}}
		put(q, fmt.Sprint(i))
	}
	if s := m.Stats(); s.Entries != 32 {
		t.Errorf("%d variants", s.Entries)
	}
	for i := range 20 {
		q.vary, q.header = []string{fmt.Sprintf("X-%d", i)}, http.Header{fmt.Sprintf("X-%d", i): {"1"}}
		put(q, fmt.Sprint("list ", i))
	}
	if s := m.Stats(); s.Entries != 8 {
		t.Errorf("%d entries after 20 lists", s.Entries)
	}
	if deleted, err := m.Apply(respcache.Selector{By: respcache.ByAll}); deleted != 8 || err != nil {
		t.Errorf("%d purged, %v", deleted, err)
	}
}

// TestPurgedOnItsWay: what was asked for before a purge that is about it, or before
// its key was invalidated, is not kept; anything else is.
func TestPurgedOnItsWay(t *testing.T) {
	t.Parallel()
	m, clock := memory(t, 1<<20)
	epoch := m.Epoch()
	if _, err := m.Apply(respcache.Selector{By: respcache.ByModel, Value: "m1"}); err != nil {
		t.Fatal(err)
	}
	if m.Epoch() == epoch {
		t.Error("a purge leaves the epoch as it was")
	}
	if err := m.Put(get("/a").entry(clock.Now(), time.Hour, ""), epoch); !errors.Is(err, respcache.ErrPurged) {
		t.Errorf("asked for before the purge: %v", err)
	}
	other := get("/a")
	other.model = "m2"
	must(t, m.Put(other.entry(clock.Now(), time.Hour, ""), epoch))
	must(t, m.Put(get("/a").entry(clock.Now(), time.Hour, ""), m.Epoch()))

	epoch = m.Epoch()
	if n := m.Invalidate(get("/a").key()); n != 1 {
		t.Errorf("%d invalidated", n)
	}
	if err := m.Put(get("/a").entry(clock.Now(), time.Hour, ""), epoch); !errors.Is(err, respcache.ErrPurged) {
		t.Errorf("asked for before the invalidation: %v", err)
	}
	must(t, m.Put(get("/a").entry(clock.Now(), time.Hour, ""), m.Epoch()))

	epoch = m.Epoch()
	for range 1100 { // more than are remembered
		if _, err := m.Apply(respcache.Selector{By: respcache.ByModel, Value: "another"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Put(get("/a").entry(clock.Now(), time.Hour, ""), epoch); !errors.Is(err, respcache.ErrPurged) {
		t.Errorf("asked for before what is remembered: %v", err)
	}
	if _, err := m.Apply(respcache.Selector{}); err == nil {
		t.Error("a purge of nothing")
	}
}

// TestPurgeIsExact: every kind of purge takes what it selects, counts it once, fresh
// or stale, and frees its memory.
func TestPurgeIsExact(t *testing.T) {
	t.Parallel()
	m, clock := memory(t, 64<<20)
	all := make(map[respcache.Key]request)
	for i := range 3000 {
		q := request{project: fmt.Sprint("p", i%7), model: fmt.Sprint("m", i%5), method: "GET", path: fmt.Sprintf("/v1/%d/%d", i%11, i)}
		life := time.Hour
		if i%10 == 0 {
			life = time.Minute // these will have expired
		}
		must(t, m.Put(q.entry(clock.Now(), life, "body"), m.Epoch()))
		if i%10 != 0 {
			all[q.key()] = q
		}
	}
	clock.Advance(2 * time.Minute)
	for _, sel := range []respcache.Selector{
		{By: respcache.ByProject, Value: "p3"}, {By: respcache.ByModel, Value: "m2"}, {By: respcache.ByProject, Value: "p3"}, {By: respcache.ByPrefix, Value: "/v1/10/"},
		{By: respcache.ByPattern, Value: "/v1/?/1*"}, {By: respcache.ByURL, Value: "/v1/5/27"}, {By: respcache.ByURL, Value: "/v1/5/27"},
		{By: respcache.ByKey, Value: get("/none").key().String()}, {By: respcache.ByProject, Value: "p4"}, {By: respcache.ByAll},
	} {
		want := 0
		for k, q := range all {
			if sel.Matches(&k, &respcache.Tags{Project: q.project, Model: q.model, Method: q.method, Path: q.path}) {
				want++
				delete(all, k)
			}
		}
		if got, err := m.Apply(sel); got != want || err != nil {
			t.Errorf("%v %s: %d deleted, want %d: %v", sel.By, sel.Value, got, want, err)
		}
		if sel.By == respcache.ByKey {
			for k := range all {
				if got, err := m.Apply(respcache.Selector{By: respcache.ByKey, Value: k.String()}); got != 1 || err != nil {
					t.Errorf("by key: %d, %v", got, err)
				}
				delete(all, k)
				break
			}
		}
		for k := range all {
			if e, _ := m.Lookup(k, plain(k)); e == nil {
				t.Fatalf("%v %s took more than it selects", sel.By, sel.Value)
			}
		}
	}
	s := m.Stats()
	if s.Entries != 0 || s.Bytes != 0 {
		t.Errorf("%+v", s)
	}
	waitFor(t, "the memory is freed", func() bool { return m.Weight() == 0 && m.Groups() == 0 })
}

// TestConcurrency: with everything going on at once, nothing that was purged is
// found, and at the end the counts are right.
func TestConcurrency(t *testing.T) {
	t.Parallel()
	m, err := respcache.NewMemory(1 << 20)
	must(t, err)
	defer m.Close()
	body := strings.Repeat("x", 1000)
	var writers, others sync.WaitGroup
	stop := make(chan struct{})
	for w := range 2 {
		writers.Go(func() {
			for i := range 3000 {
				q := request{project: fmt.Sprint("p", i%3), model: fmt.Sprint("m", i%2), method: "GET", path: fmt.Sprint("/", i%500)}
				if i%4 == w {
					q.vary, q.header = []string{"Accept"}, http.Header{"Accept": {fmt.Sprint(i % 3)}}
				}
				_ = m.Put(q.entry(time.Now(), time.Duration(1+i%2000)*time.Millisecond, body), m.Epoch())
			}
		})
	}
	others.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			q := get(fmt.Sprint("/", i%500))
			primary := q.key()
			if e, _ := m.Lookup(primary, plain(primary)); e != nil && e.Primary != primary {
				t.Error("another entry was found")
			}
			if i%50 == 0 {
				m.Invalidate(primary)
			}
		}
	})
	others.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			sel := respcache.Selector{By: respcache.ByProject, Value: fmt.Sprint("p", i%3)}
			if i%2 == 0 {
				sel = respcache.Selector{By: respcache.ByPrefix, Value: fmt.Sprint("/", i%50)}
			}
			if _, err := m.Apply(sel); err != nil {
				t.Error(err)
			}
		}
	})
	writers.Wait()
	close(stop)
	others.Wait()
	if _, err := m.Apply(respcache.Selector{By: respcache.ByAll}); err != nil {
		t.Fatal(err)
	}
	if s := m.Stats(); s.Entries != 0 || s.Bytes != 0 {
		t.Errorf("%+v", s)
	}
	waitFor(t, "the memory is freed", func() bool { m.CleanUp(); return m.Weight() == 0 })
}

// TestLookupDoesNotAllocate holds the ceiling.
func TestLookupDoesNotAllocate(t *testing.T) {
	m, clock := memory(t, 1<<20)
	q := get("/")
	e := q.entry(clock.Now(), time.Hour, "x")
	must(t, m.Put(e, m.Epoch()))
	variant, missing := plain(e.Primary), respcache.Key{}
	if n := testing.AllocsPerRun(1000, func() {
		if got, _ := m.Lookup(e.Primary, variant); got != e {
			t.Fatal("not found")
		}
		if got, _ := m.Lookup(missing, variant); got != nil {
			t.Fatal("found")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestCloseTwice(t *testing.T) {
	t.Parallel()
	m, err := respcache.NewMemory(respcache.MinMemory)
	must(t, err)
	q := get("/")
	must(t, m.Put(q.entry(time.Now(), time.Hour, "x"), m.Epoch()))
	m.Close()
	m.Close()
	primary := q.key()
	if e, _ := m.Lookup(primary, plain(primary)); e == nil {
		t.Error("a request that outlives the cache finds nothing")
	}
	must(t, m.Put(get("/2").entry(time.Now(), time.Hour, "x"), m.Epoch()))
}
