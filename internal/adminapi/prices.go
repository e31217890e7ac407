package adminapi

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/price"
)

// maxPrices bounds a project's prices, in bytes: requests carry them.
const maxPrices = 64 << 10

// maxAuditPrices is how much of them an audit record shows, in bytes.
const maxAuditPrices = 4 << 10

// prices are taken as they come, so that what is wrong with them is told by those
// who read them.
type prices = jsontext.Value

// setPrices gives *field the prices of a request, null meaning none.
func setPrices(ch changes, field **price.Overrides, o opt[prices]) error {
	if !o.set {
		return nil
	}
	var after *price.Overrides
	if !o.null {
		if len(o.value) > maxPrices {
			return invalid("prices", "have %d bytes, at most %d are allowed", len(o.value), maxPrices)
		}
		parsed, err := price.ParseOverrides(bytes.NewReader(o.value))
		if err != nil {
			return invalid("prices", "%v", err)
		}
		if pricesText(parsed) != "{}" {
			after = parsed
		}
	}
	before := pricesText(*field)
	if text := pricesText(after); text != before {
		ch["prices"] = audit.Change{Before: clip(before, maxAuditPrices), After: clip(text, maxAuditPrices)}
		*field = after
	}
	return nil
}

// pricesText is the prices in one form, for comparison and for the audit.
func pricesText(o *price.Overrides) string {
	if o == nil {
		return ""
	}
	text, err := o.MarshalJSON()
	if err != nil {
		return "" // it was read from JSON
	}
	return string(text)
}
