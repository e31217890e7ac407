package price

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
)

// complete checks what can be judged only when a model's members are all read.
func (o *override) complete() error {
	switch {
	case o.free && (o.priced || len(o.tiers) > 0):
		return errors.New("free stands beside prices; expected either")
	case o.free:
		o.rates, o.priced = free(), true
	case !o.priced && len(o.tiers) == 0 && o.limits == (limits{}):
		return errors.New("says nothing; expected prices, or free")
	}
	return o.rates.checkSteps()
}

// checkSteps reports prices of long prompts without one for the others.
func (r *rates) checkSteps() error {
	for c := range r {
		if len(r[c].steps) > 0 && !r[c].known {
			return errors.New("long_context has a price of " + rateName(counter(c)) + ", so there must be one for shorter prompts beside it")
		}
	}
	return nil
}

func (p *overridesParser) checkSteps(r *rates) error {
	if err := r.checkSteps(); err != nil {
		return p.errorf("%v", err)
	}
	return nil
}

func rateName(c counter) string {
	for text, n := range overrideNames {
		if n.what == c {
			return text
		}
	}
	return ""
}

// rateNames lists the prices for people, those of tokens first.
func rateNames(all bool) string {
	names := slices.SortedFunc(maps.Keys(overrideNames), func(a, b string) int {
		return cmp.Compare(overrideNames[a].what, overrideNames[b].what)
	})
	if !all {
		names = slices.DeleteFunc(names, func(n string) bool { return overrideNames[n].factor != 0 })
	}
	return strings.Join(names, ", ")
}
