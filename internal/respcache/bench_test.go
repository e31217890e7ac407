package respcache_test

import (
	"encoding/binary"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

// typical is an entry with a body and header of its own.
func typical(i, size int, now time.Time) *respcache.Entry {
	var primary respcache.Key
	binary.LittleEndian.PutUint64(primary[:], uint64(i))
	primary[31] = 1
	header := make(http.Header, 6)
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Date": "Mon, 03 Feb 2031 04:05:06 GMT", "Etag": `"0123456789abcdef"`,
		"Cache-Control": "public, max-age=300", "Content-Length": "4096", "Vary": "Accept-Encoding",
	} {
		header[name] = []string{strings.Clone(value)}
	}
	return &respcache.Entry{
		Primary: primary, Variant: respcache.VariantKey(primary, nil, nil),
		Tags:  respcache.Tags{Provider: "openai", Project: fmt.Sprint("project-", i%10), Model: fmt.Sprint("gpt-", i%4), Method: "POST", Path: "/v1/chat/completions"},
		Meta:  httpcache.Meta{Status: 200, Method: "POST", Header: header, ResponseTime: now, Date: now, Lifetime: time.Hour},
		Body:  make([]byte, size),
		Usage: respcache.Usage{Model: "gpt-4o"},
		Until: now.Add(time.Hour),
	}
}

func heap() uint64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// footprint fills a cache and tells the memory that this took, what it counts
// itself, and how much of that is bodies.
func footprint(tb testing.TB, entries, size int) (heapBytes, counted, bodies float64) {
	before := heap()
	m, err := respcache.NewMemory(4 << 30)
	must(tb, err)
	defer m.Close()
	now := time.Now()
	for i := range entries {
		must(tb, m.Put(typical(i, size, now), m.Epoch()))
	}
	m.CleanUp()
	s := m.Stats()
	if s.Entries != int64(entries) {
		tb.Fatalf("%d entries", s.Entries)
	}
	after := heap()
	runtime.KeepAlive(m)
	return float64(after - before), float64(s.Bytes), float64(entries * size)
}

// TestFootprint: what the cache counts is what it takes, small entries included, so
// that its bound is one of memory.
func TestFootprint(t *testing.T) {
	for _, size := range []int{0, 4096} {
		took, counted, _ := footprint(t, 10_000, size)
		if took > 1.1*counted || took < 0.7*counted {
			t.Errorf("entries of %d bytes take %.0f, and are counted as %.0f: %.2f", size, took, counted, took/counted)
		}
	}
}

// BenchmarkFootprint tells the memory of 100,000 bodies of 4 KiB.
func BenchmarkFootprint(b *testing.B) {
	for b.Loop() {
		took, counted, bodies := footprint(b, 100_000, 4096)
		b.ReportMetric(took/bodies, "heap/bodies")
		b.ReportMetric(took/counted, "heap/counted")
		e := typical(0, 4096, time.Now())
		content := len(respcache.EncodeEntry(e)) + 2*len(e.Primary)
		b.ReportMetric(took/float64(100_000*content), "heap/content")
	}
}

func filled(b *testing.B, entries, size int) *respcache.Memory {
	b.Helper()
	m, err := respcache.NewMemory(8 << 30)
	must(b, err)
	b.Cleanup(m.Close)
	now := time.Now()
	for i := range entries {
		must(b, m.Put(typical(i, size, now), m.Epoch()))
	}
	return m
}

func BenchmarkLookup(b *testing.B) {
	m := filled(b, 10_000, 64)
	b.ReportAllocs()
	for name, variant := range map[string]func(respcache.Key) func([]string) respcache.Key{
		"stored key": func(k respcache.Key) func([]string) respcache.Key {
			v := respcache.VariantKey(k, nil, nil)
			return func([]string) respcache.Key { return v }
		},
		"variant's key computed": plain,
	} {
		b.Run(name, func(b *testing.B) {
			var entries []*respcache.Entry
			var variants []func([]string) respcache.Key
			for i := range 1000 {
				e := typical(i, 64, time.Now())
				entries, variants = append(entries, e), append(variants, variant(e.Primary))
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i = (i + 1) % 1000
				if e, _ := m.Lookup(entries[i].Primary, variants[i]); e == nil {
					b.Fatal("not found")
				}
			}
		})
	}
}

func BenchmarkPut(b *testing.B) {
	m, err := respcache.NewMemory(64 << 20)
	must(b, err)
	defer m.Close()
	now := time.Now()
	var entries []*respcache.Entry
	for i := range 50_000 {
		entries = append(entries, typical(i, 4096, now))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i = (i + 1) % len(entries)
		must(b, m.Put(entries[i], m.Epoch()))
	}
}

// BenchmarkKey is for a chat request of 4 KiB.
func BenchmarkKey(b *testing.B) {
	body := []byte(`{"model":"gpt-4o","stream":true,"user":"u1","messages":[{"role":"user","content":"` + strings.Repeat("words ", 680) + `"}]}`)
	set := ignore(b, "user", "metadata.user_id")
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		id := respcache.Identity{Provider: "openai", Method: "POST", Path: "/v1/chat/completions", Scope: respcache.Scope{Kind: respcache.Project, ID: "p1"}, Body: respcache.JSONBody(body, set)}
		_ = id.Key()
	}
}

// BenchmarkPurge tells how long a purge among a million entries takes, and how many
// lookups go on meanwhile.
func BenchmarkPurge(b *testing.B) {
	for _, sel := range []respcache.Selector{
		{By: respcache.ByProject, Value: "project-3"}, {By: respcache.ByModel, Value: "gpt-1"}, {By: respcache.ByAll}, {By: respcache.ByPattern, Value: "/v1/*s"},
	} {
		b.Run(sel.By.String(), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				m := filled(b, 1_000_000, 0)
				stop, lookups := make(chan struct{}), make(chan int)
				go func() {
					for i := 0; ; i++ {
						select {
						case <-stop:
							lookups <- i
							return
						default:
						}
						e := respcache.Key{31: 1}
						binary.LittleEndian.PutUint64(e[:], uint64(i%1_000_000))
						m.Lookup(e, plain(e))
					}
				}()
				b.StartTimer()
				n, err := m.Apply(sel)
				b.StopTimer()
				close(stop)
				b.ReportMetric(float64(n), "deleted")
				b.ReportMetric(float64(<-lookups), "lookups")
				if err != nil || n < 100_000 {
					b.Fatalf("%d, %v", n, err)
				}
				m.Close()
				b.StartTimer()
			}
		})
	}
}

// BenchmarkRedis is a hit in Redis with a body of 4 KiB, past the memory.
func BenchmarkRedis(b *testing.B) {
	c, clock := node(b, connect(b, redisURL(b)), nil)
	e := typical(1, 4096, clock.Now())
	must(b, c.Put(e, c.Epoch()))
	settle(b, c)
	variant := plain(e.Primary)
	b.ReportAllocs()
	for b.Loop() {
		if got, _ := c.LookupRedis(b.Context(), e.Primary, variant); got == nil {
			b.Fatal("not found")
		}
	}
}
