package usd

import (
	"math"

	"github.com/go-json-experiment/json/jsontext"
)

// Amount is a sum of money in nanodollars. In JSON it is a string, which no
// client rounds; a number is read as well.
type Amount int64

// Parse reads a decimal of dollars with at most nine places.
func Parse(text string) (Amount, error) {
	n, err := ParseDecimal(text, Places)
	switch {
	case err != nil:
		return 0, err
	case n > math.MaxInt64:
		return 0, ErrTooLarge
	}
	return Amount(n), nil
}

// String is the amount in dollars.
func (a Amount) String() string { return Format(int64(a)) }

// MarshalJSONTo implements [json.MarshalerTo].
func (a Amount) MarshalJSONTo(e *jsontext.Encoder) error {
	return e.WriteToken(jsontext.String(a.String()))
}

// UnmarshalJSONFrom implements [json.UnmarshalerFrom].
func (a *Amount) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	token, err := d.ReadToken()
	if err != nil {
		return err
	}
	if kind := token.Kind(); kind != '"' && kind != '0' {
		return ErrDecimal
	}
	*a, err = Parse(token.String())
	return err
}
