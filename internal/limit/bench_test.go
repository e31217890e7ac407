package limit_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// four are the limits of a usual request.
func four(id string) []limit.Demand {
	const plenty = limit.MaxAmount
	return []limit.Demand{
		requests(id, plenty, time.Minute),
		tokens(id, plenty, time.Minute, 100),
		slots(id, plenty),
		everybody(requests("", plenty, time.Minute)),
	}
}

func benchmarkTake(b *testing.B, l limit.Limiter) {
	var ids atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		demands := four(fmt.Sprint(ids.Add(1)))
		ticket := new(limit.Ticket)
		for pb.Next() {
			if d, err := l.Take(b.Context(), limit.Request{Demands: demands}, ticket); err != nil || !d.Admitted {
				b.Error(d, err)
				return
			}
			ticket.Release()
		}
	})
}

func BenchmarkMemory(b *testing.B) {
	m := limit.NewMemory()
	defer m.Close()
	benchmarkTake(b, m)
}

func BenchmarkMemorySingle(b *testing.B) {
	m := limit.NewMemory()
	defer m.Close()
	demands, ticket := four("a"), new(limit.Ticket)
	b.ReportAllocs()
	for b.Loop() {
		if d, err := m.Take(b.Context(), limit.Request{Demands: demands}, ticket); err != nil || !d.Admitted {
			b.Fatal(d, err)
		}
		ticket.Release()
	}
}

func BenchmarkMemoryRefused(b *testing.B) {
	m := limit.NewMemory()
	defer m.Close()
	demands, ticket := four("a"), new(limit.Ticket)
	demands[0].Amount = 1
	mustTake(b, m, demands...)
	b.ReportAllocs()
	for b.Loop() {
		if d, err := m.Take(b.Context(), limit.Request{Demands: demands}, ticket); err != nil || d.Admitted {
			b.Fatal(d, err)
		}
	}
}

func BenchmarkRedis(b *testing.B) {
	conn := connect(b, testdb.Redis(b))
	benchmarkTake(b, node(b, conn, nil, func(r *limit.Redis) { r.SetBeat(2*time.Second, 0) }))
}
