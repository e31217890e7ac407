// Package usd holds money: integers of nanodollars, and the decimals of dollars
// that people and JSON write for them.
package usd

import "strconv"

// Places are the decimal places of a nanodollar.
const Places = 9

// perUSD is how many nanodollars a dollar has.
const perUSD = 1_000_000_000

// Format writes nanodollars as a decimal number of dollars, exactly and without
// superfluous zeros.
func Format(nano int64) string { return string(Append(nil, nano)) }

// Append is [Format] for a buffer.
func Append(b []byte, nano int64) []byte {
	n := uint64(nano)
	if nano < 0 {
		b, n = append(b, '-'), -n
	}
	b = strconv.AppendUint(b, n/perUSD, 10)
	rest := n % perUSD
	if rest == 0 {
		return b
	}
	digits := [10]byte{'.'}
	for i := 9; i > 0; i-- {
		digits[i] = '0' + byte(rest%10)
		rest /= 10
	}
	end := 10
	for digits[end-1] == '0' {
		end--
	}
	return append(b, digits[:end]...)
}
