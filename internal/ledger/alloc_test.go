//go:build !race

package ledger_test

import (
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/ledger"
)

func TestAllocations(t *testing.T) {
	l := start(t, newBook())
	demands := plenty()
	ticket := new(ledger.Ticket)
	if n := testing.AllocsPerRun(100, func() { once(t, l, demands, ticket) }); n > 0 {
		t.Errorf("%v allocations for a request with a quota and a budget, want 0", n)
	}
	demands[0].Amount = demands[0].Limit.Amount + 1
	if n := testing.AllocsPerRun(100, func() {
		if r, err := l.Hold(t.Context(), demands, ticket); err != nil || r.Kind != ledger.HoldTooLarge {
			t.Fatal(r, err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for a refusal, want 0", n)
	}
}
