package adminapi_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestBodies(t *testing.T) {
	h := newHarness(t)
	p := id(h.project(`{"name":"A"}`))
	project := "/manage/projects/" + p
	before := len(h.audits())
	for _, test := range []struct{ code, words, method, target, body string }{
		{"invalid_json", "empty", "POST", "/manage/projects", ""},
		{"invalid_json", "empty", "PATCH", project, " \n"},
		{"invalid_json", "JSON object", "POST", "/manage/projects", `[]`},
		{"invalid_json", "JSON object", "POST", "/manage/projects", `null`},
		{"invalid_json", "JSON object", "POST", "/manage/projects", `"x"`},
		{"invalid_json", "JSON object", "POST", "/manage/tokens/" + p + "/rotate", `5`},
		{"invalid_json", "byte", "POST", "/manage/projects", `{"name":"x"`},
		{"invalid_json", "byte", "POST", "/manage/projects", `{"name":"x"} {}`},
		{"invalid_json", "byte", "POST", "/manage/projects", `{"name":"x",}`},
		{"invalid_json", "byte", "POST", "/manage/projects", "{\"name\":\"\xff\"}"},
		{"invalid_json", "name: given more than once", "POST", "/manage/projects", `{"name":"x","name":"x"}`},
		{"invalid_json", "metadata.a: given more than once", "POST", "/manage/projects", `{"name":"x","metadata":{"a":"1","a":"1"}}`},
		{"unknown_field", "Name", "POST", "/manage/projects", `{"Name":"x"}`},
		{"unknown_field", "api_key: unknown field; keys are changed with PATCH", "PATCH", project, `{"api_key":"k"}`},
		{"unknown_field", "provider", "PATCH", project + "/keys/" + p, `{"provider":"openai"}`},
		{"unknown_field", "project_id", "PATCH", "/manage/tokens/" + p, `{"project_id":"x"}`},
		{"unknown_field", "x", "POST", project + "/tokens/revoke", `{"x":1}`},
		{"invalid_request", "name: expected a string", "POST", "/manage/projects", `{"name":1}`},
		{"invalid_request", "is_active: expected true or false", "POST", "/manage/projects", `{"name":"x","is_active":"yes"}`},
		{"invalid_request", "allowed_models: expected an array", "POST", "/manage/projects", `{"name":"x","allowed_models":"a"}`},
		{"invalid_request", "allowed_models[1]: expected a string", "POST", "/manage/projects", `{"name":"x","allowed_models":["a",1]}`},
		{"invalid_request", "metadata.a: expected a string", "POST", "/manage/projects", `{"name":"x","metadata":{"a":1}}`},
		{"invalid_request", "metadata: expected an object", "POST", "/manage/projects", `{"name":"x","metadata":[]}`},
		{"invalid_request", "overlap_minutes: expected a whole number", "POST", "/manage/tokens/" + p + "/rotate", `{"overlap_minutes":1.5}`},
		{"invalid_request", "overlap_minutes: expected a whole number", "POST", "/manage/tokens/" + p + "/rotate", `{"overlap_minutes":99999999999999999999}`},
	} {
		h.refused(test.code, test.words, test.method, test.target, test.body)
	}
	for _, field := range []string{"allow_unpriced", "allow_unbounded"} {
		words := field + ": unknown field; only projects have it: PATCH /manage/projects/{id}"
		h.refused("unknown_field", words, "POST", "/manage/tokens", `{"project_id":"`+p+`","`+field+`":true}`)
		h.refused("unknown_field", words, "PATCH", "/manage/tokens/"+p, `{"`+field+`":true}`)
	}
	if after := len(h.audits()); after != before {
		t.Errorf("refusals made %d audit entries", after-before)
	}
}

func TestContentType(t *testing.T) {
	h := newHarness(t)
	for _, values := range [][]string{{"text/plain"}, {"application/x-www-form-urlencoded"}, {""}, {"application/json", "application/json"}, {"application/jsonx"}} {
		h.refused("invalid_request", "send application/json", "POST", "/manage/projects", `{"name":"x"}`, header("Content-Type", values...))
	}
	must[object](h, 201, "POST", "/manage/projects", `{"name":"absent"}`, header("Content-Type"))
	must[object](h, 201, "POST", "/manage/projects", `{"name":"spelt"}`, header("Content-Type", "Application/JSON; charset=utf-8"))
}

func TestOversize(t *testing.T) {
	h := newHarness(t)
	fits := `{"name":"x"` + strings.Repeat(" ", 1<<20-len(`{"name":"x"}`)) + `}`
	chunked := func(r *http.Request) { r.ContentLength = -1 }
	for _, target := range []string{"/manage/projects", "/manage/tokens"} {
		h.refused("request_too_large", "1048576", "POST", target, fits+" ")
		h.refused("request_too_large", "1048576", "POST", target, fits+" ", chunked)
		h.refused("request_too_large", "1048576", "POST", target, "", chunked, func(r *http.Request) { r.Body = io.NopCloser(endless{}) })
	}
	must[object](h, 201, "POST", "/manage/projects", fits)
	h.refused("invalid_request", "name: has 1000000 bytes", "POST", "/manage/projects", `{"name":"`+strings.Repeat("n", 1000000)+`"}`)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
