// Package heap tells Go's garbage collector how much memory it may use above
// what is alive, which its default setting takes for a matter of proportion.
//
// With GOGC=100 a heap may double. A proxy that keeps little alive, some 20 MB,
// then collects after every 20 MB of garbage, hundreds of times a minute, where
// the machine has gigabytes; and one whose cache is full of answers has twice the
// memory that was asked for, most of it for nothing: bodies hold no pointers, so
// that collecting costs the same whatever their size.
package heap

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// floor is how much may always be allocated from one collection to the next, in
// bytes: a few thousand requests' worth.
const floor = 64 << 20

// Pacer sets the process's GC percentage anew after each collection, as long as
// it is not stopped, so that the heap grows from one collection to the next by the
// largest of
//
//   - 64 MiB,
//   - a quarter of what is alive,
//   - what had to be scanned for pointers, which makes collecting no dearer for
//     each byte allocated than Go's default does.
//
// GOMEMLIMIT, which Caddy sets to nine tenths of the machine's or container's
// memory, goes before it as always. A process has one Pacer at a time.
type Pacer struct {
	mu       sync.Mutex
	running  bool
	original int // to be restored
	percent  int // as set last
	samples  [3]metrics.Sample
}

// Pace starts a Pacer. It does nothing where an operator has set GOGC.
func Pace() *Pacer {
	p := new(Pacer)
	if os.Getenv("GOGC") != "" {
		return p
	}
	for i, name := range []string{"/gc/heap/live:bytes", "/gc/scan/heap:bytes", "/gc/scan/total:bytes"} {
		p.samples[i].Name = name
	}
	p.running = true
	p.percent = p.wanted()
	p.original = debug.SetGCPercent(p.percent)
	runtime.SetFinalizer(&collected{p}, (*collected).again)
	return p
}

// Stop restores the GC percentage that Pace found.
func (p *Pacer) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running {
		p.running = false
		debug.SetGCPercent(p.original)
	}
}

// collected is garbage, so that the next collection tells of itself.
type collected struct{ *Pacer }

func (c *collected) again() {
	if c.adjust() {
		runtime.SetFinalizer(c, (*collected).again)
	}
}

// adjust reports whether the Pacer is still running.
func (p *Pacer) adjust() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running {
		return false
	}
	// Setting it stops the world, for some microseconds: not for a trifle.
	if want := p.wanted(); want > p.percent+p.percent/10 || want < p.percent-p.percent/10 {
		p.percent = want
		debug.SetGCPercent(want)
	}
	return true
}

// wanted is the percentage that gives the heap its room. The runtime takes it of
// what is alive and of the roots: stacks and globals.
func (p *Pacer) wanted() int {
	metrics.Read(p.samples[:])
	return percent(p.samples[0].Value.Uint64(), p.samples[1].Value.Uint64(), p.samples[2].Value.Uint64())
}

func percent(live, scanned, scannedWithRoots uint64) int {
	live = max(live, 4<<20) // before the first collection nothing is known
	room := max(floor, live/4, scannedWithRoots)
	return int(room * 100 / (live + scannedWithRoots - scanned))
}
