package usd_test

import (
	"errors"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
)

func TestAmountJSON(t *testing.T) {
	for text, want := range map[string]usd.Amount{
		`"12.50"`: 12_500_000_000, `12.5`: 12_500_000_000, `0`: 0, `"0.000000001"`: 1, `1e2`: 100_000_000_000,
	} {
		var got usd.Amount
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", text, got, err, want)
		}
		back, err := json.Marshal(got)
		if err != nil || string(back) != `"`+want.String()+`"` {
			t.Errorf("%s: written as %s, %v", text, back, err)
		}
	}
	for text, want := range map[string]error{
		`true`: usd.ErrDecimal, `"x"`: usd.ErrDecimal, `-1`: usd.ErrNegative, `"9223372037"`: usd.ErrTooLarge, `"0.0000000001"`: usd.ErrPrecision,
	} {
		var got usd.Amount
		if err := json.Unmarshal([]byte(text), &got); !errors.Is(err, want) {
			t.Errorf("%s: %d, %v; want %v", text, got, err, want)
		}
	}
}
