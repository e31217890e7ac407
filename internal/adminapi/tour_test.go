package adminapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

// tour makes every call of the API once with success, and hands out the texts of
// the tokens that it saw born.
func tour(h *harness) (tokens []string) {
	h.t.Helper()
	everything := `"allowed_models":["gpt-*"],"allowed_providers":["openai"],"allowed_endpoints":["/v1/models","/v1/files/*"],` +
		`"allowed_ips":["10.0.0.0/8","2001:db8::1"],"metadata":{"team":"blue"},` +
		`"rpm":60,"tpm":100000,"concurrency":4,"max_requests":1000,"budget_usd":"12.5","budget_period":"month"`
	p := "/manage/projects/" + id(h.project(`{"name":"Tour","api_key":"`+providerKey+`","provider":"anthropic","is_active":true,"use_shared_keys":false,`+everything+`}`))
	k := p + "/keys/" + id(must[object](h, 201, "POST", p+"/keys",
		`{"provider":"openai","api_key":"`+providerKey+`2","label":"main","weight":3,"priority":2,"is_active":false}`))
	must[object](h, 200, "PATCH", k, `{"api_key":"`+providerKey+`3","label":"","weight":1,"priority":0,"is_active":true}`)
	must[[]object](h, 200, "GET", p+"/keys", "")
	must[object](h, 200, "PATCH", p, `{"name":"Tour 2","use_shared_keys":true,"allowed_models":null,"metadata":null}`)
	must[object](h, 200, "GET", p, "")

	born := h.token(`{"project_id":"` + strings.TrimPrefix(p, "/manage/projects/") + `","duration_minutes":60,"name":"t",` + everything + `}`)
	tokens = append(tokens, born["token"].(string))
	tk := "/manage/tokens/" + id(born)
	must[object](h, 200, "GET", tk, "")
	must[object](h, 200, "PATCH", tk, `{"expires_at":null,"name":"u","allowed_ips":[]}`)
	next := must[object](h, 201, "POST", tk+"/rotate", `{"overlap_minutes":5}`)
	tokens = append(tokens, next["token"].(string))
	must[object](h, 204, "DELETE", "/manage/tokens/"+id(next)+"?reason=done", "")
	must[[]object](h, 200, "GET", "/manage/tokens?limit=1&count=true", "")
	must[[]object](h, 200, "GET", "/manage/projects?active=true&q=tour&count=true", "")
	must[object](h, 200, "POST", p+"/tokens/revoke", `{}`)
	must[object](h, 200, "PATCH", p, `{"is_active":false,"revoke_tokens":true}`)
	must[object](h, 204, "DELETE", k, "")
	events := must[object](h, 200, "GET", "/manage/audit?outcome=success&page_size=1", "")["events"].([]any)
	must[object](h, 200, "GET", "/manage/audit/"+id(events[0].(object)), "")
	h.deliver("archive")
	e := eventOf(time.Now(), "poison")
	h.record(e)
	h.rejected("archive", 1)
	must[object](h, 200, "GET", "/manage/usage?group_by=project,token,provider,model,end_user,hour", "")
	must[[]object](h, 200, "GET", "/manage/requests", "")
	must[object](h, 200, "GET", "/manage/requests/"+e.ID.String(), "")
	must[[]object](h, 200, "GET", "/manage/events", "")
	must[object](h, 200, "GET", "/manage/events/lag", "")
	must[[]object](h, 200, "GET", "/manage/events/dead", "")
	must[object](h, 200, "POST", "/manage/events/dead", `{"sink":"archive","all":true}`)
	must[object](h, 200, "POST", "/manage/events/replay", `{"sink":"archive","from":"2020-01-01"}`)
	must[object](h, 200, "GET", "/manage/cache/stats", "")
	must[object](h, 200, "POST", "/manage/cache/purge", `{"url":"https://proxy.example.com/v1/models?key=`+tokens[0]+`","method":"GET"}`)
	h.cache.err = respcache.ErrPending
	must[object](h, 202, "POST", "/manage/cache/purge", `{"all":true}`)
	must[[]object](h, 200, "GET", "/manage/providers", "")
	must[object](h, 200, "GET", "/manage/openapi.json", "")
	for _, path := range []string{"/health", "/live", "/ready"} {
		must[object](h, 200, "GET", path, "")
		must[object](h, 200, "HEAD", path, "")
	}
	return tokens
}

func TestTourVisitsEveryOperation(t *testing.T) {
	h := newHarness(t)
	tour(h)
	for pattern, item := range h.doc.paths() {
		for method, op := range item.(object) {
			if method == "parameters" {
				continue
			}
			for status := range op.(object)["responses"].(object) {
				if name := strings.ToUpper(method) + " " + pattern + " " + status; status < "3" && !h.seen[name] {
					t.Errorf("no test sees %s", name)
				}
			}
		}
	}
}

