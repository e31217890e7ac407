package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// told are the alerts of a token in the log: of which limit, at how many percent, and
// whether all of it was used.
func (a *account) told(t *testing.T) (list []string) {
	t.Helper()
	got := a.p.do(t, request{method: "GET", path: "/manage/events?token_id=" + a.tokenID + "&limit=100", token: managementToken})
	var events []struct {
		Alert *struct {
			Limit        string
			Percent      int
			Limit_Amount any
			Used         any
		}
	}
	if err := json.Unmarshal([]byte(got.body), &events); got.status != http.StatusOK || err != nil {
		t.Fatalf("%d %s: %v", got.status, got.body, err)
	}
	for _, e := range events {
		if alert := e.Alert; alert != nil {
			list = append(list, fmt.Sprintf("%s %d, all used: %t", alert.Limit, alert.Percent, fmt.Sprint(alert.Used) == fmt.Sprint(alert.Limit_Amount)))
		}
	}
	return list
}

// TestAlerts spends a quota and a budget: of the budget a rest remains, too little for
// another request, and its owner is told that it is used up all the same.
func TestAlerts(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	p := start(t, bounding(t, against(sim)))
	for name, c := range map[string]struct {
		limits object
		status int
		want   []string
	}{
		"quota":  {object{"max_requests": 10}, 429, []string{"max_requests 50, all used: false", "max_requests 80, all used: false", "max_requests 100, all used: true"}},
		"budget": {object{"budget_usd": "0.01"}, 402, []string{"budget_usd 50, all used: false", "budget_usd 80, all used: false", "budget_usd 100, all used: false"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := p.account(t, c.limits)
			ask := openAIDialect.atMost(a.token, "m", answerTokens, false)
			got := p.do(t, ask)
			for n := 0; got.status == http.StatusOK; n++ {
				if n == 200 {
					t.Fatal("the limit is never reached")
				}
				a.settled(t)
				got = p.do(t, ask)
			}
			if got.status != c.status {
				t.Fatalf("%d %s", got.status, got.body)
			}
			var told []string
			eventually(t, "all alerts are in the log", func() bool {
				told = a.told(t)
				return len(told) >= len(c.want)
			})
			if fmt.Sprint(told) != fmt.Sprint(c.want) {
				t.Errorf("told of %q, want %q", told, c.want)
			}
		})
	}
}
