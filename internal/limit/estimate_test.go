package limit_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
)

func TestEstimate(t *testing.T) {
	t.Parallel()
	var e limit.Estimator
	check := func(body int64, model string, maxTokens, want int64) {
		t.Helper()
		if got := e.Estimate(body, model, maxTokens); got != want {
			t.Errorf("%d for a body of %d to %q with max_tokens %d, want %d", got, body, model, maxTokens, want)
		}
	}
	check(400, "m", 50, 150)
	check(400, "m", 0, 100)
	check(400, "m", -1, 100+1024)
	check(-5, "", -1, 1024)
	check(1<<62, "m", 1<<62, limit.MaxAmount)
	e.Observe("m", 7)
	check(0, "m", -1, 7)
	check(0, "other", -1, 1024)
	for i := range int64(100) {
		e.Observe("m", i+1)
	}
	if got := e.Estimate(0, "m", -1); got < 95 || got > 97 {
		t.Errorf("95 of 100 answers stay within %d", got)
	}
	for range 200 {
		e.Observe("m", 3)
	}
	check(0, "m", -1, 3)
	e.Observe("m", -1)
	long := strings.Repeat("m", 1000)
	e.Observe(long, 1)
	check(0, long, -1, 1024)
}

// TestEstimatorIsBounded: clients invent names of models.
func TestEstimatorIsBounded(t *testing.T) {
	t.Parallel()
	var e limit.Estimator
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 1000 {
				name := fmt.Sprint(g, "-", i)
				e.Observe(name, 5)
				e.Estimate(10, name, -1)
			}
		})
	}
	wg.Wait()
	known := 0
	for g := range 4 {
		for i := range 1000 {
			if e.Estimate(0, fmt.Sprint(g, "-", i), -1) == 5 {
				known++
			}
		}
	}
	if known != 1024 {
		t.Errorf("%d models are remembered, want 1024", known)
	}
}
