package event

import "strconv"

// nanoPerUSD is how many nanodollars a dollar has.
const nanoPerUSD = 1_000_000_000

// USD writes nanodollars as a decimal number of dollars, exactly and without
// superfluous zeros.
func USD(nano int64) string { return string(AppendUSD(nil, nano)) }

// AppendUSD is USD for a buffer.
func AppendUSD(b []byte, nano int64) []byte {
	n := uint64(nano)
	if nano < 0 {
		b, n = append(b, '-'), -n
	}
	b = strconv.AppendUint(b, n/nanoPerUSD, 10)
	rest := n % nanoPerUSD
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
