package price

import (
	"math"
	"math/bits"
)

// sum adds up products without rounding, in 128 bits.
type sum struct {
	hi, lo uint64
	over   bool // it did not fit; far beyond any money
}

func (s *sum) add(count, rate uint64) {
	hi, lo := bits.Mul64(count, rate)
	s.addWide(hi, lo)
}

func (s *sum) addWide(hi, lo uint64) {
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, lo, 0)
	s.hi, carry = bits.Add64(s.hi, hi, carry)
	s.over = s.over || carry != 0
}

func (s *sum) scale(by uint64) {
	low, lo := bits.Mul64(s.lo, by)
	over, high := bits.Mul64(s.hi, by)
	var carry uint64
	s.lo = lo
	s.hi, carry = bits.Add64(low, high, 0)
	s.over = s.over || over != 0 || carry != 0
}

// Both scales divide 9e9: tokenScale × 9 = unitScale × 25.
const (
	commonScale = 9_000_000_000
	tokenFactor = commonScale / tokenScale
	unitFactor  = commonScale / unitScale
)

// total is tokens × by + units in nanodollars: one exact fraction, rounded once,
// half up. ok false: it is too large to be an amount.
func total(tokens, units sum, by multiplier) (nano int64, ok bool) {
	tokens.scale(tokenFactor)
	tokens.scale(by.numerator)
	units.scale(unitFactor)
	units.scale(multiplierScale)
	tokens.addWide(units.hi, units.lo)
	const divisor = commonScale * multiplierScale
	tokens.addWide(0, divisor/2)
	if tokens.over || units.over || tokens.hi >= divisor {
		return math.MaxInt64, false
	}
	quotient, _ := bits.Div64(tokens.hi, tokens.lo, divisor)
	if quotient > math.MaxInt64 {
		return math.MaxInt64, false
	}
	return int64(quotient), true
}

// multiplier is a factor in 10^-6.
type multiplier struct{ numerator uint64 }

const (
	multiplierPlaces = 6
	multiplierScale  = 1_000_000
)

var once = multiplier{multiplierScale}
