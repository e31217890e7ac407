package adminapi_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
)

// sink is a sink's place in the answer about the lag.
func (h *harness) sink(name string) object {
	h.t.Helper()
	for _, s := range must[object](h, 200, "GET", "/manage/events/lag", "")["sinks"].([]any) {
		if s.(object)["name"] == name {
			return s.(object)
		}
	}
	h.t.Fatalf("no sink %s", name)
	return nil
}

func TestEventLag(t *testing.T) {
	onBoth(t, func(t *testing.T, newHarness func(...func(*adminapi.Config)) *harness) {
		h := newHarness()
		const process = `"published":9,"committed":5,"spilled":2,"dropped":1,"pending":3,"spill_events":2,"spill_bytes":77,"commit_latency_ms":1.5`
		res := h.call("GET", "/manage/events/lag", "")
		if want := `{"sinks":[],"log":{` + process + `,"stored":{"first":0,"last":0,"oldest":null,"roll_up_pending":0,"roll_up_oldest_age_seconds":0}}}`; string(res.body) != want {
			t.Errorf("without anything: %s, want %s", res.body, want)
		}
		h.deliver("archive", "billing")
		old := eventOf(time.Now().Add(-time.Hour), "m")
		h.record(old, eventOf(time.Now(), "poison"))
		h.rejected("archive", 1)
		h.rejected("billing", 1)
		if _, err := h.db.RollUp(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		h.record(eventOf(time.Now().Add(-time.Minute), "m"))
		h.until("delivered", func() bool { return h.sink("billing")["delivered"] == 2.0 && h.sink("billing")["state"] == "idle" })
		s := h.sink("billing")
		for name, want := range map[string]any{"failed": 0.0, "discarded": 1.0, "pending": 0.0, "dead": 1.0, "oldest_age_seconds": 0.0, "last_error": "", "next_attempt_at": nil} {
			if s[name] != want {
				t.Errorf("%s is %v", name, s[name])
			}
		}
		if s["last_delivered_at"] == nil {
			t.Errorf("nothing was delivered: %v", s)
		}
		stored := must[object](h, 200, "GET", "/manage/events/lag", "")["log"].(object)["stored"].(object)
		if stored["oldest"] != old.Time.Format(time.RFC3339Nano) || stored["roll_up_pending"] != 2.0 || stored["roll_up_oldest_age_seconds"].(float64) < 0 || stored["last"].(float64) < 3 {
			t.Errorf("stored: %v", stored)
		}

		// Without a database, what this process knows is there all the same.
		h.events.engine.Close()
		h.events.engine = nil
		if err := h.db.Close(); err != nil {
			t.Fatal(err)
		}
		res = h.call("GET", "/manage/events/lag", "")
		if want := `{"sinks":[],"log":{` + process + `,"stored":null}}`; res.status != 200 || string(res.body) != want {
			t.Errorf("without a database: %d %s", res.status, res.body)
		}
		if !strings.Contains(h.log.String(), "event lag without the database") {
			t.Error("the log does not tell why")
		}
	})
}

func TestReplay(t *testing.T) {
	onBoth(t, func(t *testing.T, newHarness func(...func(*adminapi.Config)) *harness) {
		h := newHarness()
		h.deliver("archive", "billing")
		now := time.Now()
		first, second, third := eventOf(now.Add(-3*time.Hour), "m"), eventOf(now.Add(-2*time.Hour), "m"), eventOf(now.Add(-time.Hour), "m")
		h.record(first, second, third)
		sink := h.events.sinks["billing"]
		h.until("delivered", func() bool {
			return sink.count(third.ID) == 1 && h.events.sinks["archive"].count(third.ID) == 1 && h.sink("billing")["pending"] == 0.0
		})
		from := now.Add(-150 * time.Minute).UTC().Truncate(time.Second).Format(time.RFC3339)
		got := must[object](h, 200, "POST", "/manage/events/replay", `{"sink":"billing","from":"`+from+`"}`)
		if got["sink"] != "billing" || got["from"] != from || got["pending"] == nil {
			t.Errorf("replay: %v", got)
		}
		h.until("delivered again", func() bool { return sink.count(third.ID) == 2 })
		if sink.count(first.ID) != 1 || sink.count(second.ID) != 2 || h.events.sinks["archive"].count(third.ID) != 1 {
			t.Errorf("delivered %d, %d and %d times", sink.count(first.ID), sink.count(second.ID), sink.count(third.ID))
		}
		e := h.audits()[0]
		if e.Action != "events.replay" || e.Outcome != "success" || e.TargetType != "sink" || fmt.Sprint(e.Changes) != "map[from:{<nil> "+from+"} sink:{<nil> billing}]" ||
			e.ClientIP != clientIP || e.Path != "/manage/events/replay" {
			t.Errorf("recorded as %+v", e)
		}
		must[object](h, 200, "GET", "/manage/audit?action=events.replay", "")
	})
}

func TestDeadLetters(t *testing.T) {
	onBoth(t, func(t *testing.T, newHarness func(...func(*adminapi.Config)) *harness) {
		h := newHarness()
		h.deliver("archive", "billing")
		h.events.sinks["archive"].cure()
		var want []string
		var events []*event.Event
		for range 130 {
			e := eventOf(time.Now(), "poison", func(e *event.Event) { e.Request = "canary" })
			want = append(want, e.ID.String())
			events = append(events, e)
		}
		h.record(events...)
		h.rejected("billing", 130)
		h.rejected("archive", 0)
		for _, limit := range []int{50, 115, 1000} {
			var got []string
			for target := fmt.Sprint("/manage/events/dead?sink=billing&limit=", limit); target != ""; {
				res := h.call("GET", target, "")
				if strings.Contains(string(res.body), "canary") {
					t.Fatal("bodies in a list")
				}
				for _, row := range decode[[]object](t, res) {
					if row["sink"] != "billing" || row["reason"] != "the receiver cannot read it" || row["attempts"] != 1.0 {
						t.Errorf("letter %v", row)
					}
					got = append(got, id(row["event"].(object)))
				}
				target = next(t, res)
			}
			if strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("by %d: %d letters, want %d in the order of the log", limit, len(got), len(want))
			}
		}
		if all, _ := h.pages("/manage/events/dead?limit=100"); all != 130 {
			t.Errorf("%d letters of all sinks", all)
		}
		if none, _ := h.pages("/manage/events/dead?sink=gone"); none != 0 {
			t.Errorf("%d letters of a sink that never was", none)
		}

		letters := must[[]object](h, 200, "GET", "/manage/events/dead?sink=billing&limit=2", "")
		sink := h.events.sinks["billing"]
		sink.cure()
		ids := fmt.Sprintf("%.0f,%.0f,%.0f", letters[1]["id"], letters[0]["id"], letters[0]["id"])
		got := must[object](h, 200, "POST", "/manage/events/dead", `{"sink":"billing","ids":[`+ids+`]}`)
		if got["requeued"] != 2.0 {
			t.Errorf("requeued %v of two", got)
		}
		h.rejected("billing", 128)
		e := h.audits()[0]
		if wantChanges := fmt.Sprintf("map[ids:{<nil> [%v %v]} sink:{<nil> billing}]", letters[0]["id"], letters[1]["id"]); e.Action != "events.requeue" || e.TargetType != "sink" || fmt.Sprint(e.Changes) != wantChanges {
			t.Errorf("recorded as %+v, want %s", e, wantChanges)
		}
		if got := must[object](h, 200, "POST", "/manage/events/dead", `{"sink":"billing","ids":[`+ids+`]}`); got["requeued"] != 0.0 {
			t.Errorf("requeued %v of none", got)
		}
		if got := must[object](h, 200, "POST", "/manage/events/dead", `{"sink":"billing","all":true}`); got["requeued"] != 128.0 {
			t.Errorf("requeued %v of 128", got)
		}
		h.rejected("billing", 0)
		records := len(h.audits())
		if got := must[object](h, 200, "POST", "/manage/events/dead", `{"sink":"billing","all":true}`); got["requeued"] != 0.0 || len(h.audits()) != records {
			t.Errorf("requeued %v of none, with %d records", got, len(h.audits())-records)
		}
	})
}

