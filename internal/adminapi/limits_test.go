package adminapi_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

var limitNames = []string{"rpm", "tpm", "concurrency", "max_requests", "budget_usd", "budget_period", "allow_unpriced", "allow_unbounded"}

// limitsOf are an answer's members that are limits; what has none is absent.
func limitsOf(o object) object {
	limits := object{}
	for name, value := range o {
		if slices.Contains(limitNames, name) {
			limits[name] = value
		}
	}
	return limits
}

// limited is a project or a token, and how to make more of its kind.
type limited struct {
	path   string // of one
	list   string
	create string // the beginning of a body
}

// onBothKinds runs a test for projects and for tokens.
func onBothKinds(t *testing.T, h *harness, test func(t *testing.T, l limited)) {
	p := id(h.project(`{"name":"of the limits"}`))
	tk := id(h.token(`{"project_id":"` + p + `"}`))
	t.Run("project", func(t *testing.T) {
		test(t, limited{"/manage/projects/" + p, "/manage/projects", `{"name":"new"`})
	})
	t.Run("token", func(t *testing.T) {
		test(t, limited{"/manage/tokens/" + tk, "/manage/tokens", `{"project_id":"` + p + `"`})
	})
}

// Limits are given when something is made, read again alone and in lists, changed
// one by one and removed.
func TestLimits(t *testing.T) {
	onBoth(t, func(t *testing.T, newHarness func(...func(*adminapi.Config)) *harness) {
		h := newHarness()
		onBothKinds(t, h, func(t *testing.T, l limited) {
			made := must[object](h, 201, "POST", l.list, l.create+`,"rpm":60,"tpm":0,"concurrency":4,"max_requests":1000000000000000,"budget_usd":25.50,"budget_period":"month"}`)
			want := "map[budget_period:month budget_usd:25.5 concurrency:4 max_requests:1e+15 rpm:60 tpm:0]"
			path := l.list + "/" + id(made)
			listed := must[[]object](h, 200, "GET", l.list, "")
			at := slices.IndexFunc(listed, func(o object) bool { return id(o) == id(made) })
			for what, o := range map[string]object{"created": made, "read": must[object](h, 200, "GET", path, ""), "listed": listed[at]} {
				if got := fmt.Sprint(limitsOf(o)); got != want {
					t.Errorf("%s with %s, want %s", what, got, want)
				}
				if _, isText := o["budget_usd"].(string); !isText {
					t.Errorf("%s with a budget that is no string: %T", what, o["budget_usd"])
				}
			}
			if bare := limitsOf(must[object](h, 200, "GET", l.path, "")); len(bare) != 0 {
				t.Errorf("without limits there are %v", bare)
			}
			for _, step := range []struct{ body, want string }{
				{`{"rpm":null}`, "map[budget_period:month budget_usd:25.5 concurrency:4 max_requests:1e+15 tpm:0]"},
				{`{"rpm":null,"tpm":7,"max_requests":null}`, "map[budget_period:month budget_usd:25.5 concurrency:4 tpm:7]"},
				{`{"budget_usd":"1e2","concurrency":null}`, "map[budget_period:month budget_usd:100 tpm:7]"},
				{`{"budget_period":"week"}`, "map[budget_period:week budget_usd:100 tpm:7]"},
				{`{"budget_period":null}`, "map[budget_period:total budget_usd:100 tpm:7]"},
				{`{"budget_usd":"0.000000001","budget_period":"day"}`, "map[budget_period:day budget_usd:0.000000001 tpm:7]"},
				{`{"metadata":{"a":"b"}}`, "map[budget_period:day budget_usd:0.000000001 tpm:7]"},
				{`{"budget_usd":null}`, "map[tpm:7]"}, // the period goes with it
				{`{"budget_usd":null,"budget_period":null}`, "map[tpm:7]"},
				{`{"budget_usd":"0"}`, "map[budget_period:total budget_usd:0 tpm:7]"},
				{`{"budget_usd":null,"tpm":null}`, "map[]"},
			} {
				if got := fmt.Sprint(limitsOf(must[object](h, 200, "PATCH", path, step.body))); got != step.want {
					t.Errorf("after %s there are %s, want %s", step.body, got, step.want)
				}
				if got := fmt.Sprint(limitsOf(must[object](h, 200, "GET", path, ""))); got != step.want {
					t.Errorf("after %s %s are read, want %s", step.body, got, step.want)
				}
			}
		})
	})
}

