package main

import (
	"math"
	"slices"
	"time"
)

// spread is what rounds gave of one number.
type spread struct{ min, median, max float64 }

// spreadOf returns NaN throughout for no values, or where one of them is no number.
func spreadOf(values []float64) spread {
	if len(values) == 0 || slices.ContainsFunc(values, math.IsNaN) {
		return spread{math.NaN(), math.NaN(), math.NaN()}
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return spread{sorted[0], (sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[n-1]}
}

// over pairs two variants' values of the same rounds.
func over(a, b []float64, pair func(a, b float64) float64) spread {
	values := make([]float64, min(len(a), len(b)))
	for i := range values {
		values[i] = pair(a[i], b[i])
	}
	return spreadOf(values)
}

// ratio is NaN where there is nothing to divide by: what could not be measured is 0.
func ratio(a, b float64) float64 {
	if a == 0 || b == 0 {
		return math.NaN()
	}
	return a / b
}

func difference(a, b float64) float64 { return a - b }

// percentile is the smallest value that at least p percent of the values do
// not exceed, in microseconds. It sorts them.
func percentile(values []time.Duration, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	i := int(math.Ceil(p/100*float64(len(values)))) - 1
	return float64(values[max(0, min(i, len(values)-1))].Nanoseconds()) / 1e3
}
