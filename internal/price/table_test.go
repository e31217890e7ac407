package price_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/price"
)

// TestConcurrentLookups has more names than are remembered, on tables that are
// shared.
func TestConcurrentLookups(t *testing.T) {
	tab := table(t, `{"openai": {"gpt-4o": {"input": "2"}}}`)
	project := parse(t, `{"openai": {"gpt-4o": {"input": "1"}}}`)
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for i := range 1500 {
				if _, ok := tab.With(project).Lookup("openai", "openai", fmt.Sprint("made-up-", worker, i), now); ok {
					t.Error("a made-up model has a price")
				}
				for l, want := range map[looker]int64{tab: 2000, tab.With(project): 1000} {
					if p, ok := l.Lookup("openai", "openai", "gpt-4o", now); !ok {
						t.Error("gpt-4o has no price")
					} else if got, _ := p.Cost(price.Quantities{Input: 1}, ""); got != want {
						t.Errorf("%d, want %d", got, want)
					}
				}
			}
		})
	}
	group.Wait()
}

func TestAllocations(t *testing.T) {
	tab := table(t, `{"openai": {"gpt-4o": {"service_tiers": {"flex": {"multiplier": "0.5"}}}}}`)
	project := parse(t, `{"openai": {"gpt-4o": {"input": "2"}}}`)
	var sink int64
	n := testing.AllocsPerRun(1000, func() {
		prices := tab.With(project)
		p, _ := prices.Lookup("openai", "openai", "gpt-4o", now)
		bound, _ := p.UpperBound(price.Maxima{Input: 4000, Output: 1000, WebSearches: 1}, "flex")
		cost, _ := p.Cost(price.Quantities{Input: 1000, CacheRead: 500, Output: 400, Reasoning: 300}, "flex")
		tab.Lookup("openai", "openai", "no-such-model", now)
		sink += bound - cost + int64(len(prices.Version()))
	})
	if n != 0 || sink == 0 {
		t.Errorf("%v allocations, sum %d", n, sink)
	}
}

func BenchmarkLookup(b *testing.B) {
	tab := table(b, "")
	project := parse(b, `{"openai": {"gpt-4o": {"input": "2"}}}`)
	for name, tc := range map[string]struct {
		prices price.Prices
		model  string
	}{"table": {tab.With(nil), "gpt-4o-2024-08-06"}, "project": {tab.With(project), "gpt-4o"}, "unknown": {tab.With(nil), "no-such-model"}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				tc.prices.Lookup("openai", "openai", tc.model, now)
			}
		})
	}
	b.Run("cold", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			tab.Lookup("openrouter", "openrouter", fmt.Sprint("made-up-", i), now)
		}
	})
}

func BenchmarkCost(b *testing.B) {
	p := find(b, table(b, ""), "openai", "gpt-5.4")
	b.ReportAllocs()
	for b.Loop() {
		p.Cost(price.Quantities{Input: 1000, CacheRead: 500, Output: 400, Reasoning: 300}, "default")
	}
}

func BenchmarkUpperBound(b *testing.B) {
	p := find(b, table(b, ""), "openai", "gpt-5.4")
	b.ReportAllocs()
	for b.Loop() {
		p.UpperBound(price.Maxima{Input: 4000, Output: 1000})
	}
}
