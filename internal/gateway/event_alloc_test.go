//go:build !race

package gateway_test

import "testing"

// TestEventAllocations keeps the event path from growing. The race detector makes
// pools forget, so this holds without it.
func TestEventAllocations(t *testing.T) {
	const ceiling = 2
	for _, tc := range eventPaths {
		t.Run(tc.name, func(t *testing.T) {
			count := func(events bool) float64 {
				p := newEventPath(t, events, tc.asked, tc.contentType, tc.answer)
				return testing.AllocsPerRun(2000, func() { p.serve(tc.asked) })
			}
			without, with := count(false), count(true)
			t.Logf("%.0f allocations, of them %.0f for events", with, with-without)
			if with-without > ceiling {
				t.Errorf("events add %.0f allocations, ceiling %d", with-without, ceiling)
			}
		})
	}
}
