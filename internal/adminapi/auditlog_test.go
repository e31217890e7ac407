package adminapi_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// newAuditing is a harness whose API records refusals; flush waits for them.
func newAuditing(t *testing.T) (h *harness, flush func()) {
	t.Helper()
	var recorder *audit.Recorder
	h = newHarness(t, func(cfg *adminapi.Config) {
		recorder = audit.NewRecorder(audit.RecorderConfig{Record: cfg.Store.RecordAudit, Logger: cfg.Logger})
		cfg.Refused = recorder
	})
	return h, func() { recorder.Flush(t.Context()) }
}

func TestAuditPages(t *testing.T) {
	h := newHarness(t)
	empty := must[object](h, 200, "GET", "/manage/audit", "")
	if events, ok := empty["events"].([]any); !ok || len(events) != 0 {
		t.Errorf("events of an empty audit: %v", empty["events"])
	}
	at := time.Date(2030, 1, 31, 18, 0, 0, 0, time.UTC)
	var entries []audit.Entry
	for i := range 45 {
		entries = append(entries, audit.Entry{Time: at.Add(time.Duration(i) * time.Second), Action: "a", Actor: "x", Outcome: audit.OutcomeSuccess, RequestID: fmt.Sprint(i)})
	}
	if err := h.db.RecordAudit(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		query      string
		first      string // request id of the first event
		events     int
		pagination string
	}{
		{"", "44", 20, "1/3 of 45 by 20, next true, prev false"},
		{"page=2", "24", 20, "2/3 of 45 by 20, next true, prev true"},
		{"page=3", "4", 5, "3/3 of 45 by 20, next false, prev true"},
		{"page=4", "", 0, "4/3 of 45 by 20, next false, prev true"},
		{"page=1000000000&page_size=100", "", 0, "1e+09/1 of 45 by 100, next false, prev true"},
		{"page_size=45", "44", 45, "1/1 of 45 by 45, next false, prev false"},
		{"page_size=1&page=45", "0", 1, "45/45 of 45 by 1, next false, prev true"},
		{"start_time=2030-01-31T18:00:10Z&end_time=2030-01-31T19:00:12%2B01:00", "12", 3, "1/1 of 3 by 20, next false, prev false"},
		{"action=b", "", 0, "1/0 of 0 by 20, next false, prev false"},
		{"search=%25", "", 0, "1/0 of 0 by 20, next false, prev false"},
	} {
		res := must[object](h, 200, "GET", "/manage/audit?"+test.query, "")
		events, p := res["events"].([]any), res["pagination"].(object)
		got := fmt.Sprintf("%v/%v of %v by %v, next %v, prev %v", p["page"], p["total_pages"], p["total_count"], p["page_size"], p["has_next"], p["has_prev"])
		if got != test.pagination || len(events) != test.events || len(events) > 0 && events[0].(object)["request_id"] != test.first {
			t.Errorf("%s: %s, %d events; want %s, %d from %s", test.query, got, len(events), test.pagination, test.events, test.first)
		}
	}
}

