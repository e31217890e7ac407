package adminapi

import (
	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
)

// limitFields are the members that set [project.Limits], null meaning none.
type limitFields struct {
	RPM          opt[int64]          `json:"rpm"`
	TPM          opt[int64]          `json:"tpm"`
	Concurrency  opt[int64]          `json:"concurrency"`
	MaxRequests  opt[int64]          `json:"max_requests"`
	BudgetUSD    opt[usd.Amount]     `json:"budget_usd"`
	BudgetPeriod opt[project.Period] `json:"budget_period"`
}

// allowFields are the members of projects alone that let pass what a budget would
// refuse.
type allowFields struct {
	AllowUnpriced  opt[bool] `json:"allow_unpriced"`
	AllowUnbounded opt[bool] `json:"allow_unbounded"`
}

func (f *limitFields) given() bool {
	return f.RPM.set || f.TPM.set || f.Concurrency.set || f.MaxRequests.set || f.BudgetUSD.set || f.BudgetPeriod.set
}

// change gives l the limits of a request. They are checked with the policy.
func (f *limitFields) change(ch changes, l *project.Limits) error {
	if !f.given() {
		return nil
	}
	setLimit(ch, "rpm", &l.RPM, f.RPM)
	setLimit(ch, "tpm", &l.TPM, f.TPM)
	setLimit(ch, "concurrency", &l.Concurrency, f.Concurrency)
	setLimit(ch, "max_requests", &l.MaxRequests, f.MaxRequests)
	setLimit(ch, "budget_usd", &l.BudgetUSD, f.BudgetUSD)
	period := l.BudgetPeriod
	switch {
	case f.BudgetPeriod.set && !f.BudgetPeriod.null && f.BudgetPeriod.value == "":
		return invalid("budget_period", "expected total, day, week or month; null is total")
	case f.BudgetPeriod.set:
		period = f.BudgetPeriod.value // null: the default
	case l.BudgetUSD == nil: // a period goes with its budget
		period = ""
	}
	if period == "" && l.BudgetUSD != nil {
		period = project.Total // answers and records tell what is meant
	}
	if period != l.BudgetPeriod {
		ch["budget_period"] = audit.Change{Before: recorded(&l.BudgetPeriod), After: recorded(&period)}
		l.BudgetPeriod = period
	}
	return nil
}

func (f *allowFields) change(ch changes, l *project.Limits) error {
	return firstOf(
		set(ch, "allow_unpriced", &l.AllowUnpriced, f.AllowUnpriced),
		set(ch, "allow_unbounded", &l.AllowUnbounded, f.AllowUnbounded),
	)
}

// setLimit gives *field the value of a request's member, null meaning none.
func setLimit[T comparable](ch changes, name string, field **T, o opt[T]) {
	if !o.set {
		return
	}
	var after *T
	if !o.null {
		after = &o.value
	}
	before := *field
	if before == nil && after == nil || before != nil && after != nil && *before == *after {
		return
	}
	ch[name] = audit.Change{Before: recorded(before), After: recorded(after)}
	*field = after
}

// recorded is a limit as the audit shows it.
func recorded[T any](p *T) any {
	if p == nil {
		return nil
	}
	switch v := any(*p).(type) {
	case usd.Amount:
		return v.String() // nobody reads nanodollars
	case project.Period:
		if v == "" {
			return nil
		}
	}
	return *p
}