func TestLimitRefusals(t *testing.T) {
	h := newHarness(t)
	onBothKinds(t, h, func(t *testing.T, l limited) {
		const count = "expected a whole number"
		for members, words := range map[string]string{
			`"rpm":-1`:                                 "rpm: expected a whole number from 0 to 1000000000000000",
			`"tpm":1000000000000001`:                   "tpm: expected a whole number from 0 to 1000000000000000",
			`"concurrency":-1`:                         "concurrency: " + count,
			`"max_requests":-1`:                        "max_requests: " + count,
			`"rpm":1.5`:                                "rpm: " + count,
			`"rpm":1e2`:                                "rpm: " + count,
			`"rpm":99999999999999999999`:               "rpm: " + count,
			`"rpm":"60"`:                               "rpm: " + count,
			`"max_requests":true`:                      "max_requests: " + count,
			`"budget_usd":-1`:                          "budget_usd: must not be negative",
			`"budget_usd":"-0.5"`:                      "budget_usd: must not be negative",
			`"budget_usd":"ten"`:                       "budget_usd: expected US dollars as a decimal",
			`"budget_usd":""`:                          "budget_usd: expected US dollars as a decimal",
			`"budget_usd":"$5"`:                        "budget_usd: expected US dollars as a decimal",
			`"budget_usd":true`:                        "budget_usd: expected US dollars as a decimal",
			`"budget_usd":[1]`:                         "budget_usd: expected US dollars as a decimal",
			`"budget_usd":{"a":1}`:                     "budget_usd: expected US dollars as a decimal",
			`"budget_usd":"0.0000000001"`:              "budget_usd: has too many decimal places: at most 9",
			`"budget_usd":1e30`:                        "budget_usd: is too large",
			`"budget_usd":"1","budget_period":"year"`:  "budget_period: expected total, day, week or month",
			`"budget_usd":"1","budget_period":""`:      "budget_period: expected total, day, week or month",
			`"budget_usd":"1","budget_period":1`:       "budget_period: expected a string",
			`"budget_period":"day"`:                    "budget_period: there is no budget_usd",
			`"budget_usd":null,"budget_period":"day"`:  "budget_period: there is no budget_usd",
			`"rpm":1,"rpm":1`:                          "",
			`"budget_usd":"1","budget_usd":"1","rpm":`: "",
		} {
			code := "invalid_request"
			if words == "" {
				code = "invalid_json"
			}
			h.refused(code, words, "PATCH", l.path, "{"+members+"}")
			h.refused(code, words, "POST", l.list, l.create+","+members+"}")
		}
		if got := limitsOf(must[object](h, 200, "GET", l.path, "")); len(got) != 0 {
			t.Errorf("refused limits are kept: %v", got)
		}
	})
	if n := len(must[[]object](h, 200, "GET", "/manage/projects", "")); n != 1 {
		t.Errorf("refusals made %d projects", n-1)
	}
}

// What lets through what a budget refuses is a project's alone.
func TestAllow(t *testing.T) {
	h := newHarness(t)
	path := "/manage/projects/" + id(h.project(`{"name":"A","allow_unpriced":true,"allow_unbounded":true}`))
	for _, step := range []struct{ body, want string }{
		{`{}`, "map[allow_unbounded:true allow_unpriced:true]"},
		{`{"allow_unpriced":false}`, "map[allow_unbounded:true]"},
		{`{"allow_unbounded":false,"budget_usd":"1"}`, "map[budget_period:total budget_usd:1]"},
		{`{"allow_unpriced":true,"budget_usd":null}`, "map[allow_unpriced:true]"},
	} {
		if got := fmt.Sprint(limitsOf(must[object](h, 200, "PATCH", path, step.body))); got != step.want {
			t.Errorf("after %s there are %s, want %s", step.body, got, step.want)
		}
	}
	h.refused("invalid_request", "allow_unpriced: may not be null", "PATCH", path, `{"allow_unpriced":null}`)
	h.refused("invalid_request", "allow_unbounded: expected true or false", "PATCH", path, `{"allow_unbounded":1}`)
}

// Every limit that a call changes is in its record, before and after.
func TestLimitAudit(t *testing.T) {
	h := newHarness(t)
	onBothKinds(t, h, func(t *testing.T, l limited) {
		for _, step := range []struct{ body, want string }{
			{`{"rpm":60,"tpm":0,"budget_usd":2.50}`, "map[budget_period:{<nil> total} budget_usd:{<nil> 2.5} rpm:{<nil> 60} tpm:{<nil> 0}]"},
			{`{"rpm":60,"budget_usd":"2.5","budget_period":"total"}`, ""},
			{`{"rpm":0,"tpm":null,"concurrency":1,"budget_usd":2.50}`, "map[concurrency:{<nil> 1} rpm:{60 0} tpm:{0 <nil>}]"},
			{`{"budget_period":"day","max_requests":5}`, "map[budget_period:{total day} max_requests:{<nil> 5}]"},
			{`{"budget_usd":null}`, "map[budget_period:{day <nil>} budget_usd:{2.5 <nil>}]"},
			{`{"budget_usd":null}`, ""},
		} {
			before := len(h.audits())
			must[object](h, 200, "PATCH", l.path, step.body)
			entries := h.audits()
			switch {
			case step.want == "":
				if len(entries) != before {
					t.Errorf("%s changes nothing and is recorded: %v", step.body, entries[0].Changes)
				}
			case len(entries) != before+1 || fmt.Sprint(entries[0].Changes) != step.want:
				t.Errorf("%s is recorded as %v, want %s", step.body, entries[0].Changes, step.want)
			}
		}
	})
	h.project(`{"name":"new","max_requests":3,"allow_unpriced":true}`)
	if got := fmt.Sprint(h.audits()[0].Changes); got != "map[allow_unpriced:{false true} max_requests:{<nil> 3} name:{ new}]" {
		t.Errorf("creating is recorded as %s", got)
	}
}

