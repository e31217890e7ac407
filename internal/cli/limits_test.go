package cli

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
)

func TestSetLimit(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ flag, text, want string }{
		{"rpm", "60", `{"rpm":60}`},
		{"tpm", "0", `{"tpm":0}`},
		{"concurrency", "none", `{"concurrency":null}`},
		{"max-requests", "1000000000000000", `{"max_requests":1000000000000000}`},
		{"max-requests", "none", `{"max_requests":null}`},
		{"budget-usd", "12.50", `{"budget_usd":"12.5"}`},
		{"budget-usd", "0", `{"budget_usd":"0"}`},
		{"budget-usd", "none", `{"budget_usd":null}`},
		{"budget-period", "month", `{"budget_period":"month"}`},
		{"budget-period", "none", `{"budget_period":null}`},
	} {
		f := Fields{}
		if err := f.SetLimit(tc.flag, tc.text); err != nil {
			t.Errorf("--%s %s: %v", tc.flag, tc.text, err)
		}
		if got := string(must(json.Marshal(f))); got != tc.want {
			t.Errorf("--%s %s is %s, want %s", tc.flag, tc.text, got, tc.want)
		}
	}
	for _, tc := range []struct{ flag, text, words string }{
		{"rpm", "", "--rpm: expected a whole number from 0 to 1000000000000000, or none"},
		{"rpm", "-1", "--rpm: expected a whole number"},
		{"tpm", "1.5", "--tpm: expected a whole number"},
		{"concurrency", "1e3", "--concurrency: expected a whole number"},
		{"concurrency", "None", "--concurrency: expected a whole number"},
		{"max-requests", "1000000000000001", "--max-requests: expected a whole number"},
		{"budget-usd", "", "--budget-usd: expected US dollars as a decimal"},
		{"budget-usd", "$5", "--budget-usd: expected US dollars as a decimal"},
		{"budget-usd", "-5", "--budget-usd: must not be negative"},
		{"budget-usd", "0.0000000001", "--budget-usd: has too many decimal places"},
		{"budget-period", "", "--budget-period: expected total, day, week or month, or none"},
		{"budget-period", "year", "--budget-period: expected total"},
	} {
		f := Fields{}
		expectError(t, f.SetLimit(tc.flag, tc.text), true, tc.words)
		if len(f) != 0 {
			t.Errorf("--%s %q sets %v", tc.flag, tc.text, f)
		}
	}
}

// limitFields are what flags, in turns of name and value, become.
func limitFields(t *testing.T, flags ...string) Fields {
	t.Helper()
	f := Fields{}
	for i := 0; i < len(flags); i += 2 {
		if err := f.SetLimit(flags[i], flags[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// lines are those of a text, with single spaces.
func lines(text string) map[string]bool {
	all := map[string]bool{}
	for line := range strings.Lines(text) {
		all[strings.Join(strings.Fields(line), " ")] = true
	}
	return all
}

// Limits are set, shown with what is used of them, and removed.
func TestLimits(t *testing.T) {
	t.Parallel()
	reset := time.Date(2030, 2, 1, 0, 0, 0, 0, time.UTC)
	i := newInstallation(t, func(cfg *adminapi.Config) {
		cfg.Balances = func(_ context.Context, _ string, _ uuid.UUID, l *project.Limits) (list []adminapi.Balance, _ error) {
			if l.MaxRequests != nil {
				list = append(list, adminapi.Balance{Limit: "max_requests", Amount: *l.MaxRequests, Used: 40, Held: 2, Available: 58})
			}
			if l.BudgetUSD != nil {
				list = append(list, adminapi.Balance{Limit: "budget_usd", Amount: int64(*l.BudgetUSD), Used: 3_500_000_000, Available: 9_000_000_000, ResetsAt: &reset})
			}
			return list, nil
		}
	})
	ctx := t.Context()
	i.do(func(m *Manager) error {
		f := limitFields(t, "budget-usd", "12.50", "budget-period", "month", "tpm", "0")
		f["allow_unpriced"], f["allow_unbounded"] = true, true
		return m.CreateProject(ctx, "p", f)
	})
	id := firstID(t, i.json(func(m *Manager) error {
		return m.CreateToken(ctx, "p", Expiry{}, limitFields(t, "rpm", "60", "concurrency", "4", "max-requests", "100", "budget-usd", "20"))
	}))
	expect := func(what, text string, want ...string) {
		t.Helper()
		shown := lines(text)
		for _, line := range want {
			if !shown[line] {
				t.Errorf("%s: no %q in\n%s", what, line, text)
			}
		}
	}
	expect("project", i.do(func(m *Manager) error { return m.GetProject(ctx, "p") }), "tokens a minute 0",
		"budget $ 12.5 a month: 3.5 used, 0 held, 9 available, anew at 2030-02-01T00:00:00Z", "unpriced models allowed", "unbounded work allowed")
	expect("token", i.do(func(m *Manager) error { return m.GetToken(ctx, id) }), "requests a minute 60", "concurrency 4",
		"max requests 100: 40 used, 2 held, 58 available", "budget $ 20: 3.5 used, 0 held, 9 available, anew at 2030-02-01T00:00:00Z")
	expectText(t, i.json(func(m *Manager) error { return m.GetToken(ctx, id) }), `"limits_usage":[{"limit":"max_requests"`)

	changed := i.do(func(m *Manager) error {
		return m.UpdateToken(ctx, id, Expiry{}, limitFields(t, "rpm", "none", "max-requests", "none", "concurrency", "5"))
	})
	expect("changed token", changed, "concurrency 5", "budget $ 20")
	for _, gone := range []string{"minute", "max requests", "unpriced", "none", "used"} {
		if strings.Contains(changed, gone) {
			t.Errorf("there is %q in\n%s", gone, changed)
		}
	}
	expect("changed project", i.do(func(m *Manager) error {
		return m.UpdateProject(ctx, "p", limitFields(t, "budget-period", "none"))
	}), "budget $ 12.5")
	expectError(t, i.m.UpdateToken(ctx, id, Expiry{}, limitFields(t, "budget-usd", "none", "budget-period", "day")), false, "budget_period", "invalid_request")
	expectError(t, i.m.UpdateToken(ctx, id, Expiry{}, Fields{"allow_unpriced": true}), false, "only projects have it")
}

func FuzzSetLimit(f *testing.F) {
	for n, text := range []string{"60", "none", "12.50", "day", "1e3", "-1", ""} {
		f.Add(n, text)
	}
	flags := []string{"rpm", "tpm", "concurrency", "max-requests", "budget-usd", "budget-period"}
	f.Fuzz(func(t *testing.T, n int, text string) {
		fields := Fields{}
		if fields.SetLimit(flags[uint(n)%uint(len(flags))], text) != nil {
			return
		}
		var policy project.Policy
		if text != None && fields["budget_period"] != nil {
			fields["budget_usd"] = "1"
		}
		data := must(json.Marshal(fields))
		if err := json.Unmarshal(data, &policy); err != nil {
			t.Fatalf("%q becomes %s: %v", text, data, err)
		}
		if err := policy.Validate(); err != nil {
			t.Fatalf("%q becomes %s, which the API refuses: %v", text, data, err)
		}
	})
}
