package adminapi_test

import (
	"fmt"
	"testing"

	"github.com/gofrs/uuid/v5"
)

// storedKey is the secret that requests of the project would use.
func (h *harness) storedKey(projectID, provider string) string {
	h.t.Helper()
	p, err := h.db.LoadProject(h.t.Context(), uuid.Must(uuid.FromString(projectID)))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, c := range p.Credentials {
		if c.Provider == provider {
			return c.Secret.Reveal()
		}
	}
	return ""
}

func TestKeys(t *testing.T) {
	h := newHarness(t)
	p := id(h.project(`{"name":"A"}`))
	path := "/manage/projects/" + p + "/keys"
	if res := h.call("GET", path, ""); string(res.body) != "[]" {
		t.Errorf("no keys are %s", res.body)
	}
	res := h.call("POST", path, `{"provider":"openai","api_key":"`+providerKey+`"}`)
	k := decode[object](t, res)
	if res.status != 201 || res.header.Get("Location") != path+"/"+id(k) {
		t.Fatalf("%d %s %v", res.status, res.body, res.header)
	}
	for name, want := range (object{"provider": "openai", "display": "…1234", "label": "", "weight": 1, "priority": 0, "is_active": true}) {
		if fmt.Sprint(k[name]) != fmt.Sprint(want) {
			t.Errorf("%s is %v, want %v", name, k[name], want)
		}
	}
	if got := h.storedKey(p, "openai"); got != providerKey {
		t.Errorf("stored %q", got)
	}
	if same := must[object](h, 200, "PATCH", path+"/"+id(k), `{}`); fmt.Sprint(same) != fmt.Sprint(k) {
		t.Errorf("{} changed %v to %v", k, same)
	}
	h.refused("key_exists", "PATCH that key", "POST", path, `{"provider":"openai","api_key":"`+providerKey+`"}`)
	must[object](h, 200, "PATCH", path+"/"+id(k), `{"is_active":false}`)
	h.refused("key_exists", "PATCH that key", "POST", path, `{"provider":"openai","api_key":"`+providerKey+`"}`)

	changed := must[object](h, 200, "PATCH", path+"/"+id(k), `{"api_key":"sk-replacement-5678","label":"new","weight":1000,"priority":1000,"is_active":true}`)
	for name, want := range (object{"display": "…5678", "label": "new", "weight": 1000, "priority": 1000, "is_active": true}) {
		if fmt.Sprint(changed[name]) != fmt.Sprint(want) {
			t.Errorf("%s is %v, want %v", name, changed[name], want)
		}
	}
	if got := h.storedKey(p, "openai"); got != "sk-replacement-5678" {
		t.Errorf("stored %q after the replacement", got)
	}
	must[object](h, 201, "POST", path, `{"provider":"anthropic","api_key":"k","label":"second"}`)
	if list := must[[]object](h, 200, "GET", path, ""); len(list) != 2 {
		t.Errorf("list %v", list)
	}

	other := id(h.project(`{"name":"B"}`))
	for _, method := range []string{"PATCH", "DELETE"} { // another project's key is not there
		h.refused("not_found", "key not found", method, "/manage/projects/"+other+"/keys/"+id(k), map[string]string{"PATCH": `{"weight":2}`}[method])
	}
	must[object](h, 204, "DELETE", path+"/"+id(k), "")
	h.refused("not_found", "key not found", "DELETE", path+"/"+id(k), "")
	must[object](h, 201, "POST", path, `{"provider":"openai","api_key":"again"}`)
}

func TestKeyRefusals(t *testing.T) {
	h := newHarness(t)
	path := "/manage/projects/" + id(h.project(`{"name":"A","api_key":"`+providerKey+`"}`)) + "/keys"
	k := path + "/" + id(must[[]object](h, 200, "GET", path, "")[0])
	for body, words := range map[string]string{
		`{"api_key":"k"}`:                                        "provider: is required",
		`{"provider":"anthropic"}`:                               "api_key: is required",
		`{"provider":"anthropic","api_key":null}`:                "api_key: is required",
		`{"provider":"anthropic","api_key":""}`:                  "api_key: is empty",
		`{"provider":"mystery","api_key":"k"}`:                   "provider: expected one of anthropic, openai",
		`{"provider":"anthropic","api_key":"k","weight":0}`:      "weight: expected a whole number from 1 to 1000",
		`{"provider":"anthropic","api_key":"k","weight":1001}`:   "weight: expected a whole number from 1 to 1000",
		`{"provider":"anthropic","api_key":"k","weight":null}`:   "weight: may not be null",
		`{"provider":"anthropic","api_key":"k","priority":-1}`:   "priority: expected a whole number from 0 to 1000",
		`{"provider":"anthropic","api_key":"k","priority":1001}`: "priority: expected a whole number from 0 to 1000",
		`{"provider":"anthropic","api_key":"k","label":"\n"}`:    "label: write it in UTF-8",
	} {
		h.refused("invalid_request", words, "POST", path, body)
	}
	for body, words := range map[string]string{
		`{"api_key":null}`:          "api_key: is empty",
		`{"api_key":"…1234"}`:       "api_key: this is a masked key",
		`{"weight":0}`:              "weight",
		`{"priority":1001}`:         "priority",
		`{"label":null}`:            "label: may not be null",
		`{"is_active":null}`:        "is_active: may not be null",
		`{"label":" a","weight":3}`: "label: remove",
	} {
		h.refused("invalid_request", words, "PATCH", k, body)
	}
}
