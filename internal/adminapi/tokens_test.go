package adminapi_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

func timeOf(t *testing.T, o object, name string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, o[name].(string))
	if err != nil || !strings.HasSuffix(o[name].(string), "Z") {
		t.Fatalf("%s is %v: %v", name, o[name], err)
	}
	return at
}

func TestTokenCreate(t *testing.T) {
	h := newHarness(t)
	p := id(h.project(`{"name":"A"}`))
	res := h.call("POST", "/manage/tokens", `{"project_id":"`+p+`","name":"ci","allowed_models":["m"],"metadata":{"a":"b"}}`)
	tk := decode[object](t, res)
	if res.status != 201 || res.header.Get("Location") != "/manage/tokens/"+id(tk) {
		t.Fatalf("%d %s %v", res.status, res.body, res.header)
	}
	s, err := token.Parse(tk["token"].(string))
	if err != nil || s.ID.String() != id(tk) {
		t.Fatalf("token %v of id %s: %v", s, id(tk), err)
	}
	stored, err := h.db.LoadToken(t.Context(), s.ID)
	if err != nil || !s.Matches(stored.Token.HashScheme, stored.Token.Hash, h.db.Pepper()) {
		t.Errorf("the stored hash does not match the token: %v", err)
	}
	if got := timeOf(t, tk, "expires_at").Sub(timeOf(t, tk, "created_at")); got != token.DefaultLifetime {
		t.Errorf("lives %v", got)
	}
	delete(tk, "token")
	if read := must[object](h, 200, "GET", "/manage/tokens/"+id(tk), ""); fmt.Sprint(read) != fmt.Sprint(tk) {
		t.Errorf("read %v, created %v", read, tk)
	}

	minutes := h.token(`{"project_id":"` + p + `","duration_minutes":5256000}`)
	if got := timeOf(t, minutes, "expires_at").Sub(timeOf(t, minutes, "created_at")); got != 5256000*time.Minute {
		t.Errorf("lives %v", got)
	}
	if never := h.token(`{"project_id":"` + p + `","expires_at":null}`); never["expires_at"] != nil {
		t.Errorf("expires at %v", never["expires_at"])
	}
	at := h.token(`{"project_id":"` + p + `","expires_at":"2999-01-01T00:00:00.1234567+02:00"}`)
	if at["expires_at"] != "2998-12-31T22:00:00.123456Z" {
		t.Errorf("expires at %v", at["expires_at"])
	}
}

func TestTokenCreateRefusals(t *testing.T) {
	h := newHarness(t)
	p := id(h.project(`{"name":"A"}`))
	h.refused("invalid_request", "project_id: is required", "POST", "/manage/tokens", `{}`)
	h.refused("invalid_request", "project_id: is required", "POST", "/manage/tokens", `{"project_id":null}`)
	h.refused("invalid_request", "project_id: expected", "POST", "/manage/tokens", `{"project_id":"`+strings.ToUpper(p)+`"}`)
	for members, words := range map[string]string{
		`"duration_minutes":0`:                     "duration_minutes: expected a whole number from 1 to 5256000",
		`"duration_minutes":-1`:                    "duration_minutes: expected a whole number from 1 to 5256000",
		`"duration_minutes":5256001`:               "duration_minutes: expected a whole number from 1 to 5256000",
		`"duration_minutes":null`:                  "duration_minutes: may not be null",
		`"duration_minutes":"5"`:                   "duration_minutes: expected a whole number",
		`"duration_minutes":5,"expires_at":null`:   "expires_at: send either",
		`"expires_at":""`:                          "expires_at: expected a time with zone",
		`"expires_at":"2999-01-01"`:                "expires_at: expected a time with zone",
		`"expires_at":"2999-01-01T00:00:00"`:       "expires_at: expected a time with zone",
		`"expires_at":"2999-01-01T0:00:00Z"`:       "expires_at: expected a time with zone",
		`"expires_at":"2999-01-01T00:00:00,5Z"`:    "expires_at: expected a time with zone",
		`"expires_at":"9999-12-31T23:59:59-12:00"`: "expires_at: expected a time with zone",
		`"expires_at":32503680000`:                 "expires_at: expected a string",
		`"expires_at":"2001-01-01T00:00:00Z"`:      "expires_at: expected a time in the future",
		`"name":null`:                              "name: may not be null",
		`"name":"\u0007"`:                          "name: write it in UTF-8",
		`"allowed_ips":["x"]`:                      "allowed_ips[0]",
	} {
		h.refused("invalid_request", words, "POST", "/manage/tokens", `{"project_id":"`+p+`",`+members+`}`)
	}
	if n := len(must[[]object](h, 200, "GET", "/manage/tokens", "")); n != 0 {
		t.Errorf("refusals made %d tokens", n)
	}
}

