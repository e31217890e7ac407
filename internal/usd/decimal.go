package usd

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Errors of [ParseDecimal] and [Parse].
var (
	ErrDecimal   = errors.New(`expected US dollars as a decimal, such as "2.50" or 0.075`)
	ErrNegative  = errors.New("must not be negative")
	ErrTooLarge  = errors.New("is too large")
	ErrPrecision = errors.New("has too many decimal places")
)

// maxDecimal is longer than any price; JSON numbers have no limit of their own.
const maxDecimal = 64

// ParseDecimal reads a decimal, with or without exponent, as an integer of
// 10^-places. It is exact: what does not fit is an error.
func ParseDecimal(text string, places int) (uint64, error) {
	if len(text) > maxDecimal {
		return 0, ErrPrecision
	}
	mantissa, exponent := text, 0
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		e, err := strconv.Atoi(text[i+1:])
		if err != nil || e < -maxDecimal || e > maxDecimal {
			return 0, ErrDecimal
		}
		mantissa, exponent = text[:i], e
	}
	if strings.HasPrefix(mantissa, "-") {
		return 0, ErrNegative
	}
	whole, fraction, point := strings.Cut(mantissa, ".")
	digits := whole + fraction
	if digits == "" || point && fraction == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, ErrDecimal
	}
	digits = strings.TrimLeft(digits, "0")
	if digits == "" {
		return 0, nil
	}
	shift := places + exponent - len(fraction)
	if shift < 0 {
		drop := min(-shift, len(digits))
		if strings.Trim(digits[len(digits)-drop:], "0") != "" || -shift > len(digits) {
			return 0, fmt.Errorf("%w: at most %d", ErrPrecision, places)
		}
		digits = digits[:len(digits)-drop]
	} else {
		digits += strings.Repeat("0", shift)
	}
	value, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0, ErrTooLarge
	}
	return value, nil
}
