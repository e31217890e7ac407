package cli

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
)

// None is what flags take for no limit. An empty text is not: a variable that is
// not set must not remove a limit.
const None = "none"

// SetLimit sets a limit as its flag gives it: a number, an amount of dollars, a
// period, or none.
func (f Fields) SetLimit(flag, text string) error {
	name := strings.ReplaceAll(flag, "-", "_")
	if text == None {
		f[name] = nil
		return nil
	}
	switch name {
	case "budget_usd":
		amount, err := usd.Parse(text)
		if err != nil {
			return Usagef("--%s: %v, or %s", flag, err, None)
		}
		f[name] = amount.String()
	case "budget_period":
		switch project.Period(text) {
		case project.Total, project.Day, project.Week, project.Month:
		default:
			return Usagef("--%s: expected total, day, week or month, or %s", flag, None)
		}
		f[name] = text
	default:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 || n > project.MaxLimit {
			return Usagef("--%s: expected a whole number from 0 to %d, or %s", flag, int64(project.MaxLimit), None)
		}
		f[name] = n
	}
	return nil
}

// limits are those of a project or a token, and what is used of them.
type limits struct {
	RPM            quantity       `json:"rpm"`
	TPM            quantity       `json:"tpm"`
	Concurrency    quantity       `json:"concurrency"`
	MaxRequests    quantity       `json:"max_requests"`
	BudgetUSD      quantity       `json:"budget_usd"`
	BudgetPeriod   string         `json:"budget_period"`
	AllowUnpriced  bool           `json:"allow_unpriced"`
	AllowUnbounded bool           `json:"allow_unbounded"`
	Usage          []limitBalance `json:"limits_usage"`
}

// limitBalance is what is used of one limit.
type limitBalance struct {
	Limit     string     `json:"limit"`
	Used      quantity   `json:"used"`
	Held      quantity   `json:"held"`
	Available quantity   `json:"available"`
	ResetsAt  *time.Time `json:"resets_at"`
}

// quantity is a number of requests or tokens, or an amount of dollars, as the API
// writes it; "" is none.
type quantity string

// UnmarshalJSON takes numbers and texts.
func (q *quantity) UnmarshalJSON(text []byte) error {
	if text[0] == '"' {
		return json.Unmarshal(text, (*string)(q))
	}
	if string(text) == "null" {
		return nil
	}
	*q = quantity(text)
	return nil
}

func (l *limits) pairs() []string {
	budget := l.BudgetUSD
	if period := project.Period(l.BudgetPeriod); budget != "" && period != "" && period != project.Total {
		budget += quantity(" a " + period)
	}
	pairs := []string{
		"requests a minute", l.line("rpm", l.RPM),
		"tokens a minute", l.line("tpm", l.TPM),
		"concurrency", l.line("concurrency", l.Concurrency),
		"max requests", l.line("max_requests", l.MaxRequests),
		"budget $", l.line("budget_usd", budget),
	}
	if l.AllowUnpriced {
		pairs = append(pairs, "unpriced models", "allowed")
	}
	if l.AllowUnbounded {
		pairs = append(pairs, "unbounded work", "allowed")
	}
	return pairs
}

// line is a limit and what is used of it, when that is told.
func (l *limits) line(name string, limit quantity) string {
	text := string(limit)
	for _, b := range l.Usage {
		if b.Limit != name || limit == "" {
			continue
		}
		text += ": " + string(b.Used) + " used, " + string(b.Held) + " held, " + string(b.Available) + " available"
		if b.ResetsAt != nil {
			text += ", anew at " + timeText(b.ResetsAt, "")
		}
	}
	return text
}