func TestTokenPatchAndRevoke(t *testing.T) {
	h := newHarness(t)
	tk := h.token(`{"project_id":"` + id(h.project(`{"name":"A"}`)) + `","name":"n","allowed_models":["m"]}`)
	path := "/manage/tokens/" + id(tk)
	delete(tk, "token")
	if same := must[object](h, 200, "PATCH", path, `{}`); fmt.Sprint(same) != fmt.Sprint(tk) {
		t.Errorf("{} changed %v to %v", tk, same)
	}
	off := must[object](h, 200, "PATCH", path, `{"is_active":false,"name":"","allowed_models":null,"metadata":{"x":"y"},"expires_at":null}`)
	if off["is_active"] != false || off["revoked_at"] != off["updated_at"] || off["name"] != "" || off["allowed_models"] != nil || off["expires_at"] != nil {
		t.Errorf("changed to %v", off)
	}
	on := must[object](h, 200, "PATCH", path, `{"is_active":true,"expires_at":"2999-01-01T00:00:00Z"}`)
	if on["is_active"] != true || on["revoked_at"] != nil || on["expires_at"] != "2999-01-01T00:00:00Z" || fmt.Sprint(on["metadata"]) != "map[x:y]" {
		t.Errorf("reactivated to %v", on)
	}
	for body, words := range map[string]string{
		`{"expires_at":"2001-01-01T00:00:00Z"}`: "expires_at: expected a time in the future; to end a token now, DELETE it",
		`{"is_active":null}`:                    "is_active: may not be null",
		`{"name":" "}`:                          "name: remove",
		`{"allowed_endpoints":["x"]}`:           "allowed_endpoints[0]",
	} {
		h.refused("invalid_request", words, "PATCH", path, body)
	}

	must[object](h, 204, "DELETE", path+"?reason=left%20the%20team", "")
	gone := must[object](h, 200, "GET", path, "")
	if gone["is_active"] != false || gone["revoke_reason"] != "left the team" || gone["revoked_at"] == nil {
		t.Errorf("revoked to %v", gone)
	}
	must[object](h, 204, "DELETE", path+"?reason=other", "")
	if again := must[object](h, 200, "GET", path, ""); fmt.Sprint(again) != fmt.Sprint(gone) {
		t.Errorf("revoking twice changed %v to %v", gone, again)
	}
	back := must[object](h, 200, "PATCH", path, `{"is_active":true}`)
	if back["revoke_reason"] != nil || back["revoked_at"] != nil {
		t.Errorf("reactivated to %v", back)
	}
}

func TestRevokeProjectTokens(t *testing.T) {
	h := newHarness(t)
	p, other := id(h.project(`{"name":"A"}`)), id(h.project(`{"name":"B"}`))
	first := h.token(`{"project_id":"` + p + `"}`)
	h.token(`{"project_id":"` + p + `"}`)
	spared := h.token(`{"project_id":"` + other + `"}`)
	must[object](h, 204, "DELETE", "/manage/tokens/"+id(first), "")
	path := "/manage/projects/" + p + "/tokens/revoke"
	for _, want := range []string{
		"map[already_revoked_count:1 revoked_count:1 total_tokens:2]",
		"map[already_revoked_count:2 revoked_count:0 total_tokens:2]",
	} {
		if got := must[object](h, 200, "POST", path+"?reason=leak", ""); fmt.Sprint(got) != want {
			t.Errorf("%v, want %s", got, want)
		}
	}
	if got := must[object](h, 200, "GET", "/manage/tokens/"+id(spared), ""); got["is_active"] != true {
		t.Errorf("another project's token: %v", got)
	}
}

