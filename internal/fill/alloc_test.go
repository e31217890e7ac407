//go:build !race

package fill_test

import (
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/fill"
)

// TestAllocations holds what a fill takes, and that a piece takes nothing but its bytes.
func TestAllocations(t *testing.T) {
	g := fill.New(fill.Options{})
	defer g.Close()
	if n := testing.AllocsPerRun(100, answerOf(t, g, 1)); n > 12 {
		t.Errorf("%v allocations for an answer in one piece", n)
	}
	// 32 KiB of body and half a dozen steps in which the marks grow.
	if n := testing.AllocsPerRun(100, answerOf(t, g, 160)); n > 12+9 {
		t.Errorf("%v allocations for an answer in 160 pieces", n)
	}
}
