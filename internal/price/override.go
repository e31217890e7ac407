package price

import "slices"

// override is what is said about the models that a glob matches.
type override struct {
	rates  rates
	tiers  []*overrideTier
	limits limits
	free   bool
	priced bool // says something about the price
}

// overrideTier is a service tier: a multiplier, or prices of its own.
type overrideTier struct {
	name  string
	by    multiplier // zero: prices of its own
	rates rates
}

// price makes the tier of a model. Prices of its own are all there are for its
// tokens: what it leaves out falls back within the tier, as it would cost less at
// the standard tier. Searches and the like cost the same at all tiers.
func (t *overrideTier) price(standard *rates, media bool) tier {
	if t.by != (multiplier{}) {
		return tier{t.name, t.by, standard}
	}
	own := t.rates
	own.settle(media)
	for c := numTokens; c < numCounters; c++ {
		if !own[c].known {
			own[c] = standard[c]
		}
	}
	return tier{t.name, once, &own}
}

// mergeTiers replaces whole tiers.
func mergeTiers(lower, upper []*overrideTier) []*overrideTier {
	merged := slices.Clone(lower)
	for _, t := range upper {
		if i := slices.IndexFunc(merged, func(x *overrideTier) bool { return x.name == t.name }); i >= 0 {
			merged[i] = t
		} else {
			merged = append(merged, t)
		}
	}
	return merged
}
