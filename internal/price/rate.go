package price

import "slices"

// rate is the price of one counter, by the length of the prompt.
type rate struct {
	known bool
	base  uint64
	steps []step // by above, ascending
}

// step replaces the rate when the prompt has more than above tokens: for all
// tokens, not only for those beyond it.
type step struct {
	above int64
	rate  uint64
}

// at is the rate for a prompt of that many tokens.
func (r *rate) at(prompt int64) uint64 {
	value := r.base
	for i := range r.steps {
		if prompt <= r.steps[i].above {
			break
		}
		value = r.steps[i].rate
	}
	return value
}

// dearest is the highest rate of a prompt of at most that many tokens.
func (r *rate) dearest(prompt int64) uint64 {
	value := r.base
	for i := range r.steps {
		if prompt <= r.steps[i].above {
			break
		}
		value = max(value, r.steps[i].rate)
	}
	return value
}

// rates are all prices of a model.
type rates [numPrices]rate

// settle gives counters without a price their parents'. Prices of some medium show
// that the model's media were looked at, as media says otherwise.
func (r *rates) settle(media bool) {
	media = media || slices.ContainsFunc(mediaCounters, func(c counter) bool { return r[c].known })
	for _, p := range parents {
		for _, from := range p.from {
			if !r[p.of].known && r[from].known && (media || !p.media) {
				r[p.of] = r[from]
			}
		}
	}
}

// over returns r with what is known in upper instead of its own.
func (r *rates) over(upper *rates) rates {
	merged := *r
	for i := range upper {
		if upper[i].known {
			merged[i] = upper[i]
		}
	}
	return merged
}

// free costs nothing, whatever is counted.
func free() (r rates) {
	for i := range r {
		r[i].known = true
	}
	return r
}

// addStep keeps the steps sorted; false: there is one at that length already.
func (r *rate) addStep(s step) bool {
	i, found := slices.BinarySearchFunc(r.steps, s.above, func(x step, above int64) int {
		switch {
		case x.above < above:
			return -1
		case x.above > above:
			return 1
		}
		return 0
	})
	if found {
		return false
	}
	r.steps = slices.Insert(r.steps, i, s)
	return true
}