// TestSecretsStayInside looks for provider keys and tokens in every answer, every
// audit entry and the log at its most talkative.
func TestSecretsStayInside(t *testing.T) {
	h := newHarness(t)
	tokens := tour(h)

	p := "/manage/projects/" + id(h.project(`{"name":"Canary","api_key":"`+providerKey+`"}`))
	k := must[[]object](h, 200, "GET", p+"/keys", "")[0]
	for _, body := range []string{ // keys in every wrong place that refuses them
		`{"name":"Canary","api_key":"` + providerKey + `"}`,
		`{"name":"x","api_key":"` + providerKey + `..."}`,
		`{"name":"x","api_key":"` + providerKey + `****"}`,
		`{"name":"x","api_key":"` + providerKey + `…"}`,
		`{"name":"x","api_key":"` + providerKey + `\n"}`,
		`{"name":"x","api_key":"` + providerKey + strings.Repeat("x", 5000) + `"}`,
		`{"name":"x","api_key":["` + providerKey + `"]}`,
		`{"name":"x","api_key":"` + providerKey + `","provider":"` + providerKey + `"}`,
		`{"name":"x","is_active":"` + providerKey + `"}`,
		`{"name":"x","allowed_models":"` + providerKey + `"}`,
		`{"name":"x","api_key":"` + providerKey,
		`{"name":"x","api_key":"` + providerKey + `","api_key":"` + providerKey + `"}`,
		`{"name":"x","api_key":"` + providerKey + `"} ` + providerKey,
		`"` + providerKey + `"`,
	} {
		if res := h.call("POST", "/manage/projects", body); res.status < 400 {
			t.Errorf("accepted %s", body)
		}
	}
	h.call("POST", p+"/keys", `{"provider":"openai","api_key":"`+providerKey+`"}`)
	h.call("PATCH", p+"/keys/"+id(k), `{"weight":0,"api_key":"`+providerKey+`"}`)
	h.call("PATCH", p, `{"api_key":"`+providerKey+`"}`)
	h.call("GET", "/manage/projects", "", header("Authorization", "Bearer "+tokens[0]))
	h.call("GET", "/manage/"+tokens[0], "")
	h.call("GET", "/manage/tokens/"+tokens[0], "", header("Authorization"))

	entries, err := json.Marshal(h.audits())
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{"answers": h.text.String(), "log": h.log.String(), "audit": string(entries)} {
		for _, secret := range append(tokens, providerKey, managementToken) {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s hold a secret: …%s", where, text[max(0, i-200):i+len(secret)])
			}
		}
	}
	if !strings.Contains(h.log.String(), "management call") {
		t.Error("the log is empty: this test proves nothing")
	}
}

func TestErrors(t *testing.T) {
	h := newHarness(t)
	p := id(h.project(`{"name":"A","api_key":"` + providerKey + `"}`))
	idle := id(h.project(`{"name":"Idle","is_active":false}`))
	gone := id(h.token(`{"project_id":"` + p + `"}`))
	must[object](h, 204, "DELETE", "/manage/tokens/"+gone, "")
	none := "01890000-0000-7000-8000-000000000000"

	for _, test := range []struct{ code, words, method, target, body string }{
		{"not_found", "nothing at this path", "GET", "/manage", ""},
		{"not_found", "nothing at this path", "GET", "/manage/", ""},
		{"not_found", "nothing at this path", "GET", "/manage/projects/", ""},
		{"not_found", "nothing at this path", "GET", "/manage/projects/" + strings.ToUpper(p), ""},
		{"not_found", "nothing at this path", "GET", "/manage/projects/{" + p + "}", ""},
		{"not_found", "nothing at this path", "GET", "/manage/projects/1", ""},
		{"not_found", "nothing at this path", "GET", "/manage/%70rojects", ""},
		{"not_found", "nothing at this path", "GET", "/manage//projects", ""},
		{"not_found", "nothing at this path", "GET", "/manage/x/../projects", ""},
		{"not_found", "nothing at this path", "GET", "/manage/usage/", ""},
		{"not_found", "nothing at this path", "GET", "/manage/requests/1", ""},
		{"not_found", "request", "GET", "/manage/requests/" + none, ""},
		{"not_found", "project", "GET", "/manage/projects/" + none, ""},
		{"not_found", "project", "PATCH", "/manage/projects/" + none, `{}`},
		{"not_found", "project", "GET", "/manage/projects/" + none + "/keys", ""},
		{"not_found", "project", "POST", "/manage/projects/" + none + "/keys", `{"provider":"openai","api_key":"k"}`},
		{"not_found", "key", "PATCH", "/manage/projects/" + p + "/keys/" + none, `{}`},
		{"not_found", "key", "DELETE", "/manage/projects/" + p + "/keys/" + none, ""},
		{"not_found", "project", "POST", "/manage/projects/" + none + "/tokens/revoke", ""},
		{"not_found", "project", "POST", "/manage/tokens", `{"project_id":"` + none + `"}`},
		{"not_found", "token", "GET", "/manage/tokens/" + none, ""},
		{"not_found", "token", "PATCH", "/manage/tokens/" + none, `{}`},
		{"not_found", "token", "DELETE", "/manage/tokens/" + none, ""},
		{"not_found", "token", "POST", "/manage/tokens/" + none + "/rotate", ""},
		{"method_not_allowed", "", "PUT", "/manage/projects", ""},
		{"method_not_allowed", "", "OPTIONS", "/manage/tokens", ""},
		{"method_not_allowed", "", "POST", "/health", ""},
		{"project_exists", "name", "POST", "/manage/projects", `{"name":"A"}`},
		{"project_exists", "name", "PATCH", "/manage/projects/" + idle, `{"name":"A"}`},
		{"key_exists", "provider", "POST", "/manage/projects/" + p + "/keys", `{"provider":"openai","api_key":"k"}`},
		{"project_inactive", "inactive", "POST", "/manage/tokens", `{"project_id":"` + idle + `"}`},
		{"token_inactive", "revoked", "POST", "/manage/tokens/" + gone + "/rotate", ""},
		{"invalid_request", "colour: unknown query parameter; known are active", "GET", "/manage/projects?colour=red", ""},
		{"invalid_request", "limit: unknown query parameter; this call has none", "GET", "/manage/providers?limit=1", ""},
		{"invalid_request", "q: given more than once", "GET", "/manage/projects?q=a&q=b", ""},
		{"invalid_request", "query string", "GET", "/manage/projects?q=%zz", ""},
		{"invalid_request", "reason", "DELETE", "/manage/tokens/" + gone + "?reason=" + strings.Repeat("x", 256), ""},
		{"invalid_request", "projectId", "GET", "/manage/tokens?projectId=" + p + "&project_id=" + p, ""},
		{"invalid_request", "project_id", "GET", "/manage/tokens?project_id=7", ""},
	} {
		h.refused(test.code, test.words, test.method, test.target, test.body)
	}
}

