package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// tenantTricks are header lines with which somebody might ask for another's answer, or
// leave theirs for another. {other} is the other's project, {token} its token's id.
var tenantTricks = [][]string{
	{},
	{"Cache-Control: public, max-age=600"},
	{"Cache-Control: s-maxage=600"},
	{"Cache-Control: max-age=600, public, s-maxage=600, immutable"},
	{"Cache-Control: max-age=600", "Cache-Control: public"},
	{"Cache-Control: only-if-cached, max-age=600"},
	{"Cache-Control: max-stale, max-age=600"},
	{"Cache-Control: max-stale=99999, stale-if-error=99999, max-age=600"},
	{"Cache-Control: max-age=600, no-cache"},
	{"Pragma: no-cache"},
	{"Cache-Control: max-age=600", "X-Body-Hash: {hash}"},
	{"Cache-Control: max-age=600", "X-Proxy-Id: {other}", "X-Proxy-Cache: hit", "X-Proxy-Cache-Key: {hash}"},
	{"Cache-Control: max-age=600", "X-Llm-Proxy-Project: {other}", "X-Llm-Proxy-Provider: other"},
	{"Cache-Control: max-age=600", "X-Project-Id: {other}", "X-Token-Id: {token}", "X-Request-Id: {hash}"},
	{"Cache-Control: max-age=600", "Cache-Status: llm-proxy; hit; ttl=600"},
	{"Cache-Control: max-age=600", "Vary: Authorization"},
	{"Cache-Control: max-age=600", "Vary: *"},
	{"Cache-Control: max-age=600", "Vary: X-Tenant", "X-Tenant: {other}"},
	{"Cache-Control: max-age=600", "X-Forwarded-Host: {other}", "X-Original-Url: /v1/other", "X-Rewrite-Url: /v1/other"},
	{"Cache-Control: max-age=600", "X-Http-Method-Override: GET", "X-Http-Method: DELETE"},
	{"Cache-Control: max-age=600", "Cookie: session={other}"},
	{"Cache-Control: max-age=600", "Proxy-Authorization: Bearer {other}"},
	{"Cache-Control: max-age=600", "Connection: Cache-Control, Authorization, X-Project-Id"},
	{"Cache-Control: max-age=600", "Age: 0", "Date: Thu, 01 Jan 1970 00:00:00 GMT", "Expires: 0"},
	{"Cache-Control: max-age=600", `If-None-Match: "{hash}"`},
	{"Cache-Control: max-age=600", "If-None-Match: *"},
	{"Cache-Control: max-age=600", "Range: bytes=0-9"},
}

// TestCacheTenants: whatever two partitions send, neither gets what is the other's, and
// each gets its own again.
func TestCacheTenants(t *testing.T) {
	t.Parallel()
	for _, scope := range []string{"project", "token"} {
		t.Run(scope, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t, nil)
			p := start(t, o.site("scope "+scope, "mode always"))
			alice := p.account(t)
			bob := p.account(t)
			if scope == "token" {
				bob = &account{p: p, projectID: alice.projectID, key: alice.key}
				bob.tokenID, bob.token = bob.mint(t)
			}
			for i, trick := range tenantTricks {
				for _, method := range []string{http.MethodGet, http.MethodPost} {
					r := request{method: method, path: fmt.Sprintf("/v1/chat/completions?n=%d", i)}
					if method == http.MethodPost {
						r.body = fmt.Sprintf(`{"n":%d}`, i)
					}
					name := fmt.Sprintf("%s %q", method, trick)
					ask := func(a, other *account, tricks []string) answer {
						r := r
						r.token = a.token
						for _, line := range tricks {
							r = with(r, strings.NewReplacer("{other}", other.projectID, "{token}", other.tokenID, "{hash}", digestOf(r.body)).Replace(line))
						}
						return p.do(t, r)
					}
					hers := toldIn(t, ask(alice, bob, nil))
					if again := ask(alice, bob, nil); !isHit(again) || toldIn(t, again) != hers {
						t.Errorf("%s: her own is not found: %v %s", name, again.header, again.body)
					}
					// Bob, with the trick, twice: what he gets is never hers.
					for range 2 {
						got := ask(bob, alice, trick)
						if strings.Contains(got.body, fmt.Sprintf(`"Number":%d}`, hers.Number)) {
							t.Errorf("%s: he gets hers: %v %s", name, got.header, got.body)
						}
						if scope == "project" && got.status == http.StatusOK && toldIn(t, got).Owner != digestOf(bob.key) {
							t.Errorf("%s: he gets %s", name, got.body)
						}
					}
					his := toldIn(t, ask(bob, alice, nil))
					// Nor has he left anything for her, nor taken it away.
					if again := ask(alice, bob, nil); !isHit(again) || toldIn(t, again) != hers {
						t.Errorf("%s: she gets %v %s, and had %+v", name, again.header, again.body, hers)
					}
					if his.Number == hers.Number {
						t.Errorf("%s: he gets hers: %+v", name, his)
					}
				}
			}
		})
	}
}

