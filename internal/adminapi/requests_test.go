package adminapi_test

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

// requests follows the pages of a list to its end and returns the ids.
func (h *harness) requests(target string) (ids []string, pages int) {
	h.t.Helper()
	ids = []string{}
	for ; target != ""; pages++ {
		if pages > 1000 {
			h.t.Fatalf("%s leads on for ever", target)
		}
		res := h.call("GET", target, "")
		if res.status != 200 {
			h.t.Fatalf("%s: %d %s", target, res.status, res.body)
		}
		for _, row := range decode[[]object](h.t, res) {
			ids = append(ids, id(row))
		}
		target = next(h.t, res)
	}
	return ids, pages
}

func TestRequests(t *testing.T) {
	onBoth(t, func(t *testing.T, newHarness func(...func(*adminapi.Config)) *harness) {
		h := newHarness()
		a, b := id(h.project(`{"name":"A"}`)), id(h.project(`{"name":"B"}`))
		ta, tb := id(h.token(`{"project_id":"`+a+`"}`)), id(h.token(`{"project_id":"`+b+`"}`))
		start := at(t, "2026-03-09T10:00:00Z")
		var all []*event.Event // newest first
		for i := range 130 {
			e := eventOf(start.Add(time.Duration(i)*time.Minute), "gpt-4o", of(a, ta), func(e *event.Event) {
				e.Request, e.Response, e.ResponseTruncated = `{"canary":"body"}`, "body", true
				e.ClientIP, e.Metadata = netip.MustParseAddr("192.0.2.9"), map[string]string{"team": "x"}
				switch {
				case i%10 == 0:
					e.Status, e.Outcome = 429, "refused"
				case i%10 == 1:
					e.Status, e.Outcome, e.Provider = 502, "upstream_error", "azure"
				case i%10 == 2:
					e.ProjectID, e.TokenID = uuid.Must(uuid.FromString(b)), uuid.Must(uuid.FromString(tb))
				case i%10 == 3:
					e.Model = "o3"
				}
			})
			all = append(all, e)
		}
		h.record(all...)
		slices.Reverse(all)
		// Some are found by the index that the roll-up fills, some without.
		if _, err := h.db.RollUp(t.Context(), 65); err != nil {
			t.Fatal(err)
		}
		pick := func(yes func(i int, e *event.Event) bool) []string {
			ids := []string{}
			for i, e := range all {
				if yes(len(all)-1-i, e) {
					ids = append(ids, e.ID.String())
				}
			}
			return ids
		}
		last := func(digits ...int) []string {
			return pick(func(i int, _ *event.Event) bool { return slices.Contains(digits, i%10) })
		}
		for _, test := range []struct {
			query string
			want  []string
		}{
			{"", pick(func(int, *event.Event) bool { return true })},
			{"project_id=" + b, last(2)},
			{"token_id=" + tb, last(2)},
			{"model=o3", last(3)},
			{"model=o", []string{}},
			{"provider=azure", last(1)},
			{"provider=nobody", []string{}},
			{"status=429", last(0)},
			{"status=4xx", last(0)},
			{"status=5xx", last(1)},
			{"status=2xx", last(2, 3, 4, 5, 6, 7, 8, 9)},
			{"status=200&model=gpt-4o", last(2, 4, 5, 6, 7, 8, 9)},
			{"status=404", []string{}},
			{"outcome=refused", last(0)},
			{"outcome=refused&status=5xx", []string{}},
			{"outcome=upstream_error&project_id=" + a, last(1)},
			{"from=2026-03-09T12:00:00Z&to=2026-03-09T12:01:00Z", pick(func(i int, _ *event.Event) bool { return i == 120 || i == 121 })},
			{"from=2026-03-09T13:00:30%2B01:00", pick(func(i int, _ *event.Event) bool { return i > 120 })},
			{"from=2026-03-09&to=2026-03-09&status=502", last(1)},
			{"from=2026-03-10", []string{}},
			{"to=2026-03-08", []string{}},
		} {
			for _, limit := range []int{12, 1000} {
				got, _ := h.requests(fmt.Sprintf("/manage/requests?limit=%d&%s", limit, test.query))
				if !slices.Equal(got, test.want) {
					t.Errorf("%s by %d: %d requests\n%v, want %d\n%v", test.query, limit, len(got), got, len(test.want), test.want)
				}
			}
		}
		if _, pages := h.requests("/manage/requests?limit=65"); pages != 2 {
			t.Errorf("130 requests are %d pages of 65", pages)
		}
		if rows := must[[]object](h, 200, "GET", "/manage/requests", ""); len(rows) != 100 {
			t.Errorf("%d rows by default", len(rows))
		}

		// What is looked through in vain ends a page, and the list goes on.
		restore := adminapi.SetMaxScanned(50)
		got, pages := h.requests("/manage/requests?provider=azure")
		restore()
		if !slices.Equal(got, last(1)) || pages < 2 {
			t.Errorf("%d requests on %d pages, when few are looked through", len(got), pages)
		}

		rows := h.call("GET", "/manage/requests?limit=3", "")
		if strings.Contains(string(rows.body), "body") || !strings.Contains(string(rows.body), `"team":"x"`) {
			t.Errorf("a list holds bodies, or lacks the rest: %s", rows.body)
		}
		one := h.call("GET", "/manage/requests/"+all[0].ID.String(), "")
		if want := string(all[0].AppendJSON(nil)); string(one.body) != want || one.status != 200 {
			t.Errorf("%d %s, want %s", one.status, one.body, want)
		}
	})
}

