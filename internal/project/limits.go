package project

import (
	"fmt"

	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
)

// MaxLimit bounds the limits that count requests and tokens.
const MaxLimit = 1_000_000_000_000_000

// Limits bound how much requests may use, all that have them together: of a token
// those with it, of a project those with any of its tokens. nil does not limit; 0
// lets nothing through.
type Limits struct {
	RPM          *int64      `json:"rpm,omitzero"`          // requests in any minute
	TPM          *int64      `json:"tpm,omitzero"`          // tokens in any minute, input and output
	Concurrency  *int64      `json:"concurrency,omitzero"`  // requests at a time
	MaxRequests  *int64      `json:"max_requests,omitzero"` // that reach a provider, ever
	BudgetUSD    *usd.Amount `json:"budget_usd,omitzero"`   // spent within one period
	BudgetPeriod Period      `json:"budget_period,omitzero"`

	// AllowUnpriced lets models pass that nobody knows the price of, although there
	// is a budget: they cost it nothing. Of a project alone.
	AllowUnpriced bool `json:"allow_unpriced,omitzero"`
	// AllowUnbounded lets work pass whose cost nobody can bound when it is asked for,
	// although there is a budget: batches, fine-tuning, background answers, sessions. Of
	// a project alone.
	AllowUnbounded bool `json:"allow_unbounded,omitzero"`
}

// Period is how long a budget lasts; each begins at midnight UTC.
type Period string

// The periods. The zero Period is Total.
const (
	Total Period = "total" // for ever
	Day   Period = "day"
	Week  Period = "week" // from Monday, as ISO 8601 has it
	Month Period = "month"
)

// Validate reports the first limit that cannot work.
func (l *Limits) Validate() error {
	for _, n := range []struct {
		name  string
		value *int64
	}{{"rpm", l.RPM}, {"tpm", l.TPM}, {"concurrency", l.Concurrency}, {"max_requests", l.MaxRequests}} {
		if n.value != nil && (*n.value < 0 || *n.value > MaxLimit) {
			return fmt.Errorf("%s: expected a whole number from 0 to %d", n.name, int64(MaxLimit))
		}
	}
	if l.BudgetUSD != nil && *l.BudgetUSD < 0 {
		return fmt.Errorf("budget_usd: must not be negative")
	}
	switch l.BudgetPeriod {
	case "", Total, Day, Week, Month:
	default:
		return fmt.Errorf("budget_period: expected total, day, week or month")
	}
	if l.BudgetPeriod != "" && l.BudgetUSD == nil {
		return fmt.Errorf("budget_period: there is no budget_usd that it could be for")
	}
	return nil
}
