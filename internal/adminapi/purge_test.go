package adminapi_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
	"github.com/sofatutor/caddy-llm-proxy/internal/redisconn"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

const (
	purgePath   = "/manage/cache/purge"
	someProject = "01890000-0000-7000-8000-000000000001"
)

// answers are what the tests below store.
var answers = []respcache.Tags{
	{Provider: "openai", Project: someProject, Model: "gpt-4o", Method: "POST", Path: "/v1/chat/completions"},
	{Provider: "openai", Project: "another", Model: "gpt-4o", Method: "POST", Path: "/v1/chat/completions"},
	{Provider: "openai", Project: "another", Model: "o3", Method: "GET", Path: "/v1/models", Query: "limit=2&after=x"},
	{Provider: "openai", Project: "another", Model: "o3", Method: "POST", Path: "/v1/models", Query: "limit=2&after=x"},
	{Provider: "openai", Project: "another", Model: "o3", Method: "GET", Path: "/v1/models"},
}

// TestPurge purges by each selector: what is named goes, all else stays, and the audit
// tells what it was.
func TestPurge(t *testing.T) {
	h := newHarness(t)
	key := keyOf(answers[4]).String()
	for _, test := range []struct {
		body    string
		gone    []int // of answers
		changes string
	}{
		{`{"key":"` + key + `"}`, []int{4}, "map[deleted:{<nil> 1} key:{<nil> " + key + "}]"},
		{`{"url":"/v1/models"}`, []int{4}, "map[deleted:{<nil> 1} url:{<nil> /v1/models}]"},
		{`{"url":"/v1/models?limit=2&after=x"}`, []int{2, 3}, "map[deleted:{<nil> 2} url:{<nil> /v1/models?limit=2&after=x}]"},
		{`{"url":"/v1/models?limit=2&after=x","method":"get"}`, []int{2}, "map[deleted:{<nil> 1} method:{<nil> get} url:{<nil> /v1/models?limit=2&after=x}]"},
		{`{"url":"https://me:CANARY@llm.example.com/v1/models?key=CANARY"}`, []int{4}, "map[deleted:{<nil> 1} url:{<nil> /v1/models}]"},
		{`{"url":"/v1/models?limit=2&k%65y=CANARY&after=x&key=CANARY"}`, []int{2, 3}, "map[deleted:{<nil> 2} url:{<nil> /v1/models?limit=2&after=x}]"},
		{`{"prefix":"/v1/m"}`, []int{2, 3, 4}, "map[deleted:{<nil> 3} prefix:{<nil> /v1/m}]"},
		{`{"prefix":"/v2/"}`, nil, "map[deleted:{<nil> 0} prefix:{<nil> /v2/}]"},
		{`{"pattern":"*/completions"}`, []int{0, 1}, "map[deleted:{<nil> 2} pattern:{<nil> */completions}]"},
		{`{"project_id":"` + someProject + `"}`, []int{0}, "map[deleted:{<nil> 1} project_id:{<nil> " + someProject + "}]"},
		{`{"model":"o3"}`, []int{2, 3, 4}, "map[deleted:{<nil> 3} model:{<nil> o3}]"},
		{`{"all":true}`, []int{0, 1, 2, 3, 4}, "map[all:{<nil> true} deleted:{<nil> 5}]"},
	} {
		h.cache.fill(answers...)
		before := len(h.audits())
		res := must[object](h, 200, "POST", purgePath, test.body, header("X-Request-Id", "purge"))
		if res["deleted"] != float64(len(test.gone)) || len(res) != 1 {
			t.Errorf("%s: %v", test.body, res)
		}
		gone := []int(nil)
		for i, tags := range answers {
			if !h.cache.has(tags) {
				gone = append(gone, i)
			}
		}
		if fmt.Sprint(gone) != fmt.Sprint(test.gone) {
			t.Errorf("%s: %v are gone, want %v", test.body, gone, test.gone)
		}
		entries := h.audits()
		e := entries[0]
		project := ""
		if !e.ProjectID.IsNil() {
			project = e.ProjectID.String()
		}
		if len(entries) != before+1 || e.Action != "cache.purge" || e.Actor != "management_token" || e.Outcome != "success" || e.TargetType != "cache" ||
			!e.TargetID.IsNil() || e.Path != purgePath || e.RequestID != "purge" || (project != "") != strings.Contains(test.body, "project_id") {
			t.Errorf("%s: %d records, the newest %+v", test.body, len(entries)-before, e)
		}
		if got := fmt.Sprint(e.Changes); got != test.changes {
			t.Errorf("%s is recorded as %s, want %s", test.body, got, test.changes)
		}
	}
	if strings.Contains(h.log.String(), "CANARY") {
		t.Error("the log holds a credential")
	}
}