func TestMethodNotAllowed(t *testing.T) {
	h := newHarness(t)
	p := "/manage/projects/" + id(h.project(`{"name":"A"}`))
	res := h.refused("method_not_allowed", "method not allowed", "DELETE", p, "")
	if got := decode[map[string]string](t, res)["message"]; got != "project deletion is not permitted" || res.header.Get("Allow") != "GET, PATCH" {
		t.Errorf("message %q, Allow %q", got, res.header.Get("Allow"))
	}
	if res := h.call("POST", "/ready", ""); res.header.Get("Allow") != "GET, HEAD" {
		t.Errorf("Allow %q", res.header.Get("Allow"))
	}
}

func TestRequestID(t *testing.T) {
	h := newHarness(t)
	for sent, kept := range map[string]bool{"Abc-1._": true, strings.Repeat("a", 128): true, strings.Repeat("a", 129): false, "a b": false, "a\"b": false, "é": false} {
		if got := h.call("GET", "/live", "", header("X-Request-Id", sent)).header.Get("X-Request-Id"); (got == sent) != kept {
			t.Errorf("%q became %q", sent, got)
		}
	}
}

func TestHandles(t *testing.T) {
	for _, path := range []string{"/manage", "/manage/", "/manage/projects", "/manage/anything/at/all", "/health", "/live", "/ready"} {
		if !adminapi.Handles(path) {
			t.Errorf("%s is not handled", path)
		}
	}
	for _, path := range []string{"", "/", "/v1/models", "/admin", "/managed", "/Manage", "//manage", "/manage//projects", "/manage/../v1", "/manage/..",
		"/manage/./x", "/manage/%2e", "/manage/a;b", `/manage\x`, "/manage/\x00", "/manage/é", "/health/", "/healthz", "/ready/x", "manage/x", "/v1/../manage/x"} {
		if adminapi.Handles(path) {
			t.Errorf("%q is handled", path)
		}
	}
}

// TestNoSecondWay tries headers that other software takes a path or method from.
func TestNoSecondWay(t *testing.T) {
	h := newHarness(t)
	for _, name := range []string{"X-Original-Url", "X-Rewrite-Url", "X-Forwarded-Prefix", "X-Forwarded-Uri"} {
		if res := h.call("GET", "/manage/nothing", "", header(name, "/manage/projects")); res.status != http.StatusNotFound {
			t.Errorf("%s: %d", name, res.status)
		}
	}
	if res := h.call("POST", "/manage/projects", `{"name":"x"}`, header("X-Http-Method-Override", "GET")); res.status != 201 {
		t.Errorf("method override: %d", res.status)
	}
	for i := range 40 { // every prefix and separator before /manage reaches nothing
		path := fmt.Sprint(strings.Repeat("/", i%3+1), strings.Repeat("../", i%4), []string{"v1/..", "x", ".", "%2e%2e"}[i%4], "/manage/projects")
		r := header("Authorization", "Bearer "+managementToken)
		if res := h.call("GET", "/manage/projects", "", r, func(r *http.Request) { r.URL.Path = path }); res.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, res.status)
		}
	}
}
