package ledger_test

import (
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
)

// plenty is what a request with a budget and a quota demands, which never end.
func plenty() []ledger.Demand {
	budget, quota := account(ledger.Money, project.Month), account(ledger.Requests, project.Total)
	return []ledger.Demand{demand(budget, 1<<50, 1000), demand(quota, 1<<50, 1)}
}

func once(t testing.TB, l *ledger.Ledger, demands []ledger.Demand, ticket *ledger.Ticket) {
	if r, err := l.Hold(t.Context(), demands, ticket); err != nil || r.Kind != ledger.Admitted {
		t.Fatal(r, err)
	}
	ticket.Settle(500)
}

func BenchmarkHold(b *testing.B) {
	l := start(b, newBook())
	demands, ticket := plenty(), new(ledger.Ticket)
	b.ReportAllocs()
	for b.Loop() {
		once(b, l, demands, ticket)
	}
}

// BenchmarkHoldShared has everybody use the same two accounts.
func BenchmarkHoldShared(b *testing.B) {
	l := start(b, newBook())
	demands := plenty()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		ticket := new(ledger.Ticket)
		for pb.Next() {
			once(b, l, demands, ticket)
		}
	})
}

// BenchmarkHoldRefused asks again and again, of a budget that is used up.
func BenchmarkHoldRefused(b *testing.B) {
	l := start(b, newBook())
	a := account(ledger.Money, project.Total)
	hold(b, l, demand(a, 100, 100)).Settle(100)
	demands, ticket := []ledger.Demand{demand(a, 100, 10)}, new(ledger.Ticket)
	b.ReportAllocs()
	for b.Loop() {
		if r, err := l.Hold(b.Context(), demands, ticket); err != nil || r.Kind == ledger.Admitted {
			b.Fatal(r, err)
		}
	}
}
