package adminapi_test

import (
	"fmt"
	"strings"
	"testing"
)

func TestProjectCreate(t *testing.T) {
	h := newHarness(t)
	res := h.call("POST", "/manage/projects", `{"name":"Ünïcode & <b>","api_key":"`+providerKey+`","allowed_ips":["10.0.0.1"],"metadata":{"a":""}}`)
	p := decode[object](t, res)
	if res.status != 201 || res.header.Get("Location") != "/manage/projects/"+id(p) {
		t.Fatalf("%d %s, Location %q", res.status, res.body, res.header.Get("Location"))
	}
	for name, want := range (object{"name": "Ünïcode & <b>", "api_key": "…1234", "is_active": true, "use_shared_keys": true,
		"deactivated_at": nil, "allowed_models": nil, "allowed_ips": []any{"10.0.0.1"}, "metadata": object{"a": ""}}) {
		if fmt.Sprint(p[name]) != fmt.Sprint(want) {
			t.Errorf("%s is %v, want %v", name, p[name], want)
		}
	}
	if read := must[object](h, 200, "GET", "/manage/projects/"+id(p), ""); fmt.Sprint(read) != fmt.Sprint(p) {
		t.Errorf("read %v, created %v", read, p)
	}
	keys := must[[]object](h, 200, "GET", "/manage/projects/"+id(p)+"/keys", "")
	if len(keys) != 1 || keys[0]["provider"] != "openai" || keys[0]["display"] != "…1234" {
		t.Errorf("keys %v", keys)
	}
	if bare := h.project(`{"name":"bare"}`); bare["api_key"] != "" {
		t.Errorf("api_key %q without a key", bare["api_key"])
	}
	if short := h.project(`{"name":"short","api_key":"k"}`); short["api_key"] != "…" {
		t.Errorf("a short key is shown as %q", short["api_key"])
	}
	idle := h.project(`{"name":"idle","is_active":false,"allowed_models":null,"metadata":null}`)
	if idle["is_active"] != false || idle["deactivated_at"] != idle["created_at"] {
		t.Errorf("inactive from the start: %v", idle)
	}
}

func TestProjectCreateRefusals(t *testing.T) {
	h := newHarness(t)
	long := strings.Repeat("n", 256)
	for body, words := range map[string]string{
		`{}`:                                         "name: is required",
		`{"name":null}`:                              "name: is required",
		`{"name":""}`:                                "name: is empty",
		`{"name":" x"}`:                              "name: remove the white space",
		`{"name":"x\u00a0"}`:                         "name: remove the white space",
		`{"name":"a\u0000b"}`:                        "name: write it in UTF-8",
		`{"name":"a\u009bb"}`:                        "name: write it in UTF-8",
		`{"name":"a\u202eb"}`:                        "name: write it in UTF-8",
		`{"name":"` + long + `"}`:                    "name: has 256 bytes, at most 255",
		`{"name":"x","is_active":null}`:              "is_active: may not be null",
		`{"name":"x","use_shared_keys":null}`:        "use_shared_keys: may not be null",
		`{"name":"x","provider":"openai"}`:           "provider: says whose key",
		`{"name":"x","provider":null}`:               "provider: says whose key",
		`{"name":"x","api_key":null}`:                "api_key: is empty",
		`{"name":"x","api_key":""}`:                  "api_key: is empty",
		`{"name":"x","api_key":"sk-1...2"}`:          "api_key: this is a masked key",
		`{"name":"x","api_key":"sk****2"}`:           "api_key: this is a masked key",
		`{"name":"x","api_key":"…1234"}`:             "api_key: this is a masked key",
		`{"name":"x","api_key":"a b"}`:               "api_key: expected visible ASCII",
		`{"name":"x","api_key":"k\n"}`:               "api_key: expected visible ASCII",
		`{"name":"x","api_key":"ключ"}`:              "api_key: expected visible ASCII",
		`{"name":"x","api_key":"k","provider":null}`: "provider: expected one of anthropic, openai",
		`{"name":"x","api_key":"k","provider":"y"}`:  "provider: expected one of anthropic, openai",
		`{"name":"x","allowed_ips":["10.0.0.0/33"]}`: "allowed_ips[0]",
		`{"name":"x","allowed_endpoints":["v1"]}`:    "allowed_endpoints[0]",
		`{"name":"x","allowed_models":["a",null]}`:   "allowed_models[1]: is empty",
		`{"name":"x","metadata":{"a":null}}`:         "metadata.a: may not be null",
		`{"name":"x","metadata":{"":"b"}}`:           "metadata",
		`{"name":"x","allowed_models":[` + strings.Repeat(`"m",`, 256) + `"m"]}`:                           "allowed_models has 257 entries",
		`{"name":"x","api_key":"` + strings.Repeat("k", 4097) + `"}`:                                       "api_key: has 4097 bytes",
		`{"name":"` + long[:255] + `","metadata":{"a":"` + strings.Repeat("v", 1025) + `"}}`:               "metadata.a",
		`{"name":"` + long[:255] + `","allowed_providers":["` + strings.Repeat("p", 257) + `"]}`:           "allowed_providers[0]",
		`{"name":"` + long[:255] + `","allowed_endpoints":["/v1/../manage"],"allowed_ips":["2001:db8::"]}`: "allowed_endpoints[0]",
	} {
		h.refused("invalid_request", words, "POST", "/manage/projects", body)
	}
	if left := must[[]object](h, 200, "GET", "/manage/projects", ""); len(left) != 0 {
		t.Errorf("refusals made %v", left)
	}
	must[object](h, 201, "POST", "/manage/projects", `{"name":"`+long[:255]+`","api_key":"`+strings.Repeat("k", 4096)+`"}`)
}

