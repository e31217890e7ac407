package price

import "github.com/sofatutor/caddy-llm-proxy/internal/usd"

// rate reads a price.
func (n name) rate(text string) (uint64, error) {
	if n.factor == 0 {
		return usd.ParseDecimal(text, tokenPlaces)
	}
	nano, err := usd.ParseDecimal(text, unitPlaces)
	if err != nil {
		return 0, err
	}
	if nano > ^uint64(0)/n.factor {
		return 0, usd.ErrTooLarge
	}
	return nano * n.factor, nil
}