func TestRotate(t *testing.T) {
	h := newHarness(t)
	p := id(h.project(`{"name":"A"}`))
	policy := `"allowed_models":["m"],"allowed_ips":["10.0.0.1"],"metadata":{"a":"b"}`
	old := h.token(`{"project_id":"` + p + `","name":"n","duration_minutes":60,` + policy + `}`)
	path := "/manage/tokens/" + id(old)

	t.Run("Overlap", func(t *testing.T) {
		fresh := must[object](h, 201, "POST", path+"/rotate", `{"overlap_minutes":10}`)
		for _, name := range []string{"project_id", "name", "expires_at", "allowed_models", "allowed_ips", "metadata", "is_active"} {
			if fmt.Sprint(fresh[name]) != fmt.Sprint(old[name]) {
				t.Errorf("%s was %v, is %v", name, old[name], fresh[name])
			}
		}
		if fresh["token"] == old["token"] || id(fresh) == id(old) {
			t.Error("the secret is the same")
		}
		kept := must[object](h, 200, "GET", path, "")
		if got := timeOf(t, kept, "expires_at").Sub(timeOf(t, fresh, "created_at")); kept["is_active"] != true || got != 10*time.Minute {
			t.Errorf("the old one lives %v: %v", got, kept)
		}
	})
	t.Run("OverlapNeverLengthens", func(t *testing.T) {
		before := must[object](h, 200, "GET", path, "")
		must[object](h, 201, "POST", path+"/rotate", `{"overlap_minutes":10080}`)
		if after := must[object](h, 200, "GET", path, ""); after["expires_at"] != before["expires_at"] {
			t.Errorf("expiry moved from %v to %v", before["expires_at"], after["expires_at"])
		}
	})
	t.Run("NeverExpiring", func(t *testing.T) {
		forever := h.token(`{"project_id":"` + p + `","expires_at":null}`)
		fresh := must[object](h, 201, "POST", "/manage/tokens/"+id(forever)+"/rotate", `{"overlap_minutes":1}`)
		if kept := must[object](h, 200, "GET", "/manage/tokens/"+id(forever), ""); fresh["expires_at"] != nil || kept["expires_at"] == nil {
			t.Errorf("new %v, old %v", fresh, kept)
		}
	})
	t.Run("AtOnce", func(t *testing.T) {
		must[object](h, 201, "POST", path+"/rotate", "")
		if gone := must[object](h, 200, "GET", path, ""); gone["is_active"] != false || gone["revoke_reason"] != "rotated" {
			t.Errorf("the old one is %v", gone)
		}
		h.refused("token_inactive", "create a new one", "POST", path+"/rotate", "")
	})
	t.Run("Expired", func(t *testing.T) {
		tk := h.token(`{"project_id":"` + p + `"}`)
		h.expire(id(tk))
		h.refused("token_inactive", "expired", "POST", "/manage/tokens/"+id(tk)+"/rotate", `{}`)
		if got := must[object](h, 200, "GET", "/manage/tokens/"+id(tk), ""); got["expired"] != true || got["is_active"] != true {
			t.Errorf("expired token: %v", got)
		}
	})
	t.Run("Refused", func(t *testing.T) {
		for _, minutes := range []string{"-1", "10081"} {
			h.refused("invalid_request", "overlap_minutes: expected a whole number from 0 to 10080", "POST", path+"/rotate", `{"overlap_minutes":`+minutes+`}`)
		}
		tk := h.token(`{"project_id":"` + p + `"}`)
		must[object](h, 200, "PATCH", "/manage/projects/"+p, `{"is_active":false}`)
		h.refused("project_inactive", "inactive", "POST", "/manage/tokens/"+id(tk)+"/rotate", "")
		stored, err := h.db.Token(t.Context(), uuid.Must(uuid.FromString(id(tk))))
		if err != nil || !stored.Active {
			t.Errorf("the refusal revoked it: %v", err)
		}
	})
}
