package project_test

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/usd"
)

func TestValidateLimits(t *testing.T) {
	number := func(n int64) *int64 { return &n }
	dollars := func(a usd.Amount) *usd.Amount { return &a }
	for _, tc := range []struct {
		name   string
		limits project.Limits
		want   string // how the error begins; "": valid
	}{
		{"none", project.Limits{}, ""},
		{"nothing goes", project.Limits{RPM: number(0), TPM: number(0), Concurrency: number(0), MaxRequests: number(0), BudgetUSD: dollars(0)}, ""},
		{"the largest", project.Limits{RPM: number(1e15), TPM: number(1e15), Concurrency: number(1e15), MaxRequests: number(1e15), BudgetUSD: dollars(math.MaxInt64)}, ""},
		{"a total", project.Limits{BudgetUSD: dollars(1), BudgetPeriod: project.Total}, ""},
		{"a day", project.Limits{BudgetUSD: dollars(1), BudgetPeriod: project.Day}, ""},
		{"a week", project.Limits{BudgetUSD: dollars(1), BudgetPeriod: project.Week}, ""},
		{"a month", project.Limits{BudgetUSD: dollars(1), BudgetPeriod: project.Month}, ""},
		{"without a budget", project.Limits{AllowUnpriced: true, AllowUnbounded: true}, ""},
		{"rpm below", project.Limits{RPM: number(-1)}, "rpm: expected a whole number from 0 to 1000000000000000"},
		{"rpm beyond", project.Limits{RPM: number(1e15 + 1)}, "rpm: expected"},
		{"tpm below", project.Limits{TPM: number(math.MinInt64)}, "tpm: expected"},
		{"tpm beyond", project.Limits{TPM: number(math.MaxInt64)}, "tpm: expected"},
		{"concurrency below", project.Limits{Concurrency: number(-1)}, "concurrency: expected"},
		{"concurrency beyond", project.Limits{Concurrency: number(1e15 + 1)}, "concurrency: expected"},
		{"max_requests below", project.Limits{MaxRequests: number(-1)}, "max_requests: expected"},
		{"max_requests beyond", project.Limits{MaxRequests: number(1e15 + 1)}, "max_requests: expected"},
		{"a debt", project.Limits{BudgetUSD: dollars(-1)}, "budget_usd: must not be negative"},
		{"a year", project.Limits{BudgetUSD: dollars(1), BudgetPeriod: "year"}, "budget_period: expected total, day, week or month"},
		{"a period's case", project.Limits{BudgetUSD: dollars(1), BudgetPeriod: "Day"}, "budget_period: expected"},
		{"a period of nothing", project.Limits{BudgetPeriod: project.Day}, "budget_period: there is no budget_usd"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			policy := project.Policy{Limits: tc.limits}
			for what, err := range map[string]error{"Limits": tc.limits.Validate(), "Policy": policy.Validate()} {
				if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.want)) {
					t.Errorf("%s.Validate: %v, want %q", what, err, tc.want)
				}
			}
		})
	}
}

func drawLimits(t *rapid.T) project.Limits {
	number := rapid.Ptr(rapid.Int64Range(0, project.MaxLimit), true)
	l := project.Limits{
		RPM: number.Draw(t, "rpm"), TPM: number.Draw(t, "tpm"), Concurrency: number.Draw(t, "concurrency"), MaxRequests: number.Draw(t, "max_requests"),
		BudgetUSD:     rapid.Ptr(rapid.Map(rapid.Int64Min(0), func(n int64) usd.Amount { return usd.Amount(n) }), true).Draw(t, "budget_usd"),
		AllowUnpriced: rapid.Bool().Draw(t, "allow_unpriced"), AllowUnbounded: rapid.Bool().Draw(t, "allow_unbounded"),
	}
	if l.BudgetUSD != nil {
		l.BudgetPeriod = rapid.SampledFrom([]project.Period{"", project.Total, project.Day, project.Week, project.Month}).Draw(t, "budget_period")
	}
	return l
}

// Limits come back from JSON as they were, down to the nanodollar and to the
// difference between none and 0.
func TestLimitsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy := project.Policy{AllowedModels: []string{"m"}, Limits: drawLimits(t)}
		if err := policy.Validate(); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(policy)
		if err != nil {
			t.Fatal(err)
		}
		var back project.Policy
		if err := json.Unmarshal(text, &back, json.RejectUnknownMembers(true)); err != nil || !reflect.DeepEqual(back, policy) {
			t.Fatalf("%s came back as %+v, %v", text, back, err)
		}
	})
}

func TestLimitsJSON(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                       `{}`,
		`{"rpm":0,"budget_usd":0}`: `{"rpm":0,"budget_usd":"0"}`,
		`{"max_requests":5,"tpm":6,"concurrency":7}`:                              `{"tpm":6,"concurrency":7,"max_requests":5}`,
		`{"budget_usd":12.50,"budget_period":"week"}`:                             `{"budget_usd":"12.5","budget_period":"week"}`,
		`{"budget_usd":"9223372036.854775807"}`:                                   `{"budget_usd":"9223372036.854775807"}`,
		`{"rpm":null,"budget_usd":null}`:                                          `{}`,
		`{"allow_unpriced":false,"allow_unbounded":true,"allowed_models":["m"]}`:  `{"allowed_models":["m"],"allow_unbounded":true}`,
		`{"allow_unpriced":true,"allow_unbounded":false,"allowed_providers":[]} `: `{"allow_unpriced":true}`,
	} {
		var policy project.Policy
		if err := json.Unmarshal([]byte(text), &policy, json.RejectUnknownMembers(true)); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		back, err := json.Marshal(policy)
		if err != nil || string(back) != want {
			t.Errorf("%s is written as %s, %v; want %s", text, back, err, want)
		}
	}
	for _, text := range []string{`{"rpm":1.5}`, `{"rpm":"1"}`, `{"tpm":1e3}`, `{"budget_usd":-1}`, `{"budget_usd":"0.0000000001"}`, `{"RPM":1}`, `{"rpm":1,"rpm":2}`, `{"limits":{"rpm":1}}`} {
		var policy project.Policy
		if err := json.Unmarshal([]byte(text), &policy, json.RejectUnknownMembers(true)); err == nil {
			t.Errorf("%s is read as %+v", text, policy)
		}
	}
}

// FuzzLimits reads limits as they are stored. Those that hold are written so that
// the same limits are read again.
func FuzzLimits(f *testing.F) {
	f.Add(`{"rpm":60,"tpm":1000,"concurrency":4,"max_requests":10,"budget_usd":"2.50","budget_period":"month"}`)
	f.Add(`{"budget_usd":1e-9,"allow_unpriced":true,"allow_unbounded":true}`)
	f.Add(`{"rpm":null,"budget_usd":null}`)
	f.Fuzz(func(t *testing.T, text string) {
		var policy, back project.Policy
		if json.Unmarshal([]byte(text), &policy, json.RejectUnknownMembers(true)) != nil || policy.Validate() != nil {
			return
		}
		written, err := json.Marshal(policy.Limits)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(written, &back, json.RejectUnknownMembers(true)); err != nil || !reflect.DeepEqual(back.Limits, policy.Limits) {
			t.Fatalf("%s was written as %s and read as %+v, %v", text, written, back.Limits, err)
		}
	})
}