// TestPurgeRefusals purges nothing.
func TestPurgeRefusals(t *testing.T) {
	h := newHarness(t)
	h.cache.fill(answers...)
	for body, words := range map[string]string{
		`{}`:                                   `exactly one of "key", "url"`,
		`{"method":"GET"}`:                     "exactly one",
		`{"prefix":"/v1/","all":true}`:         "exactly one",
		`{"url":"/v1/models","prefix":"/v1/"}`: "exactly one",
		`{"model":"o3","project_id":"x"}`:      "exactly one",
		`{"all":false}`:                        "all: expected true",
		`{"all":null}`:                         "all: expected true",
		`{"all":"yes"}`:                        "all: expected true or false",
		`{"prefix":null}`:                      "prefix: may not be null",
		`{"url":"/v1/models","method":null}`:   "method: may not be null",
		`{"url":"/v1/models","method":""}`:     "method: goes with url",
		`{"prefix":"/v1/","method":"GET"}`:     "method: goes with url",
		`{"prefix":""}`:                        "say all",
		`{"model":""}`:                         "say all",
		`{"url":""}`:                           "say all",
		`{"project_id":"Search"}`:              "project_id: expected an id",
		`{"prefix":"v1/"}`:                     "slash",
		`{"prefix":"/v1/models?limit=2"}`:      "prefix: a path has no query",
		`{"url":"v1/models"}`:                  "slash",
		`{"prefix":"/anthropic/"}`:             "prefix: paths are those of the provider",
		`{"pattern":"/anthropic/v1/*"}`:        "leave out /anthropic",
		`{"url":"https://x.example/openai/v1/models?a=1","method":"GET"}`: "url: paths are those of the provider",
		`{"key":"abc"}`:      "64 hexadecimal",
		`{"model":"\u0000"}`: "control characters",
		`{"model":["o3"]}`:   "model: expected a string",
		`{"pattern":"` + strings.Repeat("*", 2049) + `"}`: "2048",
	} {
		h.refused("invalid_request", words, "POST", purgePath, body)
	}
	h.refused("unknown_field", "path", "POST", purgePath, `{"path":"/v1/models"}`)
	h.refused("invalid_json", "empty", "POST", purgePath, "")
	h.refused("invalid_request", "all: unknown query parameter", "POST", purgePath+"?all=true", `{"all":true}`)
	h.refused("method_not_allowed", "", "DELETE", purgePath, "")
	h.refused("unauthorized", "management token", "POST", purgePath, `{"all":true}`, header("Authorization", "Bearer x"))
	for _, tags := range answers {
		if !h.cache.has(tags) {
			t.Errorf("%+v is gone", tags)
		}
	}
	if n := len(h.audits()); n != 0 {
		t.Errorf("%d records", n)
	}
}

