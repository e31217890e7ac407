package adminapi_test

import (
	"database/sql"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
)

// damage runs a statement behind the API's back.
func (h *harness) damage(statement string) {
	h.t.Helper()
	db, err := sql.Open("sqlite", "file:"+h.file+"?_pragma=busy_timeout(5000)")
	if err != nil {
		h.t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(h.t.Context(), statement); err != nil {
		h.t.Fatal(err)
	}
}

func TestAudit(t *testing.T) {
	h := newHarness(t)
	count := 0
	// did makes a call and expects records more entries; it returns the newest.
	did := func(records int, method, target, body string) (object, audit.Entry) {
		t.Helper()
		res := h.call(method, target, body, header("X-Request-Id", fmt.Sprint("call-", count)),
			header("User-Agent", strings.Repeat("é", 200)), header("X-Forwarded-For", "203.0.113.9"))
		entries := h.audits()
		if len(entries) != count+records {
			t.Fatalf("%s %s %s: %d %s made %d entries, want %d", method, target, body, res.status, res.body, len(entries)-count, records)
		}
		e := entries[0]
		if path, _, _ := strings.Cut(target, "?"); records == 1 {
			want := audit.Entry{ID: e.ID, Time: e.Time, Actor: "management_token", Action: e.Action, Outcome: "success", TargetType: e.TargetType,
				TargetID: e.TargetID, ProjectID: e.ProjectID, ClientIP: clientIP, RequestID: fmt.Sprint("call-", count), Method: method, Path: path,
				UserAgent: strings.Repeat("é", 128), Reason: e.Reason, Changes: e.Changes, Occurrences: 1}
			if fmt.Sprint(e) != fmt.Sprint(want) || e.ProjectID.IsNil() || e.TargetID.IsNil() {
				t.Errorf("entry\n %+v, want\n %+v", e, want)
			}
		}
		count = len(entries)
		if len(res.body) > 0 && res.body[0] == '{' {
			return decode[object](t, res), e
		}
		return nil, e
	}
	expect := func(e audit.Entry, action, kind, target, changes string) {
		t.Helper()
		if e.Action != action || e.TargetType != kind || e.TargetID.String() != target || fmt.Sprint(e.Changes) != changes {
			t.Errorf("entry %s %s %s %v, want %s %s %s %s", e.Action, e.TargetType, e.TargetID, e.Changes, action, kind, target, changes)
		}
	}

	p, e := did(1, "POST", "/manage/projects", `{"name":"A","api_key":"`+providerKey+`","allowed_models":["m"]}`)
	expect(e, "project.create", "project", id(p), "map[allowed_models:{<nil> [m]} api_key:{<nil> [redacted]} name:{ A} provider:{<nil> openai}]")
	pp := "/manage/projects/" + id(p)
	_, e = did(1, "PATCH", pp, `{"name":"B","allowed_models":null}`)
	expect(e, "project.update", "project", id(p), "map[allowed_models:{[m] <nil>} name:{A B}]")

	k, e := did(1, "POST", pp+"/keys", `{"provider":"anthropic","api_key":"`+providerKey+`","weight":2}`)
	expect(e, "key.create", "provider_key", id(k), "map[api_key:{<nil> [redacted]} provider:{ anthropic} weight:{1 2}]")
	_, e = did(1, "PATCH", pp+"/keys/"+id(k), `{"api_key":"`+providerKey+`","label":"l"}`)
	expect(e, "key.update", "provider_key", id(k), "map[api_key:{[redacted] [redacted]} label:{ l}]")
	_, e = did(1, "DELETE", pp+"/keys/"+id(k), "")
	expect(e, "key.delete", "provider_key", id(k), "map[api_key:{[redacted] <nil>} provider:{anthropic <nil>}]")

	tk, e := did(1, "POST", "/manage/tokens", `{"project_id":"`+id(p)+`","expires_at":null,"name":"n"}`)
	expect(e, "token.create", "token", id(tk), "map[expires_at:{<nil> never} name:{ n}]")
	tp := "/manage/tokens/" + id(tk)
	_, e = did(1, "PATCH", tp, `{"expires_at":"2999-01-01T00:00:00Z"}`)
	expect(e, "token.update", "token", id(tk), "map[expires_at:{never 2999-01-01T00:00:00Z}]")
	fresh, e := did(1, "POST", tp+"/rotate", "")
	expect(e, "token.rotate", "token", id(tk), "map[is_active:{true false} replaced_by:{<nil> "+id(fresh)+"}]")
	_, e = did(1, "DELETE", "/manage/tokens/"+id(fresh)+"?reason=because", "")
	expect(e, "token.revoke", "token", id(fresh), "map[is_active:{true false}]")
	if e.Reason != "because" {
		t.Errorf("reason %q", e.Reason)
	}
	_, e = did(1, "POST", pp+"/tokens/revoke", "")
	expect(e, "token.revoke_batch", "project", id(p), "map[revoked_count:{<nil> 0}]")
	_, e = did(1, "PATCH", pp, `{"is_active":false,"revoke_tokens":true}`)
	expect(e, "project.update", "project", id(p), "map[is_active:{true false} revoke_tokens:{<nil> 0}]")

	for _, call := range [][3]string{ // what changes nothing leaves nothing
		{"PATCH", pp, `{}`}, {"PATCH", pp, `{"name":"B","is_active":false}`}, {"PATCH", tp, `{}`}, {"DELETE", "/manage/tokens/" + id(fresh), ""},
		{"GET", "/manage/projects", ""}, {"GET", "/manage/tokens", ""}, {"GET", pp, ""}, {"GET", tp, ""}, {"GET", pp + "/keys", ""}, {"GET", "/ready", ""},
		{"POST", "/manage/projects", `{"name":"B"}`}, {"POST", "/manage/tokens", `{"project_id":"` + id(p) + `"}`}, {"POST", tp + "/rotate", ""},
		{"PATCH", pp, `{"name":""}`}, {"PATCH", tp, `{"allowed_ips":["x"]}`}, {"DELETE", pp, ""}, {"PUT", pp, `{}`},
		{"POST", pp + "/keys", `{"provider":"openai","api_key":"k"}`}, {"PATCH", pp + "/keys/" + id(k), `{"weight":2}`}, {"DELETE", pp + "/keys/" + id(k), ""},
	} {
		did(0, call[0], call[1], call[2])
	}
}

// TestNoChangeWithoutRecord makes the audit table fail: what it would have
// recorded must not have happened.
func TestNoChangeWithoutRecord(t *testing.T) {
	h := newHarness(t)
	p := h.project(`{"name":"A","api_key":"` + providerKey + `"}`)
	pp := "/manage/projects/" + id(p)
	k := must[[]object](h, 200, "GET", pp+"/keys", "")[0]
	tk := h.token(`{"project_id":"` + id(p) + `"}`)
	tp := "/manage/tokens/" + id(tk)
	state := func() string {
		all := ""
		for _, path := range []string{"/manage/projects", "/manage/tokens", pp + "/keys"} {
			all += string(h.call("GET", path, "").body)
		}
		return all + h.storedKey(id(p), "openai")
	}
	before := state()
	h.damage(`CREATE TRIGGER refuse BEFORE INSERT ON audit_events BEGIN SELECT RAISE(ABORT, 'the detail that stays inside'); END`)
	for _, call := range [][3]string{
		{"POST", "/manage/projects", `{"name":"B","api_key":"k"}`}, {"PATCH", pp, `{"name":"C","is_active":false,"revoke_tokens":true}`},
		{"POST", pp + "/keys", `{"provider":"anthropic","api_key":"k"}`}, {"PATCH", pp + "/keys/" + id(k), `{"api_key":"k"}`}, {"DELETE", pp + "/keys/" + id(k), ""},
		{"POST", "/manage/tokens", `{"project_id":"` + id(p) + `"}`}, {"PATCH", tp, `{"name":"n"}`}, {"DELETE", tp, ""},
		{"POST", tp + "/rotate", ""}, {"POST", pp + "/tokens/revoke", ""},
	} {
		res := h.refused("internal", "internal error", call[0], call[1], call[2])
		if strings.Contains(string(res.body), "inside") || res.status != http.StatusInternalServerError {
			t.Errorf("%v: %d %s", call, res.status, res.body)
		}
	}
	if after := state(); after != before {
		t.Errorf("state was\n%s\nis\n%s", before, after)
	}
	if !strings.Contains(h.log.String(), "the detail that stays inside") {
		t.Error("the log does not hold the cause")
	}
}