func TestAuditFilters(t *testing.T) {
	h := newHarness(t)
	p := h.project(`{"name":"A"}`)
	tk := h.token(`{"project_id":"` + id(p) + `"}`)
	must[object](h, 204, "DELETE", "/manage/tokens/"+id(tk)+"?reason=lost_100%25", "", header("X-Request-Id", "the-call"))
	for query, want := range map[string]int{
		"action=token.create": 1, "actor=management_token": 3, "outcome=success": 3, "outcome=failure": 0, "client_ip=" + clientIP: 3,
		"client_ip=::ffff:" + clientIP: 3, "client_ip=192.0.2.8": 0, "request_id=the-call": 1, "method=POST": 2, "path=/manage/tokens": 1,
		"project_id=" + id(p): 3, "target_id=" + id(p): 1, "token_id=" + id(tk): 2, "token_id=" + id(p): 0, "search=LOST_1": 1, "search=0%25": 1,
		"search=t_1": 1, "search=x_1": 0, "action=token.create&method=DELETE": 0,
	} {
		res := must[object](h, 200, "GET", "/manage/audit?"+query, "")
		if n := len(res["events"].([]any)); n != want {
			t.Errorf("%s selects %d events, want %d", query, n, want)
		}
	}
	for query, words := range map[string]string{
		"page=0": "page: expected", "page=-1": "page: expected", "page=1000000001": "page: expected", "page=x": "page: expected", "page=": "page: expected",
		"page=01": "page: expected", "page=99999999999999999999": "page: expected",
		"page_size=0": "page_size: expected a whole number from 1 to 100", "page_size=-1": "page_size", "page_size=101": "page_size", "page_size=1e2": "page_size",
		"outcome=maybe": "success, denied or failure", "client_ip=x": "client_ip: expected", "project_id=1": "project_id: expected", "token_id=": "token_id",
		"target_id=" + strings.ToUpper(id(p)): "target_id", "start_time=yesterday": "start_time: expected", "end_time=2030-01-31": "end_time: expected",
		"start_time=2030-01-02T00:00:00Z&end_time=2030-01-01T00:00:00Z": "end_time: is before", "action=": "action: is empty", "search=%00": "search",
		"search=" + strings.Repeat("x", 1025): "search", "search=" + url.QueryEscape("\u202e"): "search", "sort=name": "sort: unknown", "action=a&action=b": "action: given more",
	} {
		h.refused("invalid_request", words, "GET", "/manage/audit?"+query, "")
	}
	h.refused("not_found", "audit record not found", "GET", "/manage/audit/"+id(p), "")
	h.refused("method_not_allowed", "method", "DELETE", "/manage/audit", "")
}

// TestRefusalsAreRecorded makes every kind of refusal and expects one record each.
func TestRefusalsAreRecorded(t *testing.T) {
	h, flush := newAuditing(t)
	p := id(h.project(`{"name":"A","api_key":"` + providerKey + `"}`))
	idle := id(h.project(`{"name":"Idle","is_active":false}`))
	tk := id(h.token(`{"project_id":"` + p + `"}`))
	must[object](h, 204, "DELETE", "/manage/tokens/"+tk, "")
	none := "01890000-0000-7000-8000-000000000000"
	count := len(h.audits())
	for _, test := range []struct{ method, target, body, action, kind, object, code string }{
		{"POST", "/manage/projects", `{"name":"A"}`, "project.create", "project", "", "project_exists"},
		{"POST", "/manage/projects", `{"name":"` + providerKey + `"`, "project.create", "project", "", "invalid_json"},
		{"POST", "/manage/projects?x=1", `{}`, "project.create", "project", "", "invalid_request"},
		{"POST", "/manage/projects", `"` + strings.Repeat("x", 1<<20) + `"`, "project.create", "project", "", "request_too_large"},
		{"PATCH", "/manage/projects/" + none, `{"name":"B"}`, "project.update", "project", none, "not_found"},
		{"PATCH", "/manage/projects/" + p, `{"nam":"` + providerKey + `"}`, "project.update", "project", p, "unknown_field"},
		{"DELETE", "/manage/projects/" + p, "", "project.delete", "project", p, "method_not_allowed"},
		{"POST", "/manage/projects/" + p + "/keys", `{"provider":"openai","api_key":"k"}`, "key.create", "provider_key", "", "key_exists"},
		{"DELETE", "/manage/projects/" + p + "/keys/" + none, "", "key.delete", "provider_key", none, "not_found"},
		{"POST", "/manage/tokens", `{"project_id":"` + idle + `"}`, "token.create", "token", "", "project_inactive"},
		{"POST", "/manage/tokens/" + tk + "/rotate", "", "token.rotate", "token", tk, "token_inactive"},
		{"POST", "/manage/projects/" + none + "/tokens/revoke?reason=" + providerKey, "", "token.revoke_batch", "project", none, "not_found"},
		{"POST", "/manage/cache/purge", `{"url":"/v1/models","method":"` + providerKey + `","all":true}`, "cache.purge", "cache", "", "invalid_request"},
	} {
		res := h.call(test.method, test.target, test.body, header("X-Request-Id", "refused-call"))
		flush()
		entries := h.audits()
		if len(entries) != count+1 {
			t.Fatalf("%s %s: %d made %d records", test.method, test.target, res.status, len(entries)-count)
		}
		count++
		e := entries[0]
		object := ""
		if !e.TargetID.IsNil() {
			object = e.TargetID.String()
		}
		if e.Action != test.action || e.TargetType != test.kind || object != test.object || e.Reason != test.code || e.Outcome != "failure" ||
			e.Actor != "management_token" || e.ClientIP != clientIP || e.RequestID != "refused-call" || e.Method != test.method || len(e.Changes) > 0 {
			t.Errorf("%s %s: %d is recorded as %+v", test.method, test.target, res.status, e)
		}
	}
	for _, call := range [][2]string{ // what would have changed nothing leaves nothing
		{"GET", "/manage/projects/" + none}, {"GET", "/manage/tokens?limit=0"}, {"POST", "/manage/no/such/path"}, {"PUT", "/manage/tokens/" + tk}, {"DELETE", "/manage/tokens/x"},
	} {
		h.call(call[0], call[1], "")
	}
	flush()
	if n := len(h.audits()); n != count {
		t.Errorf("%d records of calls that change nothing", n-count)
	}
	events := must[map[string]any](h, 200, "GET", "/manage/audit?outcome=failure&page_size=100", "")
	if strings.Contains(fmt.Sprint(events), providerKey) {
		t.Error("a record holds a provider key")
	}
}

