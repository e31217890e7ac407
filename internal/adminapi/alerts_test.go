package adminapi_test

import (
	"slices"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

// TestAlerts: whoever asks for requests, or for what they used, gets no alerts; whoever
// follows the log gets them in their place.
func TestAlerts(t *testing.T) {
	onBoth(t, func(t *testing.T, newHarness func(...func(*adminapi.Config)) *harness) {
		h := newHarness()
		a := id(h.project(`{"name":"A"}`))
		ta := id(h.token(`{"project_id":"` + a + `"}`))
		project, token := uuid.Must(uuid.FromString(a)), uuid.Must(uuid.FromString(ta))
		now := time.Now()
		place := next(t, h.call("GET", "/manage/events?follow=now", ""))
		var all, requests, alerts, tokens []string // in the order of the log
		for i := range 8 {
			e := eventOf(now.Add(time.Duration(i)*time.Millisecond), "gpt-4o", of(a, ta))
			alert := event.NewAlert(e.Time, project, token, event.Alert{
				Scope: event.ScopeToken, Limit: event.LimitBudget, Percent: 80, Amount: 10e9, Used: 8_030_000_000, Available: 1_970_000_000, ResetsAt: now.Add(time.Hour), Period: "day",
			})
			if i%2 > 0 {
				alert = event.NewAlert(e.Time, project, uuid.Nil, event.Alert{Scope: event.ScopeProject, Limit: event.LimitRequests, Percent: 100, Amount: 7, Used: 7, Period: "total"})
			} else {
				tokens = append(tokens, alert.ID.String())
			}
			h.record(alert, e)
			all, requests, alerts = append(all, alert.ID.String(), e.ID.String()), append(requests, e.ID.String()), append(alerts, alert.ID.String())
			if i == 3 {
				if _, err := h.db.RollUp(t.Context(), 5); err != nil {
					t.Fatal(err)
				}
			}
		}
		newest := slices.Clone(requests)
		slices.Reverse(newest)
		for _, query := range []string{"", "?project_id=" + a, "?token_id=" + ta, "?from=2020-01-01", "?limit=3", "?provider=openai"} {
			if got, _ := h.requests("/manage/requests" + query); !slices.Equal(got, newest) {
				t.Errorf("requests%s: %v, want %v", query, got, newest)
			}
		}
		if got, _ := h.requests("/manage/requests?outcome=alert"); len(got) > 0 {
			t.Errorf("%d requests with the outcome alert", len(got))
		}
		for _, id := range alerts {
			h.refused("not_found", "request not found", "GET", "/manage/requests/"+id, "")
		}
		total := must[object](h, 200, "GET", "/manage/usage", "")["total"].(object)
		if total["requests"] != 8.0 || total["errors"] != 0.0 || total["unpriced"] != 0.0 {
			t.Errorf("usage %v", total)
		}
		follow := func(target string) (ids []string) {
			t.Helper()
			for {
				res := h.call("GET", target, "")
				for _, row := range decode[[]object](t, res) {
					ids = append(ids, id(row))
				}
				to := next(t, res)
				if to == target {
					return ids
				}
				target = to
			}
		}
		if got := follow("/manage/requests?follow=0&limit=3"); !slices.Equal(got, requests) {
			t.Errorf("following requests: %v, want %v", got, requests)
		}
		for target, want := range map[string][]string{
			place: all, "/manage/events?limit=3": all, "/manage/events?follow=0&project_id=" + a: all, "/manage/events?model=gpt-4o": requests, "/manage/events?status=200": requests,
			"/manage/events?outcome=ok": requests, "/manage/events?provider=openai": requests, "/manage/events?project_id=" + ta: nil,
		} {
			if got := follow(target); !slices.Equal(got, want) {
				t.Errorf("following %s: %v, want %v", target, got, want)
			}
		}
		if got := follow("/manage/events?token_id=" + ta); len(got) != len(requests)+len(tokens) {
			t.Errorf("following a token: %d events", len(got))
		}
		row := must[[]object](h, 200, "GET", "/manage/events", "")[0]
		if got, _ := row["alert"].(object); row["type"] != "alert" || got["used"] != "8.03" || got["limit"] != "budget_usd" || got["percent"] != 80.0 {
			t.Errorf("an alert is %v", row)
		}
	})
}

func TestAlertRefusals(t *testing.T) {
	h := newHarness(t)
	for query, words := range map[string]string{
		"from=2020-01-01": "from: unknown query parameter", "cursor=x": "cursor: unknown query parameter", "follow=x": "follow: take it from the Link header",
		"status=9": "status: expected one such as 429", "limit=0": "limit",
	} {
		h.refused("invalid_request", words, "GET", "/manage/events?"+query, "")
	}
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/manage/events", "/manage/events?follow=now"} {
		h.refused("internal", "", "GET", path, "")
	}
}
