package usd_test

import (
	"math"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
)

func TestFormat(t *testing.T) {
	for nano, want := range map[int64]string{
		0: "0", 1: "0.000000001", 1_000_000_000: "1", 1_500_000_000: "1.5", 123_000_000_456: "123.000000456", -10: "-0.00000001",
		math.MaxInt64: "9223372036.854775807", math.MinInt64: "-9223372036.854775808",
	} {
		if got := usd.Format(nano); got != want {
			t.Errorf("%d: %s, want %s", nano, got, want)
		}
	}
}
