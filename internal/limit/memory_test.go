package limit_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
)

// TestMemoryIsFreed: ten thousand tokens in play are forgotten when their windows
// are over, and those with a slot are not.
func TestMemoryIsFreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := limit.NewMemory()
		defer m.Close()
		const tokens, daily = 10_000, 100
		var held []*limit.Ticket
		for i := range tokens {
			id := fmt.Sprint(i)
			demands := []limit.Demand{requests(id, 5, time.Second), requests(id, 5, time.Minute), slots(id, 1)}
			if i < daily {
				demands = append(demands, requests(id, 1, 24*time.Hour))
			}
			ticket := mustTake(t, m, demands...)
			if i < daily {
				held = append(held, ticket)
			} else {
				ticket.Release()
			}
		}
		if got := m.Entries(); got != 3*tokens+daily {
			t.Fatalf("%d entries", got)
		}
		for _, stage := range []struct {
			wait time.Duration
			want int
		}{
			{15 * time.Second, tokens + 2*daily}, // seconds and slots are over
			{75 * time.Second, 2 * daily},
			{23 * time.Hour, 2 * daily},
		} {
			time.Sleep(stage.wait)
			synctest.Wait()
			if got := m.Entries(); got != stage.want {
				t.Fatalf("%d entries after %s more, want %d", got, stage.wait, stage.want)
			}
		}
		mustRefuse(t, m, requests("7", 1, 24*time.Hour))
		mustRefuse(t, m, slots("7", 1))
		for _, ticket := range held {
			ticket.Release()
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if got := m.Entries(); got != 0 {
			t.Fatalf("%d entries are left", got)
		}
		mustTake(t, m, requests("7", 1, 24*time.Hour), slots("7", 1))
	})
}

// TestMemoryCrowd: however many ask at once, and while entries are forgotten and the
// clock moves, no window has more than its limit.
func TestMemoryCrowd(t *testing.T) {
	t.Parallel()
	var clock atomic.Int64
	clock.Store(epoch)
	m := limit.NewMemoryAt(clock.Load)
	const amount, crowd, rounds = 20, 16, 400
	log := new(crowdLog)
	var inflight, most atomic.Int64
	var wg sync.WaitGroup
	for g := range crowd {
		wg.Go(func() {
			for i := range rounds {
				demands := []limit.Demand{requests("a", amount, time.Second), slots("a", 3), requests(fmt.Sprint(i%7), 1000, time.Minute)}
				if g%2 == 0 {
					demands[0], demands[2] = demands[2], demands[0]
				}
				before := clock.Load()
				d, ticket := take(t, m, demands...)
				if !d.Admitted {
					continue
				}
				log.add(before, clock.Load())
				for n := inflight.Add(1); ; {
					if old := most.Load(); n <= old || most.CompareAndSwap(old, n) {
						break
					}
				}
				inflight.Add(-1)
				ticket.Release()
			}
		})
	}
	stop := make(chan struct{})
	var mover sync.WaitGroup
	mover.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				clock.Add(2000)
				m.Sweep()
			}
		}
	})
	wg.Wait()
	close(stop)
	mover.Wait()
	log.judge(t, amount, time.Second)
	if most.Load() > 3 {
		t.Errorf("%d at once, want 3 at most", most.Load())
	}
	mustTake(t, m, slots("a", 1))
}

// crowdLog has when requests were admitted: not before the first time and not
// after the second.
type crowdLog struct {
	mu  sync.Mutex
	all [][2]int64
}

func (l *crowdLog) add(before, after int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, [2]int64{before, after})
}

// judge looks at the windows that begin with each admission.
func (l *crowdLog) judge(t *testing.T, amount int, window time.Duration) {
	t.Helper()
	if len(l.all) < amount {
		t.Errorf("%d admitted only", len(l.all))
	}
	for _, start := range l.all {
		n := 0
		for _, a := range l.all {
			if a[0] >= start[0] && a[1] < start[0]+window.Microseconds() {
				n++
			}
		}
		if n > amount {
			t.Fatalf("%d admitted within %s, want %d at most", n, window, amount)
		}
	}
}