func TestProjectPatch(t *testing.T) {
	h := newHarness(t)
	p := h.project(`{"name":"A","allowed_models":["m"],"metadata":{"a":"b"}}`)
	path := "/manage/projects/" + id(p)
	tk := h.token(`{"project_id":"` + id(p) + `"}`)

	if same := must[object](h, 200, "PATCH", path, `{}`); fmt.Sprint(same) != fmt.Sprint(p) {
		t.Errorf("{} changed %v to %v", p, same)
	}
	if same := must[object](h, 200, "PATCH", path, `{"name":"A","is_active":true,"allowed_models":["m"]}`); fmt.Sprint(same) != fmt.Sprint(p) {
		t.Errorf("the same values changed %v to %v", p, same)
	}
	for body, words := range map[string]string{
		`{"revoke_tokens":true}`:                   "revoke_tokens: requires is_active: false",
		`{"revoke_tokens":true,"is_active":true}`:  "revoke_tokens: requires is_active: false",
		`{"revoke_tokens":true,"is_active":null}`:  "revoke_tokens: requires is_active: false",
		`{"revoke_tokens":null,"is_active":false}`: "revoke_tokens: may not be null",
		`{"name":""}`:            "name: is empty",
		`{"name":null}`:          "name: may not be null",
		`{"is_active":null}`:     "is_active: may not be null",
		`{"allowed_ips":["me"]}`: "allowed_ips[0]",
	} {
		h.refused("invalid_request", words, "PATCH", path, body)
	}

	off := must[object](h, 200, "PATCH", path, `{"is_active":false,"revoke_tokens":false}`)
	if off["is_active"] != false || off["deactivated_at"] != off["updated_at"] {
		t.Errorf("deactivated: %v", off)
	}
	if got := must[object](h, 200, "GET", "/manage/tokens/"+id(tk), ""); got["is_active"] != true {
		t.Errorf("deactivating alone revoked %v", got)
	}
	if again := must[object](h, 200, "PATCH", path, `{"is_active":false}`); again["deactivated_at"] != off["deactivated_at"] {
		t.Errorf("deactivating twice moved the time: %v", again)
	}
	must[object](h, 200, "PATCH", path, `{"is_active":false,"revoke_tokens":true}`)
	if got := must[object](h, 200, "GET", "/manage/tokens/"+id(tk), ""); got["is_active"] != false || got["revoke_reason"] != "project_deactivated" {
		t.Errorf("revoke_tokens left %v", got)
	}
	on := must[object](h, 200, "PATCH", path, `{"is_active":true,"allowed_models":null,"metadata":{"c":"d"},"name":"B"}`)
	if on["deactivated_at"] != nil || on["allowed_models"] != nil || fmt.Sprint(on["metadata"]) != "map[c:d]" || on["name"] != "B" {
		t.Errorf("reactivated: %v", on)
	}
}

func TestProjectFilters(t *testing.T) {
	h := newHarness(t)
	for _, name := range []string{"100% sure", "100 sure", "under_score", "underXscore", "GRÖSSE"} {
		h.project(`{"name":"` + name + `","is_active":` + fmt.Sprint(name != "under_score") + `}`)
	}
	for query, want := range map[string]int{
		"": 5, "?q=": 5, "?q=100": 2, "?q=100%25": 1, "?q=_": 1, "?q=gr%C3%B6sse": 1, "?q=nobody": 0, "?q=%27%20OR%201=1": 0,
		"?active=true": 4, "?active=false": 1, "?active=false&q=under": 1, "?active=true&q=under": 1,
	} {
		if got := must[[]object](h, 200, "GET", "/manage/projects"+query, ""); len(got) != want {
			t.Errorf("%s: %d rows, want %d", query, len(got), want)
		}
	}
	if res := h.call("GET", "/manage/projects?q=nobody", ""); string(res.body) != "[]" {
		t.Errorf("an empty list is %s", res.body)
	}
	for query, words := range map[string]string{"?active=1": "active: expected true or false", "?active=": "active", "?q=%00": "q: write it in UTF-8", "?q=%ff": "q: write"} {
		h.refused("invalid_request", words, "GET", "/manage/projects"+query, "")
	}
}
