package price

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Errors of decimals.
var (
	errDecimal   = errors.New(`expected US dollars as a decimal, such as "2.50" or 0.075`)
	errNegative  = errors.New("must not be negative")
	errTooLarge  = errors.New("is too large")
	errPrecision = errors.New("has too many decimal places")
)

// maxDecimal is longer than any price; JSON numbers have no limit of their own.
const maxDecimal = 64

// parseDecimal reads a decimal, with or without exponent, as an integer of
// 10^-places. It is exact: what does not fit is an error.
func parseDecimal(text string, places int) (uint64, error) {
	if len(text) > maxDecimal {
		return 0, errPrecision
	}
	mantissa, exponent := text, 0
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		e, err := strconv.Atoi(text[i+1:])
		if err != nil || e < -maxDecimal || e > maxDecimal {
			return 0, errDecimal
		}
		mantissa, exponent = text[:i], e
	}
	if strings.HasPrefix(mantissa, "-") {
		return 0, errNegative
	}
	whole, fraction, point := strings.Cut(mantissa, ".")
	digits := whole + fraction
	if digits == "" || point && fraction == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, errDecimal
	}
	digits = strings.TrimLeft(digits, "0")
	if digits == "" {
		return 0, nil
	}
	shift := places + exponent - len(fraction)
	if shift < 0 {
		drop := min(-shift, len(digits))
		if strings.Trim(digits[len(digits)-drop:], "0") != "" || -shift > len(digits) {
			return 0, fmt.Errorf("%w: at most %d", errPrecision, places)
		}
		digits = digits[:len(digits)-drop]
	} else {
		digits += strings.Repeat("0", shift)
	}
	value, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0, errTooLarge
	}
	return value, nil
}

// rate reads a price.
func (n name) rate(text string) (uint64, error) {
	if n.factor == 0 {
		return parseDecimal(text, tokenPlaces)
	}
	nano, err := parseDecimal(text, unitPlaces)
	if err != nil {
		return 0, err
	}
	if nano > ^uint64(0)/n.factor {
		return 0, errTooLarge
	}
	return nano * n.factor, nil
}