// TestCacheTells: two requests of one project that a provider may read differently have
// an answer each, and two that say the same have one.
func TestCacheTells(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, nil)
	p := start(t, o.site("mode always"))
	a := p.account(t)
	post := func(body string, lines ...string) request {
		return with(request{path: "/v1/chat/completions", body: body, token: a.token}, lines...)
	}
	get := func(path string, lines ...string) request {
		return with(request{path: path, token: a.token}, lines...)
	}
	n := 0
	for _, tc := range []struct {
		name string
		x, y request
		one  bool
	}{
		{"members in another order", post(`{"model":"m","n":1,"x":{"a":1,"b":2}}`), post(`{"x":{"b":2,"a":1},"n":1,"model":"m"}`), true},
		{"space", post(`{"model":"m1","n":[1,2]}`), post("{ \"model\" : \"m1\",\n\t\"n\":[1, 2] }\n"), true},
		{"escapes", post(`{"model":"é/m"}`), post(`{"model":"\u00e9\/\u006d"}`), true},
		{"escapes in names", post(`{"model":"m2","p":1}`), post(`{"\u006dodel":"m2","\u0070":1}`), true},
		{"JSON's types", post(`{"model":"m3"}`), post(`{"model":"m3"}`, "Content-Type: application/json; charset=utf-8"), true},
		{"numbers", post(`{"t":1}`), post(`{"t":1.0}`), false},
		{"exponents", post(`{"t":100}`), post(`{"t":1e2}`), false},
		{"big numbers", post(`{"t":9007199254740993}`), post(`{"t":9007199254740992}`), false},
		{"a number and a string", post(`{"t":7}`), post(`{"t":"7"}`), false},
		{"minus zero", post(`{"t":0}`), post(`{"t":-0}`), false},
		{"null and absent", post(`{"t":3,"u":null}`), post(`{"t":3}`), false},
		{"true and its name", post(`{"t":true}`), post(`{"t":"true"}`), false},
		{"arrays in another order", post(`{"t":[1,2,3]}`), post(`{"t":[3,2,1]}`), false},
		{"what is nested", post(`{"a":{"b":1},"c":2}`), post(`{"a":{"b":1,"c":2}}`), false},
		{"a member twice", post(`{"a":5,"a":6}`), post(`{"a":6,"a":5}`), false},
		{"twice and once", post(`{"a":8,"a":9}`), post(`{"a":9}`), false},
		{"twice, once escaped", post(`{"a":1,"\u0061":2}`), post(`{"a":2}`), false},
		{"case", post(`{"m":"q","Seed":1}`), post(`{"m":"q","seed":1}`), false},
		{"composed characters", post(`{"m":"\u00e9"}`), post(`{"m":"e\u0301"}`), false},
		{"lone surrogates", post(`{"m":"\ud800"}`), post(`{"m":"\ud801"}`), false},
		{"replaced characters", post(`{"m":"\ud802"}`), post(`{"m":"\ufffd"}`), false},
		{"invalid UTF-8", post("{\"m\":\"\xff\"}"), post("{\"m\":\"\xfe\"}"), false},
		{"a byte order mark", post("\ufeff{\"m\":1}"), post(`{"m":1}`), false},
		{"what follows", post(`{"m":11}`), post(`{"m":11}{"m":12}`), false},
		{"no JSON", post(`a=1&b=2`), post(`b=2&a=1`), false},
		{"stream", post(`{"m":"s","stream":false}`), post(`{"m":"s","stream":true}`), false},
		{"stream and absent", post(`{"m":"s2"}`), post(`{"m":"s2","stream":false}`), false},
		{"usage", post(`{"m":"s3","stream":true}`), post(`{"m":"s3","stream":true,"stream_options":{"include_usage":true}}`), false},
		{"text instead of JSON", post(`{"m":21}`), post(`{"m":21}`, "Content-Type: text/plain"), false},
		{"a form instead of JSON", post(`{"m":22}`), post(`{"m":22}`, "Content-Type: application/x-www-form-urlencoded"), false},
		{"another charset", post(`{"m":23}`), post(`{"m":23}`, "Content-Type: application/json; charset=utf-7"), false},
		{"an API's version", post(`{"m":24}`), post(`{"m":24}`, "OpenAI-Beta: assistants=v2"), false},
		{"no type", post(`{"m":26}`), post(`{"m":26}`, "Content-Type: application/json", "Content-Type: text/plain"), false},
		{"what the provider does not get", get("/v1/p"), get("/v1/p", "OpenAI-Project: proj-2", "X-Tenant: 2", "Accept-Encoding: br"), true},
		{"an escaped &", get("/v1/q?a=1&b=2"), get("/v1/q?a=1%26b%3D2"), false},
		{"an escaped =", get("/v1/q?a=1"), get("/v1/q?a%3D1"), false},
		{"parameters in another order", get("/v1/q2?a=1&a=2"), get("/v1/q2?a=2&a=1"), false},
		{"an empty query", get("/v1/q3?a"), get("/v1/q3?a="), false},
		{"a semicolon", get("/v1/q4?a=1;b=2"), get("/v1/q4?a=1&b=2"), false},
		{"a slash in the query", get("/v1/q5?x=/../a"), get("/v1/q5?x=/a"), false},
		{"path and query", get("/v1/q6/a"), get("/v1/q6?a"), false},
		{"a path's end", get("/v1/q7"), get("/v1/q7/"), false},
		{"a path's case", get("/v1/q8"), get("/v1/Q8"), false},
		{"an extension", get("/v1/q9"), get("/v1/q9.css"), false},
		{"the credential in the query", get("/v1/q10?x=1"), request{path: "/v1/q10?key=" + a.token + "&x=1"}, true},
		{"another credential's header", get("/v1/q11"), request{path: "/v1/q11", header: http.Header{"X-Api-Key": {a.token}}}, true},
		{"the other route", get("/v1/q12"), get("/openai/v1/q12"), true},
		{"GET and POST", get("/v1/chat/completions"), post(`{}`), false},
	} {
		n++
		before := o.count()
		x := p.do(t, tc.x)
		toldOfX := toldIn(t, x)
		for range 2 {
			y := p.do(t, tc.y)
			if isHit(x) {
				t.Errorf("%s: the first comes from the cache: %s", tc.name, x.body)
			}
			toldOfY := toldIn(t, y)
			if same := toldOfX.Number == toldOfY.Number; same != tc.one {
				t.Errorf("%s: the same answer: %t\n%s%s", tc.name, same, x.body, y.body)
			}
		}
		if again := p.do(t, tc.x); !isHit(again) || again.body != x.body {
			t.Errorf("%s: the first is not found again: %v %s", tc.name, again.header, again.body)
		}
		if asked := o.count() - before; (asked == 1) != tc.one {
			t.Errorf("%s: the origin was asked %d times", tc.name, asked)
		}
	}
}