// pages counts the rows of a list.
func (h *harness) pages(target string) (rows, pages int) {
	h.t.Helper()
	for ; target != ""; pages++ {
		res := h.call("GET", target, "")
		rows += len(decode[[]object](h.t, res))
		target = next(h.t, res)
	}
	return rows, pages
}

func TestEventRefusals(t *testing.T) {
	h, flush := newAuditing(t)
	for _, call := range [][2]string{{"/manage/events/replay", `{"sink":"archive","from":"2026-01-01"}`}, {"/manage/events/dead", `{"sink":"archive","all":true}`}} {
		h.refused("not_found", "none is configured", "POST", call[0], call[1])
	}
	h.deliver("archive", "billing")
	h.record(eventOf(time.Now(), "poison"))
	h.rejected("archive", 1)
	h.rejected("billing", 1)
	many := strings.TrimSuffix(strings.Repeat("1,", 1001), ",")
	for _, test := range []struct{ code, words, target, body string }{
		{"invalid_request", "sink: is required", "replay", `{"from":"2026-01-01"}`},
		{"invalid_request", "from: is required", "replay", `{"sink":"archive"}`},
		{"invalid_request", "from: expected a time with zone", "replay", `{"sink":"archive","from":"1h"}`},
		{"invalid_request", "from: the sink has not come so far", "replay", `{"sink":"archive","from":"2999-01-01"}`},
		{"invalid_request", "from: expected a string", "replay", `{"sink":"archive","from":7}`},
		{"invalid_request", "sink: has 65 bytes", "replay", `{"sink":"` + strings.Repeat("x", 65) + `","from":"2026-01-01"}`},
		{"not_found", "sink not found: configured are archive, billing", "replay", `{"sink":"nobody","from":"2026-01-01"}`},
		{"unknown_field", "to: unknown field", "replay", `{"sink":"archive","from":"2026-01-01","to":"2026-01-02"}`},
		{"invalid_json", "", "replay", ""},
		{"invalid_request", "sink: is required", "dead", `{"all":true}`},
		{"invalid_request", `either "ids"`, "dead", `{"sink":"archive"}`},
		{"invalid_request", `either "ids"`, "dead", `{"sink":"archive","all":false}`},
		{"invalid_request", `either "ids"`, "dead", `{"sink":"archive","all":true,"ids":[1]}`},
		{"invalid_request", `either "ids"`, "dead", `{"sink":"archive","ids":[]}`},
		{"invalid_request", "ids: expected those", "dead", `{"sink":"archive","ids":[0]}`},
		{"invalid_request", "ids: has 1001 ids", "dead", `{"sink":"archive","ids":[` + many + `]}`},
		{"invalid_request", "ids: expected an array of whole numbers", "dead", `{"sink":"archive","ids":"1"}`},
		{"invalid_request", "ids[0]: expected a whole number", "dead", `{"sink":"archive","ids":["1"]}`},
		{"not_found", "sink not found", "dead", `{"sink":"nobody","all":true}`},
	} {
		flush()
		records := len(h.audits())
		h.refused(test.code, test.words, "POST", "/manage/events/"+test.target, test.body)
		flush()
		entries := h.audits()
		if len(entries) != records+1 || entries[0].Outcome != "failure" || entries[0].Reason != test.code || entries[0].TargetType != "sink" || !entries[0].TargetID.IsNil() {
			t.Errorf("%s is recorded %d times, last as %+v", test.body, len(entries)-records, entries[0])
		}
	}
	for query, words := range map[string]string{
		"sink=": "sink: is empty", "sink=" + strings.Repeat("x", 65): "sink: has 65 bytes", "cursor=x": "cursor: take it from", "cursor=-1": "cursor", "limit=0": "limit",
		"count=true": "count: unknown query parameter",
	} {
		h.refused("invalid_request", words, "GET", "/manage/events/dead?"+query, "")
	}
	h.refused("invalid_request", "this call has none", "GET", "/manage/events/lag?sink=x", "")
	h.refused("method_not_allowed", "", "DELETE", "/manage/events/dead", "")

	// What cannot be recorded is not done.
	h.damage(`CREATE TRIGGER refuse BEFORE INSERT ON audit_events BEGIN SELECT RAISE(ABORT, 'no records today'); END`)
	for _, sink := range h.events.sinks {
		sink.cure()
	}
	h.refused("internal", "", "POST", "/manage/events/dead", `{"sink":"archive","all":true}`)
	h.refused("internal", "", "POST", "/manage/events/replay", `{"sink":"archive","from":"2020-01-01"}`)
	letters, err := h.db.TakeRequeued(t.Context(), "archive", 10)
	if err != nil || len(letters) != 0 || h.sink("archive")["pending"] != 0.0 || h.sink("archive")["dead"] != 1.0 {
		t.Errorf("changed without a record: %v, %v, %v", letters, h.sink("archive"), err)
	}
}

// TestNoEvents is a host without an event log.
func TestNoEvents(t *testing.T) {
	h := newHarness(t, func(cfg *adminapi.Config) { cfg.Events = nil })
	if got := must[object](h, 200, "GET", "/manage/events/lag", ""); len(got["sinks"].([]any)) != 0 {
		t.Errorf("lag: %v", got)
	}
	if got := must[[]object](h, 200, "GET", "/manage/events/dead", ""); len(got) != 0 {
		t.Errorf("dead letters: %v", got)
	}
	if got := must[usage](h, 200, "GET", "/manage/usage", ""); !got.Complete {
		t.Errorf("usage: %v", got)
	}
	h.refused("not_found", "none is configured", "POST", "/manage/events/dead", `{"sink":"archive","all":true}`)
	h.refused("not_found", "none is configured", "POST", "/manage/events/replay", `{"sink":"archive","from":"2026-01-01"}`)
}
