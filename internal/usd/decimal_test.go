package usd_test

import (
	"errors"
	"math/big"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
)

func TestParseDecimal(t *testing.T) {
	for _, tc := range []struct {
		text   string
		places int
		want   uint64
		err    error
	}{
		{"2.5", 3, 2500, nil},
		{"0.003625", 12, 3_625_000_000, nil},
		{"10", 0, 10, nil},
		{"2e5", 0, 200_000, nil},
		{"1E-7", 9, 100, nil},
		{"1.50e1", 0, 15, nil},
		{"0.10", 1, 1, nil},
		{".5", 1, 5, nil},
		{"0", 12, 0, nil},
		{"0e60", 12, 0, nil},
		{"0.000", 1, 0, nil},
		{"18446744073709551615", 0, 18446744073709551615, nil},
		{"18446744073709551616", 0, 0, usd.ErrTooLarge},
		{"1e20", 0, 0, usd.ErrTooLarge},
		{"0.15", 1, 0, usd.ErrPrecision},
		{"1e-3", 2, 0, usd.ErrPrecision},
		{"1e-60", 12, 0, usd.ErrPrecision},
		{"0.0000000000000000000000000000000000000000000000000000000000000000", 2, 0, usd.ErrPrecision},
		{"-1", 1, 0, usd.ErrNegative},
		{"", 1, 0, usd.ErrDecimal},
		{".", 1, 0, usd.ErrDecimal},
		{"5.", 1, 0, usd.ErrDecimal},
		{"1e", 1, 0, usd.ErrDecimal},
		{"1e999", 1, 0, usd.ErrDecimal},
		{"e5", 1, 0, usd.ErrDecimal},
		{"+1", 1, 0, usd.ErrDecimal},
		{"1.2.3", 1, 0, usd.ErrDecimal},
		{"0x10", 1, 0, usd.ErrDecimal},
		{"1_000", 1, 0, usd.ErrDecimal},
		{" 1", 1, 0, usd.ErrDecimal},
		{"NaN", 1, 0, usd.ErrDecimal},
	} {
		if got, err := usd.ParseDecimal(tc.text, tc.places); got != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%q with %d places: %d, %v; want %d, %v", tc.text, tc.places, got, err, tc.want, tc.err)
		}
	}
}

// FuzzParseDecimal: what is accepted is exactly what the text says.
func FuzzParseDecimal(f *testing.F) {
	for _, text := range []string{"2.5", "1e-7", "0.08333333333333334", "00.10", "1E3"} {
		f.Add(text, 12)
	}
	f.Fuzz(func(t *testing.T, text string, places int) {
		places &= 15
		got, err := usd.ParseDecimal(text, places)
		if err != nil {
			return
		}
		want, ok := new(big.Rat).SetString(text)
		if !ok {
			t.Fatalf("%q is accepted, but is no number", text)
		}
		scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(places)), nil)
		want.Mul(want, new(big.Rat).SetInt(scale))
		if !want.IsInt() || want.Num().Cmp(new(big.Int).SetUint64(got)) != 0 {
			t.Errorf("%q with %d places: %d, want %s", text, places, got, want)
		}
	})
}