func TestRequestRefusals(t *testing.T) {
	h := newHarness(t)
	for query, words := range map[string]string{
		"project_id=A":                  "project_id: expected an id",
		"token_id=":                     "token_id: expected an id",
		"model=":                        "model: is empty",
		"provider=":                     "provider: is empty",
		"outcome=%0a":                   "outcome: write it in UTF-8",
		"status=":                       "status: expected one such as 429",
		"status=600":                    "status: expected",
		"status=99":                     "status: expected",
		"status=4XX":                    "status: expected",
		"status=4x4":                    "status: expected",
		"status=2000":                   "status: expected",
		"from=1h":                       "from: expected a time with zone",
		"to=now":                        "to: expected a time with zone",
		"from=2026-01-02&to=2026-01-01": "to: is before from",
		"limit=0":                       "limit: expected a whole number from 1 to 1000",
		"limit=1001":                    "limit",
		"cursor=x":                      "cursor: take it from the Link header",
		"count=true":                    "count: unknown query parameter",
		"follow=":                       "follow: take it from the Link header",
		"follow=-1":                     "follow: take it",
		"follow=01":                     "follow: take it",
		"follow=99999999999999999999":   "follow: take it",
		"follow=now&from=2026-01-01":    "from: does not go with follow",
		"follow=now&to=2026-01-01":      "to: does not go with follow",
		"follow=now&cursor=x":           "cursor: does not go with follow",
		"follow=now&limit=x":            "limit",
	} {
		h.refused("invalid_request", words, "GET", "/manage/requests?"+query, "")
	}
	h.refused("invalid_request", "this call has none", "GET", "/manage/requests/0190aaaa-0000-7000-8000-000000000000?x=1", "")
	h.refused("not_found", "request not found", "GET", "/manage/requests/0190aaaa-0000-7000-8000-000000000000", "")
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/manage/requests", "/manage/requests?follow=now", "/manage/requests?follow=0", "/manage/requests/0190aaaa-0000-7000-8000-000000000000"} {
		h.refused("internal", "", "GET", path, "")
	}
}

// TestFollow reads the log in its order: that in which events came, not that of
// their requests' beginnings.
func TestFollow(t *testing.T) {
	onBoth(t, func(t *testing.T, newHarness func(...func(*adminapi.Config)) *harness) {
		h := newHarness()
		now := time.Now()
		h.record(eventOf(now, "before"))
		res := h.call("GET", "/manage/requests?follow=now&model=m", "")
		if string(res.body) != "[]" {
			t.Errorf("now: %s", res.body)
		}
		place := next(t, res)
		if u, err := url.Parse(place); err != nil || u.Query().Get("model") != "m" {
			t.Fatalf("the Link loses its filter: %s", place)
		}
		res = h.call("GET", place, "")
		if string(res.body) != "[]" || next(t, res) != place {
			t.Errorf("nothing new: %s %s", res.body, next(t, res))
		}
		var want []string
		var events []*event.Event
		for i := range 150 {
			e := eventOf(now.Add(-time.Duration(i)*time.Hour), "m", func(e *event.Event) { e.Response = "canary" })
			want = append(want, e.ID.String())
			events = append(events, e, eventOf(now, "other"))
		}
		h.record(events...)
		var got []string
		for calls := 0; len(got) < len(want); calls++ {
			if calls > 10 {
				t.Fatalf("%d of %d requests in %d calls", len(got), len(want), calls)
			}
			res := h.call("GET", place, "")
			if strings.Contains(string(res.body), "canary") {
				t.Error("bodies in a list")
			}
			for _, row := range decode[[]object](t, res) {
				got = append(got, id(row))
			}
			place = next(t, res)
		}
		if !slices.Equal(got, want) {
			t.Errorf("got\n%v, want\n%v", got, want)
		}
		if rows := must[[]object](h, 200, "GET", "/manage/requests?follow=0&limit=2", ""); len(rows) != 2 || rows[0]["model"] != "before" {
			t.Errorf("from the beginning: %v", rows)
		}
		if rows := must[[]object](h, 200, "GET", "/manage/requests?follow=0&limit=1000&status=5xx", ""); len(rows) != 0 {
			t.Errorf("filtered: %v", rows)
		}
	})
}
