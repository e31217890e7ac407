package respcache_test

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

// TestInvalidatedBeside: what is invalidated while an answer to something else is on
// its way keeps it from nothing, though their keys have bits in common.
func TestInvalidatedBeside(t *testing.T) {
	t.Parallel()
	m, clock := memory(t, 1<<20)
	kept := get("/a").entry(clock.Now(), time.Hour, "")
	for _, same := range [][2]int{{0, 2}, {2, 4}} {
		other := respcache.Key{31: 1}
		copy(other[same[0]:same[1]], kept.Primary[same[0]:same[1]])
		epoch := m.Epoch()
		m.Invalidate(other)
		if err := m.Put(kept, epoch); err != nil {
			t.Errorf("bytes %d to %d in common: %v", same[0], same[1], err)
		}
	}
	epoch := m.Epoch()
	m.Invalidate(kept.Primary)
	if err := m.Put(kept, epoch); !errors.Is(err, respcache.ErrPurged) {
		t.Errorf("invalidated itself: %v", err)
	}
}

// TestRaise: an invalidation that comes second with the lower count takes nothing
// back.
func TestRaise(t *testing.T) {
	t.Parallel()
	var place atomic.Uint64
	for _, tc := range []struct{ at, want uint64 }{{1, 1}, {7, 7}, {5, 7}, {7, 7}, {8, 8}} {
		if respcache.Raise(&place, tc.at); place.Load() != tc.want {
			t.Errorf("after %d: %d, want %d", tc.at, place.Load(), tc.want)
		}
	}
}

// TestInvalidatedAtOnce: whatever order invalidations of one key come in, what was
// asked for before the last of them is not kept.
func TestInvalidatedAtOnce(t *testing.T) {
	t.Parallel()
	m, clock := memory(t, 1<<20)
	entry := get("/a").entry(clock.Now(), time.Hour, "")
	for range 2000 {
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				before := m.Epoch()
				m.Invalidate(entry.Primary)
				if err := m.Put(entry, before); !errors.Is(err, respcache.ErrPurged) {
					t.Errorf("asked for before it was invalidated: %v", err)
				}
			})
		}
		all.Wait()
	}
}

// TestInvalidatedWhilePut: of an answer that is being put while its key is invalidated
// nothing stays, whoever of both comes first.
func TestInvalidatedWhilePut(t *testing.T) {
	t.Parallel()
	m, clock := memory(t, 1<<20)
	for i := range 20_000 {
		primary := respcache.Key{}
		binary.LittleEndian.PutUint64(primary[:], uint64(i))
		entry := get("/a").entry(clock.Now(), time.Hour, "")
		entry.Primary, entry.Variant = primary, plain(primary)(nil)
		epoch := m.Epoch()
		var ready, both sync.WaitGroup
		ready.Add(2)
		for _, act := range []func(){func() { _ = m.Put(entry, epoch) }, func() { m.Invalidate(primary) }} {
			both.Go(func() {
				ready.Done()
				ready.Wait()
				act()
			})
		}
		both.Wait()
		if found, _ := m.Lookup(primary, plain(primary)); found != nil {
			t.Fatalf("answer %d is kept", i)
		}
	}
}
