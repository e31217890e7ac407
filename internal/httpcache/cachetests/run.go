package cachetests

import (
	"sync"
	"testing"
)

// Expected lists the tests that do not pass, and how they end instead, each with
// the reason beside it where it is written.
type Expected map[string]Outcome

// Summary counts how tests ended.
type Summary struct {
	Passed, SafetyFailed, OtherFailed, Setup int
}

// atOnce is how many tests run at a time. Most of their time they wait.
const atOnce = 64

// Run runs tests, many at once, each against the cache that proxy gives for it,
// and fails those that do not end as expected: one that passes though it is
// listed, too, so that the list stays true.
func Run(t *testing.T, tests []Test, proxy func(testing.TB) *Proxy, expected Expected) Summary {
	t.Helper()
	var sum Summary
	listed := map[string]bool{}
	for i, got := range results(t, tests, proxy) {
		test := &tests[i]
		sum.add(test, got.Outcome)
		want := Pass
		if o, ok := expected[test.ID]; ok {
			want, listed[test.ID] = o, true
		}
		t.Run(test.ID, func(t *testing.T) {
			if got.Outcome != want {
				t.Errorf("%s: %s, not %s: %s", test.Name, got.Outcome, want, got.Message)
			}
		})
	}
	for id := range expected {
		if !listed[id] {
			t.Errorf("%s is expected to end in some way, but is not among the tests", id)
		}
	}
	return sum
}

// results runs tests and says how they ended. They do not run as parallel tests
// do, of which there are as many as there are processors.
func results(t testing.TB, tests []Test, proxy func(testing.TB) *Proxy) []Result {
	out := make([]Result, len(tests))
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i := range tests {
		p := proxy(t)
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			out[i] = p.Run(t.Context(), &tests[i])
		})
	}
	wg.Wait()
	return out
}

func (s *Summary) add(t *Test, o Outcome) {
	switch {
	case o == Pass:
		s.Passed++
	case o == Setup:
		s.Setup++
	case t.Safety():
		s.SafetyFailed++
	default:
		s.OtherFailed++
	}
}
