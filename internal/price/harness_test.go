package price_test

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sofatutor/caddy-llm-proxy/internal/price"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// now is the day of the snapshot, at noon.
var now = time.Date(2026, 9, 23, 12, 0, 0, 0, time.UTC)

func parse(t testing.TB, text string) *price.Overrides {
	t.Helper()
	o, err := price.ParseOverrides(strings.NewReader(text))
	if err != nil {
		t.Fatalf("ParseOverrides(%s): %v", text, err)
	}
	return o
}

// table makes a table below overrides; "" for none.
func table(t testing.TB, overrides string) *price.Table {
	t.Helper()
	var o *price.Overrides
	if overrides != "" {
		o = parse(t, overrides)
	}
	tab, err := price.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

type looker interface {
	Lookup(provider, kind, model string, at time.Time) (*price.Price, bool)
}

// find looks up a model of a preset, which must have a price.
func find(t testing.TB, l looker, provider, model string) *price.Price {
	t.Helper()
	p, ok := l.Lookup(provider, provider, model, now)
	if !ok {
		t.Fatalf("%s %s has no price", provider, model)
	}
	return p
}

const unknown = -1

// cost is unknown when it is not complete.
func cost(t testing.TB, p *price.Price, q price.Quantities, tier string) int64 {
	t.Helper()
	n, complete := p.Cost(q, tier)
	if !complete {
		if n != 0 {
			t.Errorf("%+v: not complete, but %d", q, n)
		}
		return unknown
	}
	return n
}

const million = 1_000_000

// usd is an amount of thousandths of a dollar.
func usd(thousandths int64) int64 { return thousandths * million }