// TestCacheShared: what says that it is for everybody is shared, and nothing else.
func TestCacheShared(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, func(w http.ResponseWriter, r *http.Request, told telling) {
		if control := r.URL.Query().Get("control"); control != "" {
			w.Header().Set("Cache-Control", control)
		}
		if vary := r.URL.Query().Get("vary"); vary != "" {
			w.Header().Set("Vary", vary)
		}
		told.write(w)
	})
	p := start(t, o.site("scope shared"))
	alice, bob := p.account(t), p.account(t)
	get := func(query string) request { return request{path: "/v1/things?" + query} }
	post := func(control string, query string) request {
		return with(request{path: "/v1/chat/completions?" + query, body: `{}`}, "Cache-Control: "+control)
	}
	for _, tc := range []struct {
		name   string
		r      request
		shared bool
	}{
		{"public", get("control=public,max-age=600"), true},
		{"s-maxage", get("control=s-maxage=600"), true},
		{"must-revalidate", get("control=max-age=600,must-revalidate"), true},
		{"max-age", get("control=max-age=600"), false},
		{"nothing", get("x=1"), false},
		{"private", get("control=private,max-age=600"), false},
		{"public and private", get("control=public,private,max-age=600"), false},
		{"no-store", get("control=public,no-store,max-age=600"), false},
		{"vary by credential", get("control=public,max-age=600&vary=Authorization"), false},
		{"the client's word", with(get("x=2"), "Cache-Control: public, max-age=600"), false},
		{"the client's word against max-age", with(get("control=max-age=601"), "Cache-Control: public, max-age=600, s-maxage=600"), false},
		{"POST", post("max-age=60", "x=3"), false},
		{"public POST", post("public, max-age=60", "x=4"), true},
		{"s-maxage POST", post("s-maxage=60", "x=5"), true},
		{"private POST", post("public, max-age=60", "control=private"), false},
		{"POST that the response shares", post("max-age=60", "control=public,max-age=600"), true},
	} {
		as := func(a *account) telling {
			r := tc.r
			r.token = a.token
			return toldIn(t, p.do(t, r))
		}
		hers := as(alice)
		for range 2 {
			if his := as(bob); (his.Number == hers.Number) != tc.shared || !tc.shared && his.Owner != digestOf(bob.key) {
				t.Errorf("%s: she has %+v, he has %+v", tc.name, hers, his)
			}
		}
		if again := as(alice); again.Owner != digestOf(alice.key) {
			t.Errorf("%s: she gets %+v", tc.name, again)
		}
	}
}