// TestLoginsAreRecorded also looks for what was presented, in a header or a path.
func TestLoginsAreRecorded(t *testing.T) {
	h, flush := newAuditing(t)
	const presented = "sk-CANARY-presented"
	for range 3 * audit.MaxLoginsPerClient {
		h.refused("unauthorized", "management token", "DELETE", "/manage/"+presented+"?key="+presented, presented,
			header("Authorization", "Bearer "+presented), header("X-Request-Id", "stranger"))
	}
	flush()
	entries := h.audits()
	if len(entries) != audit.MaxLoginsPerClient {
		t.Fatalf("%d records", len(entries))
	}
	for _, e := range entries {
		want := audit.Entry{ID: e.ID, Time: e.Time, Actor: "anonymous", Action: "management.login", Outcome: "denied", ClientIP: clientIP,
			RequestID: "stranger", Method: http.MethodDelete, UserAgent: "tests/1", Reason: "unauthorized", Occurrences: 1}
		if fmt.Sprint(e) != fmt.Sprint(want) {
			t.Errorf("record\n %+v, want\n %+v", e, want)
		}
	}
	res := h.call("GET", "/manage/audit", "")
	if strings.Contains(string(res.body), "CANARY") || !strings.Contains(string(res.body), `"management.login"`) {
		t.Errorf("records: %s", res.body)
	}
}

func TestAuditWithoutStore(t *testing.T) {
	db, err := storage.New(storage.Config{Driver: "sqlite", DSN: t.TempDir() + "/x.db", Keyring: must1(secret.NewKeyring(make([]byte, secret.KeySize)))})
	if err != nil {
		t.Fatal(err)
	}
	h := newHarness(t, func(cfg *adminapi.Config) { cfg.Store = db })
	h.refused("store_unavailable", "database", "GET", "/manage/audit", "")
	h.refused("store_unavailable", "database", "GET", "/manage/audit/01890000-0000-7000-8000-000000000000", "")
}

func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