// A token that replaces another has its limits.
func TestRotateKeepsLimits(t *testing.T) {
	h := newHarness(t)
	tk := h.token(`{"project_id":"` + id(h.project(`{"name":"A"}`)) + `","rpm":6,"max_requests":9,"budget_usd":"1.25","budget_period":"week"}`)
	next := must[object](h, 201, "POST", "/manage/tokens/"+id(tk)+"/rotate", "")
	if got, want := fmt.Sprint(limitsOf(next)), fmt.Sprint(limitsOf(tk)); got != want || id(next) == id(tk) {
		t.Errorf("the new token has %s, the old one %s", got, want)
	}
}

// ledger tells balances of what it was told of.
type ledger struct {
	err   error
	asked []string
	rows  []adminapi.Balance
}

func (l *ledger) balances(_ context.Context, scope string, id uuid.UUID, limits *project.Limits) ([]adminapi.Balance, error) {
	l.asked = append(l.asked, scope+" "+id.String())
	var rows []adminapi.Balance
	for _, row := range l.rows {
		if row.Limit != "max_requests" || limits.MaxRequests != nil {
			rows = append(rows, row)
		}
	}
	return rows, l.err
}

// What is used of limits is told of one object at a time.
func TestLimitsUsage(t *testing.T) {
	reset := time.Date(2030, 2, 1, 1, 0, 0, 0, time.FixedZone("", 3600))
	l := &ledger{rows: []adminapi.Balance{
		{Limit: "max_requests", Amount: 100, Used: 40, Held: 2, Available: 58},
		{Limit: "budget_usd", Amount: 2_500_000_000, Used: 3_000_000_001, Held: 0, Available: -500_000_001, ResetsAt: &reset},
	}}
	h := newHarness(t, func(cfg *adminapi.Config) { cfg.Balances = l.balances })
	p := h.project(`{"name":"A","budget_usd":"2.5","budget_period":"month"}`)
	tk := h.token(`{"project_id":"` + id(p) + `","max_requests":100}`)
	const budget = "map[available:0 held:0 limit:budget_usd limit_amount:2.5 resets_at:2030-02-01T00:00:00Z used:3.000000001]"
	const requests = "map[available:58 held:2 limit:max_requests limit_amount:100 resets_at:<nil> used:40]"
	for path, want := range map[string]string{
		"/manage/projects/" + id(p): "[" + budget + "]",
		"/manage/tokens/" + id(tk):  "[" + requests + " " + budget + "]",
	} {
		read := must[object](h, 200, "GET", path, "")
		if got := fmt.Sprint(read["limits_usage"]); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
		for _, row := range read["limits_usage"].([]any) {
			_, isText := row.(object)["used"].(string)
			if money := row.(object)["limit"] == "budget_usd"; isText != money {
				t.Errorf("%s: used is a %T", path, row.(object)["used"])
			}
		}
		if changed := must[object](h, 200, "PATCH", path, `{"rpm":1}`); changed["limits_usage"] != nil {
			t.Errorf("changing %s answers what is used", path)
		}
	}
	slices.Sort(l.asked)
	if want := []string{"project " + id(p), "token " + id(tk)}; !slices.Equal(l.asked, want) {
		t.Errorf("asked for %v, want %v", l.asked, want)
	}
	for _, list := range []string{"/manage/projects", "/manage/tokens"} {
		if rows := must[[]object](h, 200, "GET", list, ""); rows[0]["limits_usage"] != nil {
			t.Errorf("%s tells what is used", list)
		}
	}

	l.rows = nil
	read := must[object](h, 200, "GET", "/manage/tokens/"+id(tk), "")
	if none, told := read["limits_usage"].([]any); !told || len(none) != 0 {
		t.Errorf("without balances limits_usage is %v", read["limits_usage"])
	}
	for err, code := range map[error]string{storage.ErrUnreachable: "store_unavailable", errors.New("a secret cause"): "internal"} {
		l.err = fmt.Errorf("reading balances: %w", err)
		h.refused(code, "", "GET", "/manage/tokens/"+id(tk), "")
		h.refused(code, "", "GET", "/manage/projects/"+id(p), "")
	}

	silent := newHarness(t)
	if read := must[object](silent, 200, "GET", "/manage/projects/"+id(silent.project(`{"name":"A","rpm":1}`)), ""); read["limits_usage"] != nil {
		t.Errorf("nobody tells balances, but there are %v", read["limits_usage"])
	}
}
