//go:build !race

package limit_test

import (
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
)

func TestMemoryAllocations(t *testing.T) {
	m := limit.NewMemory()
	defer m.Close()
	demands := four("a")
	ticket := new(limit.Ticket)
	once := func() {
		d, err := m.Take(t.Context(), limit.Request{Demands: demands}, ticket)
		if err != nil || !d.Admitted {
			t.Fatal(d, err)
		}
		ticket.Settle(50)
		ticket.Release()
	}
	if n := testing.AllocsPerRun(100, once); n > 0 {
		t.Errorf("%v allocations for a request with four limits, want 0", n)
	}
	demands[0].Amount = 1
	if n := testing.AllocsPerRun(100, func() {
		if d, err := m.Take(t.Context(), limit.Request{Demands: demands}, ticket); err != nil || d.Admitted {
			t.Fatal(d, err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for a refusal, want 0", n)
	}
	var e limit.Estimator
	e.Observe("m", 5)
	if n := testing.AllocsPerRun(100, func() { e.Observe("m", 9); e.Estimate(100, "m", -1) }); n > 0 {
		t.Errorf("%v allocations for an estimate, want 0", n)
	}
}
