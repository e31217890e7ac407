package heap_test

import (
	"math/rand/v2"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/heap"
)

const mib = 1 << 20

func read(name string) int64 {
	s := []metrics.Sample{{Name: name}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64())
}

func gcPercent() int64 { return read("/gc/gogc:percent") }

// node is memory that has to be scanned.
type node struct {
	next *node
	_    [7]*node
}

func TestPacer(t *testing.T) {
	t.Setenv("GOGC", "")
	before := gcPercent()
	p := heap.Pace()
	defer p.Stop()

	// room waits for collections to have been followed, and returns what the heap may grow by.
	room := func(low, high int64) {
		t.Helper()
		var live, goal int64
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			runtime.GC()
			live, goal = read("/gc/heap/live:bytes"), read("/gc/heap/goal:bytes")
			if room := goal - live; room >= low && room <= high {
				return
			}
		}
		t.Errorf("with %d MiB alive the heap may grow to %d MiB, want %d to %d MiB more", live/mib, goal/mib, low/mib, high/mib)
	}
	room(58*mib, 80*mib)

	bodies := make([][]byte, 100)
	for i := range bodies {
		bodies[i] = make([]byte, 4*mib)
		bodies[i][rand.IntN(mib)] = 1
	}
	room(90*mib, 120*mib) // a quarter of 400 MiB

	var list *node
	for range 2 << 20 {
		list = &node{next: list}
	}
	room(122*mib, 160*mib) // 128 MiB of pointers
	runtime.KeepAlive(list)
	list = nil
	runtime.KeepAlive(bodies)
	bodies = nil
	room(58*mib, 80*mib)

	p.Stop()
	p.Stop()
	if after := gcPercent(); after != before {
		t.Errorf("GOGC is %d after Stop, was %d", after, before)
	}
	runtime.GC()
	runtime.GC()
	if after := gcPercent(); after != before {
		t.Errorf("GOGC is %d once it has been collected after Stop, was %d", after, before)
	}
}

func TestPacerLeavesGOGC(t *testing.T) {
	t.Setenv("GOGC", "100")
	before := gcPercent()
	p := heap.Pace()
	runtime.GC()
	if now := gcPercent(); now != before {
		t.Errorf("GOGC is %d, the operator's was %d", now, before)
	}
	p.Stop()
	if after := gcPercent(); after != before {
		t.Errorf("GOGC is %d after Stop, was %d", after, before)
	}
}