// TestPurgeWhileRedisIsAway is accepted, and not done yet.
func TestPurgeWhileRedisIsAway(t *testing.T) {
	server := testdb.StartRedis(t)
	conn, err := redisconn.New(redisconn.Settings{URLs: []secret.Value{secret.NewValue(server.URL())}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.Start()
	t.Cleanup(func() { _ = conn.Close() })
	ring := must1(secret.NewKeyring(bytes.Repeat([]byte{7}, secret.KeySize)))
	cache := startCache(t, respcache.Options{Memory: respcache.MinMemory, Redis: &respcache.RedisOptions{Conn: conn, Sealer: ring, Namespace: []byte("test")}})
	h := newHarness(t, func(cfg *adminapi.Config) { cfg.Cache = cache })
	cache.fill(answers...)
	server.Kill()
	res := must[object](h, 202, "POST", purgePath, `{"model":"o3"}`)
	if warning, _ := res["warning"].(string); res["deleted"] != 3.0 || !strings.Contains(warning, "Redis is away") {
		t.Errorf("%v", res)
	}
	if got := fmt.Sprint(h.audits()[0].Changes); got != "map[complete:{<nil> false} deleted:{<nil> 3} model:{<nil> o3}]" {
		t.Errorf("recorded as %s", got)
	}
	backends := must[object](h, 200, "GET", "/manage/cache/stats", "")["backends"].([]any)
	if len(backends) != 2 {
		t.Fatalf("%v", backends)
	}
	memory, redis := backends[0].(object), backends[1].(object)
	if memory["name"] != "memory" || memory["up"] != true || memory["entries"] != 2.0 || memory["purged"] != 3.0 || memory["max_bytes"] != float64(respcache.MinMemory) {
		t.Errorf("%v", memory)
	}
	if redis["name"] != "redis" || redis["up"] != false || redis["entries"] != nil || redis["evictions"] != nil || redis["purged"] != 0.0 {
		t.Errorf("%v", redis)
	}
}

// TestPurgeIncomplete is an error to whoever asks, and recorded as what it was.
func TestPurgeIncomplete(t *testing.T) {
	h := newHarness(t)
	h.cache.fill(answers...)
	h.cache.err = errors.New("the detail that stays inside")
	res := h.refused("purge_incomplete", "purged on this node", "POST", purgePath, `{"model":"o3"}`)
	if strings.Contains(string(res.body), "inside") || !strings.Contains(h.log.String(), "the detail that stays inside") {
		t.Errorf("%s", res.body)
	}
	if got := fmt.Sprint(h.audits()[0].Changes); got != "map[complete:{<nil> false} deleted:{<nil> 3} model:{<nil> o3}]" {
		t.Errorf("recorded as %s", got)
	}
}

// TestPurgeWithoutRecord: what nobody could record is not done, or said to be done.
func TestPurgeWithoutRecord(t *testing.T) {
	h := newHarness(t)
	h.cache.fill(answers...)
	h.damage(`CREATE TRIGGER refuse BEFORE INSERT ON audit_events BEGIN SELECT RAISE(ABORT, 'no'); END`)
	h.refused("internal", "purged, but not recorded", "POST", purgePath, `{"model":"o3"}`)
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	h.refused("internal", "internal error", "POST", purgePath, `{"model":"gpt-4o"}`)
	if h.cache.has(answers[2]) || !h.cache.has(answers[0]) {
		t.Error("the wrong answers are gone")
	}
}

// TestServePurge is the way for those who need no management token.
func TestServePurge(t *testing.T) {
	h := newHarness(t)
	h.cache.fill(answers...)
	call := func(method, target, body string) response {
		t.Helper()
		r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
		w := httptest.NewRecorder()
		h.api.ServePurge(w, r, "admin_endpoint")
		return response{w.Code, w.Result().Header, w.Body.Bytes()}
	}
	if res := call("POST", "/llm_proxy/cache/purge", `{"model":"o3"}`); res.status != 200 || decode[object](t, res)["deleted"] != 3.0 {
		t.Errorf("%d %s", res.status, res.body)
	}
	if e := h.audits()[0]; e.Actor != "admin_endpoint" || e.Action != "cache.purge" || e.Path != "/llm_proxy/cache/purge" || e.ClientIP != clientIP {
		t.Errorf("recorded as %+v", e)
	}
	if res := call("GET", "/llm_proxy/cache/purge", ""); res.status != 405 || res.header.Get("Allow") != "POST" {
		t.Errorf("%d %v", res.status, res.header)
	}
	for target, body := range map[string]string{"/x": `{}`, "/x?all=true": `{"all":true}`, "/y": `{"all":true`} {
		if res := call("POST", target, body); res.status != 400 {
			t.Errorf("%s %s: %d", target, body, res.status)
		}
	}
	if err := h.db.Close(); err != nil { // then it is done all the same
		t.Fatal(err)
	}
	if res := call("POST", "/x", `{"all":true}`); res.status != 500 || !strings.Contains(string(res.body), "purged, but not recorded") || h.cache.has(answers[0]) {
		t.Errorf("%d %s", res.status, res.body)
	}
}

// TestNoCache is a host whose handlers cache nothing.
func TestNoCache(t *testing.T) {
	h := newHarness(t, func(cfg *adminapi.Config) { cfg.Cache = nil })
	if res := must[object](h, 200, "POST", purgePath, `{"all":true}`); res["deleted"] != 0.0 {
		t.Errorf("%v", res)
	}
	if backends, ok := must[object](h, 200, "GET", "/manage/cache/stats", "")["backends"].([]any); !ok || len(backends) != 0 {
		t.Errorf("%v", backends)
	}
}

// TestCacheStatsWithoutStore answers while the database does not.
func TestCacheStatsWithoutStore(t *testing.T) {
	ring := must1(secret.NewKeyring(make([]byte, secret.KeySize)))
	db := must1(storage.New(storage.Config{Driver: "sqlite", DSN: t.TempDir() + "/x.db", Keyring: ring}))
	h := newHarness(t, func(cfg *adminapi.Config) { cfg.Store = db })
	h.cache.fill(answers...)
	if h.cache.has(answers[0]) && h.cache.has(respcache.Tags{Method: http.MethodGet}) {
		t.Fatal("found what is not there")
	}
	memory := must[object](h, 200, "GET", "/manage/cache/stats", "")["backends"].([]any)[0].(object)
	if memory["entries"] != 5.0 || memory["hits"] != 1.0 || memory["misses"] != 1.0 || memory["puts"] != 5.0 {
		t.Errorf("%v", memory)
	}
	h.refused("store_unavailable", "database", "POST", purgePath, `{"all":true}`)
}

// FuzzWithoutKey: no credential is left, and nothing else is changed.
func FuzzWithoutKey(f *testing.F) {
	for _, target := range []string{"/v1/models", "/v1?key=a", "/v1?a=1&k%65y=b&c", "/v1?%6=b&key", "?&&key=&", "key"} {
		f.Add(target)
	}
	f.Fuzz(func(t *testing.T, target string) {
		got := adminapi.WithoutKey(target)
		if again := adminapi.WithoutKey(got); again != got {
			t.Fatalf("%q becomes %q, which becomes %q", target, got, again)
		}
		_, query, _ := strings.Cut(got, "?")
		u := url.URL{RawQuery: query}
		if u.Query().Has("key") {
			t.Fatalf("%q becomes %q", target, got)
		}
		if !strings.Contains(target, "key") && !strings.Contains(target, "%") && got != target {
			t.Fatalf("%q becomes %q", target, got)
		}
	})
}
