// Package price knows what a call costs, in integer nanodollars (10^-9 USD).
package price

import (
	"math"
	"strings"
)

// Price is what a provider charges for a model at a time. It is immutable.
type Price struct {
	standard rates
	tiers    []tier
	limits   limits
	free     bool // at every service tier
}

// tier is a service tier other than the standard one.
type tier struct {
	name  string
	by    multiplier
	rates *rates
}

// limits are what a model takes and gives at most; 0: not known.
type limits struct {
	contextWindow, maxInput, maxOutput int64
	minAudioMillis                     int64 // a shorter recording is charged as if it took this long
}

// standardTiers are what providers call the tier that the prices are for.
var standardTiers = []string{"default", "standard", "standard_only", "on_demand"}

func isStandard(tier string) bool {
	if tier == "" {
		return true
	}
	for _, s := range standardTiers {
		if strings.EqualFold(s, tier) {
			return true
		}
	}
	return false
}

// tier returns the prices of a service tier; nil: they are not known.
func (p *Price) tier(name string) (*rates, multiplier) {
	if p.free || isStandard(name) {
		return &p.standard, once
	}
	for i := range p.tiers {
		if t := &p.tiers[i]; strings.EqualFold(t.name, name) {
			return t.rates, t.by
		}
	}
	return nil, multiplier{}
}

// Cost is what the quantities cost at a service tier: the one that the answer
// names, "" if it names none. The exact sum is rounded once, half up. The cost is
// not complete, and 0, when the tier's prices are not known, or when something
// was used that has no price; it is then unknown rather than small.
func (p *Price) Cost(q Quantities, serviceTier string) (nanoUSD int64, complete bool) {
	r, by := p.tier(serviceTier)
	if r == nil {
		return 0, false
	}
	counts := q.counts()
	var prompt int64
	for _, n := range counts[:firstOutput] {
		prompt = addSaturating(prompt, n)
	}
	counts[inputAudioTime] = p.limits.billedAudio(counts[inputAudioTime])
	var tokens, units sum
	for i, n := range counts {
		switch {
		case n == 0, i == int(requests) && !r[i].known: // most charge nothing for a request as such
		case n < 0, !r[i].known:
			return 0, false
		case i < int(numTokens):
			tokens.add(uint64(n), r[i].at(prompt))
		default:
			units.add(uint64(n), r[i].base)
		}
	}
	nanoUSD, ok := total(tokens, units, by)
	if !ok {
		return 0, false
	}
	return nanoUSD, true
}

// MaxInput is how many tokens the model reads at most: its context window where
// nothing else is said.
func (p *Price) MaxInput() (tokens int64, known bool) { return p.limits.either(p.limits.maxInput) }

// MaxOutput is how many tokens the model writes at most: what an override says, else
// what its provider documents, else its context window, since the answer has to fit in
// there too.
func (p *Price) MaxOutput() (tokens int64, known bool) { return p.limits.either(p.limits.maxOutput) }

func (l *limits) either(n int64) (int64, bool) {
	if n == 0 {
		n = l.contextWindow
	}
	return n, n > 0
}

func (l *limits) billedAudio(millis int64) int64 {
	if millis > 0 {
		return max(millis, l.minAudioMillis)
	}
	return millis
}

func addSaturating(a, b int64) int64 {
	if b > 0 && a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + max(b, 0)
}
