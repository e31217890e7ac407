package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// turn is one request of a script, and what must come of it.
type turn struct {
	r       request
	status  int    // 200 if it is 0
	cache   string // how Cache-Status begins; a trailing $ is its end
	answer  int    // the number of the origin's answer whose body comes; 0: none
	methods string // what reached the origin because of it, such as "GET"
}

// TestCacheRules sends scripts of requests to an origin that answers by the rules of
// one script.
func TestCacheRules(t *testing.T) {
	t.Parallel()
	const path = "/v1/things"
	get := func(lines ...string) request { return with(request{path: path}, lines...) }
	post := func(lines ...string) request { return with(request{path: path, body: `{"a":1}`}, lines...) }
	other := func(method string) request { return request{method: method, path: path, body: `{}`} }
	head := request{method: http.MethodHead, path: path}
	// says answers in JSON with these header lines; with a tag, what has it is confirmed.
	says := func(lines ...string) func(w http.ResponseWriter, r *http.Request, told telling) {
		return func(w http.ResponseWriter, r *http.Request, told telling) {
			for _, line := range lines {
				name, value, _ := strings.Cut(line, ": ")
				w.Header().Add(name, value)
			}
			if tag := w.Header().Get("ETag"); tag != "" && r.Header.Get("If-None-Match") == tag {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			told.write(w)
		}
	}
	fails := func(w http.ResponseWriter, _ *http.Request, _ telling) {
		http.Error(w, `{"error":{}}`, http.StatusServiceUnavailable)
	}
	hangsUp := func(w http.ResponseWriter, _ *http.Request, _ telling) { panic(http.ErrAbortHandler) }
	stage := newStage(t)
	proxies := make(map[string]*proxy)
	for _, options := range []string{"", "scope token", "mode always", "mode off", "stale_if_error 0s"} {
		proxies[options] = start(t, stage.site(options))
	}
	const fresh, tag = "Cache-Control: max-age=600", `ETag: "one"`
	// old is of an age that makes it stale from the beginning.
	const old = "Age: 601"
	for _, tc := range []struct {
		name    string
		options string
		says    func(http.ResponseWriter, *http.Request, telling)
		turns   []turn
		then    func(http.ResponseWriter, *http.Request, telling) // after the first turn; nil: the same
	}{
		{"GET, then HEAD", "", says(fresh), []turn{
			{get(), 0, "fwd=uri-miss; stored$", 1, "GET"}, {get(), 0, "hit; ttl=", 1, ""}, {head, 0, "hit; ttl=", 0, ""},
		}, nil},
		{"HEAD stores nothing", "", says(fresh), []turn{{head, 0, "fwd=uri-miss", 0, "HEAD"}, {get(), 0, "fwd=uri-miss; stored$", 2, "GET"}}, nil},
		{"no lifetime", "", says(), []turn{{get(), 0, "fwd=uri-miss; detail=no-lifetime$", 1, "GET"}, {get(), 0, "fwd=uri-miss", 2, "GET"}}, nil},
		{"no-store by the client", "", says(fresh), []turn{
			{get(), 0, "fwd=uri-miss", 1, "GET"}, {get("Cache-Control: no-store"), 0, "fwd=bypass; detail=req-no-store$", 2, "GET"}, {get(), 0, "hit", 1, ""},
		}, nil},
		{"no-store by the provider", "", says("Cache-Control: max-age=600, no-store"), []turn{{get(), 0, "fwd=uri-miss; detail=resp-no-store$", 1, "GET"}, {get(), 0, "fwd", 2, "GET"}}, nil},
		{"private", "", says("Cache-Control: private, max-age=600"), []turn{{get(), 0, "fwd=uri-miss; detail=private$", 1, "GET"}, {get(), 0, "fwd", 2, "GET"}}, nil},
		{"private for a token", "scope token", says("Cache-Control: private, max-age=600"), []turn{{get(), 0, "fwd=uri-miss; stored$", 1, "GET"}, {get(), 0, "hit", 1, ""}}, nil},
		{"no-cache by the client", "", says(fresh, tag), []turn{
			{get(), 0, "fwd=uri-miss", 1, "GET"}, {get("Cache-Control: no-cache"), 0, "fwd=request; fwd-status=304; stored; detail=req-no-cache$", 1, "GET"}, {get(), 0, "hit", 1, ""},
		}, nil},
		{"Pragma", "", says(fresh), []turn{{get(), 0, "fwd=uri-miss", 1, "GET"}, {get("Pragma: no-cache"), 0, "fwd=request", 2, "GET"}, {get(), 0, "hit", 2, ""}}, nil},
		{"no-cache by the provider", "", says("Cache-Control: no-cache", tag), []turn{
			{get(), 0, "fwd=uri-miss; stored", 1, "GET"}, {get(), 0, "fwd=stale; fwd-status=304", 1, "GET"}, {get(), 0, "fwd=stale; fwd-status=304", 1, "GET"},
		}, nil},
		{"max-age=0", "", says(fresh, tag), []turn{{get(), 0, "fwd", 1, "GET"}, {get("Cache-Control: max-age=0"), 0, "fwd=request; fwd-status=304", 1, "GET"}}, nil},
		{"another answer to the question whether it is still right", "", says(fresh, tag), []turn{
			{get(), 0, "fwd", 1, "GET"}, {get("Cache-Control: no-cache"), 0, "fwd=request; stored", 2, "GET"}, {get(), 0, "hit", 2, ""},
		}, says(fresh, `ETag: "two"`)},
		{"only-if-cached", "", says(fresh), []turn{
			{get("Cache-Control: only-if-cached"), 504, "detail=only-if-cached$", 0, ""}, {get(), 0, "fwd", 1, "GET"}, {get("Cache-Control: only-if-cached"), 0, "hit", 1, ""},
			{post("Cache-Control: only-if-cached"), 504, "detail=only-if-cached$", 0, ""},
		}, nil},
		{"If-None-Match", "", says(fresh, tag), []turn{
			{get(), 0, "fwd", 1, "GET"}, {get(`If-None-Match: "one"`), 304, "hit", 0, ""}, {get(`If-None-Match: W/"one"`), 304, "hit", 0, ""},
			{get(`If-None-Match: "two", "one"`), 304, "hit", 0, ""}, {get("If-None-Match: *"), 304, "hit", 0, ""}, {get(`If-None-Match: "two"`), 0, "hit", 1, ""},
		}, nil},
		{"If-Modified-Since", "", says(fresh, "Last-Modified: Mon, 02 Jan 2006 15:04:05 GMT"), []turn{
			{get(), 0, "fwd", 1, "GET"}, {get("If-Modified-Since: Mon, 02 Jan 2006 15:04:05 GMT"), 304, "hit", 0, ""},
			{get("If-Modified-Since: Sun, 01 Jan 2006 15:04:05 GMT"), 0, "hit", 1, ""},
		}, nil},
		{"a 304 is for who has asked for one", "", says(fresh, tag), []turn{
			{get(`If-None-Match: "one"`), 304, "fwd", 0, "GET"}, {get(), 0, "fwd=uri-miss; stored", 2, "GET"}, {get(), 0, "hit", 2, ""},
		}, nil},
		{"If-Match", "", says(fresh, tag), []turn{{get(), 0, "fwd", 1, "GET"}, {get(`If-Match: "one"`), 0, "fwd=bypass; stored; detail=precondition$", 2, "GET"}}, nil},
		{"Range", "", func(w http.ResponseWriter, r *http.Request, told telling) {
			w.Header().Set("Cache-Control", "max-age=600")
			if r.Header.Get("Range") == "" {
				told.write(w)
				return
			}
			w.Header().Set("Content-Range", "bytes 0-1/100")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, `{"`)
		}, []turn{
			{get("Range: bytes=0-1"), 206, "fwd=bypass; detail=range$", 0, "GET"}, {get(), 0, "fwd=uri-miss; stored", 2, "GET"},
			{get("Range: bytes=0-1"), 206, "fwd=bypass; detail=range$", 0, "GET"}, {get(), 0, "hit", 2, ""},
		}, nil},
		{"stale, and confirmed", "stale_if_error 0s", says(fresh, tag, old), []turn{{get(), 0, "fwd=uri-miss; stored", 1, "GET"}, {get(), 0, "fwd=stale; fwd-status=304", 1, "GET"}}, nil},
		{"stale if the provider answers 503", "", says(fresh, old, tag), []turn{
			{get(), 0, "fwd=uri-miss; stored", 1, "GET"}, {get(), 0, "hit; ttl=-", 1, "GET"}, {get("Cache-Control: no-cache"), 503, "fwd", 0, "GET"},
			{get("Cache-Control: stale-if-error=0"), 503, "fwd", 0, "GET"}, {head, 0, "hit; ttl=-", 0, "HEAD"},
		}, fails},
		{"stale if the provider hangs up", "", says(fresh, old, tag), []turn{
			{get(), 0, "fwd=uri-miss; stored", 1, "GET"}, {get(), 0, "hit; ttl=-", 1, "GET*"}, {get("Cache-Control: min-fresh=1"), 502, "", 0, "GET*"}, {head, 0, "hit; ttl=-", 0, "HEAD*"},
		}, hangsUp},
		{"never stale", "", says("Cache-Control: max-age=600, must-revalidate", old, tag), []turn{{get(), 0, "fwd", 1, "GET"}, {get(), 503, "fwd", 0, "GET"}}, fails},
		{"not stale for ever", "stale_if_error 0s", says(fresh, old, tag), []turn{{get(), 0, "fwd", 1, "GET"}, {get(), 503, "fwd", 0, "GET"}}, fails},
		{"max-stale", "", says(fresh, old, tag), []turn{{get(), 0, "fwd", 1, "GET"}, {get("Cache-Control: max-stale=600"), 0, "hit; ttl=-", 1, ""}, {get("Cache-Control: max-stale=0, stale-if-error=0"), 503, "fwd", 0, "GET"}}, fails},
		{"a stale POST stands in", "mode always", says("Cache-Control: max-age=600, stale-if-error=600", old), []turn{{post(), 0, "fwd=uri-miss; stored", 1, "POST"}, {post(), 0, "hit; ttl=-", 1, "POST"}}, fails},
		{"POST that is not asked for", "", says(fresh), []turn{{post(), 0, "fwd=bypass; detail=not-asked$", 1, "POST"}, {post(), 0, "fwd=bypass", 2, "POST"}}, nil},
		{"POST", "", says(), []turn{
			{post("Cache-Control: max-age=60"), 0, "fwd=uri-miss; stored", 1, "POST"}, {post("Cache-Control: max-age=60"), 0, "hit; ttl=", 1, ""},
			{post("Cache-Control: max-age=60, no-cache"), 0, "fwd=request; stored", 2, "POST"}, {post("Cache-Control: s-maxage=60"), 0, "hit", 2, ""}, {post(), 0, "fwd=bypass", 3, "POST"},
		}, nil},
		{"POST of a GET's path", "", says(fresh), []turn{{get(), 0, "fwd", 1, "GET"}, {post("Cache-Control: max-age=60"), 0, "fwd=uri-miss", 2, "POST"}}, nil},
		{"PUT", "", says(fresh), []turn{{get(), 0, "fwd", 1, "GET"}, {other("PUT"), 0, "fwd=method", 2, "PUT"}, {get(), 0, "fwd=uri-miss", 3, "GET"}}, nil},
		{"PATCH", "", says(fresh), []turn{{get(), 0, "fwd", 1, "GET"}, {other("PATCH"), 0, "fwd=method", 2, "PATCH"}, {get(), 0, "fwd=uri-miss", 3, "GET"}}, nil},
		{"DELETE", "", says(fresh), []turn{{get(), 0, "fwd", 1, "GET"}, {other("DELETE"), 0, "fwd=method", 2, "DELETE"}, {get(), 0, "fwd=uri-miss", 3, "GET"}}, nil},
		{"POST with effects", "", says(fresh), []turn{{get(), 0, "fwd", 1, "GET"}, {post(), 0, "fwd=bypass", 2, "POST"}, {get(), 0, "fwd=uri-miss", 3, "GET"}}, nil},
		{"stored POST with effects", "mode always", says(fresh), []turn{{get(), 0, "fwd", 1, "GET"}, {post(), 0, "fwd=uri-miss; stored", 2, "POST"}, {get(), 0, "fwd=uri-miss", 3, "GET"}}, nil},
		{"DELETE that fails", "", func(w http.ResponseWriter, r *http.Request, told telling) {
			if r.Method == http.MethodDelete {
				w.WriteHeader(http.StatusConflict)
				return
			}
			says(fresh)(w, r, told)
		}, []turn{{get(), 0, "fwd", 1, "GET"}, {other("DELETE"), 409, "fwd=method", 0, "DELETE"}, {get(), 0, "hit", 1, ""}}, nil},
		{"OPTIONS", "", says(fresh), []turn{{get(), 0, "fwd", 1, "GET"}, {other("OPTIONS"), 0, "fwd=method", 2, "OPTIONS"}, {get(), 0, "hit", 1, ""}}, nil},
		{"Vary", "", says(fresh, "Vary: Accept-Language"), []turn{
			{get("Accept-Language: de"), 0, "fwd=uri-miss; stored", 1, "GET"}, {get("Accept-Language: en"), 0, "fwd=vary-miss; stored", 2, "GET"},
			{get("Accept-Language: de"), 0, "hit", 1, ""}, {get("Accept-Language: en"), 0, "hit", 2, ""}, {get(), 0, "fwd=vary-miss", 3, "GET"},
		}, nil},
		{"Vary by what only SDKs differ in", "", says(fresh, "Vary: Accept-Encoding, Origin"), []turn{
			{get("Accept-Encoding: gzip"), 0, "fwd=uri-miss; stored", 1, "GET"}, {get("Accept-Encoding: br", "Origin: https://a.example"), 0, "hit", 1, ""}, {get(), 0, "hit", 1, ""},
		}, nil},
		{"off", "mode off", says(fresh), []turn{{get(), 0, "", 1, "GET"}, {get(), 0, "", 2, "GET"}, {post("Cache-Control: max-age=60"), 0, "", 3, "POST"}, {post("Cache-Control: max-age=60"), 0, "", 4, "POST"}}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p, o := proxies[tc.options], &origin{answer: tc.says}
			a := p.account(t)
			stage.add(a.key, o)
			for i, turn := range tc.turns {
				if i == 1 && tc.then != nil {
					o.becomes(tc.then)
				}
				r := turn.r
				r.token = a.token
				before := o.count()
				got := p.do(t, r)
				want := turn.status
				if want == 0 {
					want = http.StatusOK
				}
				cache, whole := strings.CutSuffix(turn.cache, "$")
				if status := cacheStatus(got); got.status != want || !strings.HasPrefix(status, cache) || whole && status != cache {
					t.Errorf("request %d: %d %q %s, want %d %q", i+1, got.status, status, got.body, want, turn.cache)
				}
				if turn.answer != 0 {
					var told telling
					if err := json.Unmarshal([]byte(got.body), &told); err != nil || told.Number != turn.answer {
						t.Errorf("request %d: answer %d (%v), want %d: %v", i+1, told.Number, err, turn.answer, got.header)
					}
				}
				if got.status == http.StatusNotModified && got.body != "" || r.method == http.MethodHead && got.body != "" {
					t.Errorf("request %d has a body: %q", i+1, got.body)
				}
				if hit := isHit(got); hit != (got.header.Get("Age") != "") && !strings.Contains(got.header.Get("Cache-Status"), "fwd-status=304") && got.header.Get("Age") != "601" {
					t.Errorf("request %d: hit %t, Age %q", i+1, hit, got.header.Get("Age"))
				}
				o.mu.Lock()
				asked := ""
				for _, line := range o.asked[before:] {
					method, _, _ := strings.Cut(line, " ")
					asked += method
				}
				o.mu.Unlock()
				methods, again := strings.CutSuffix(turn.methods, "*") // transports may try again
				if asked != methods && !(again && strings.HasPrefix(asked, methods)) {
					t.Errorf("request %d: the origin was asked %q, want %q", i+1, asked, turn.methods)
				}
			}
		})
	}
}

// TestCacheRefresh: what is stale is given out while a new answer is fetched, and the
// event of that says how it ended.
func TestCacheRefresh(t *testing.T) {
	t.Parallel()
	answer := func(w http.ResponseWriter, _ *http.Request, told telling) {
		w.Header().Set("Cache-Control", "max-age=600, stale-while-revalidate=600")
		if told.Number == 1 {
			w.Header().Set("Age", "601")
		}
		told.write(w)
	}
	o := newOrigin(t, answer)
	p := start(t, o.site())
	a := p.account(t)
	get := request{path: "/v1/things", token: a.token}
	if got := p.do(t, get); toldIn(t, got).Number != 1 || cacheStatus(got) != "fwd=uri-miss; stored" {
		t.Fatalf("%v %s", got.header, got.body)
	}
	o.becomes(func(w http.ResponseWriter, _ *http.Request, _ telling) { w.WriteHeader(http.StatusInternalServerError) })
	if got := p.do(t, get); toldIn(t, got).Number != 1 || !strings.HasPrefix(cacheStatus(got), "hit; ttl=-") || !strings.HasSuffix(cacheStatus(got), "detail=stale-while-revalidate") {
		t.Errorf("%v %s", got.header, got.body)
	}
	for _, ev := range p.cacheEvents(t, a.tokenID, 3) {
		if failed := ev.Status == http.StatusInternalServerError && ev.Outcome == "upstream_error" && ev.Cache == "miss"; !failed && ev.Outcome != "ok" {
			t.Errorf("%+v", ev)
		} else if failed != (ev.Status != http.StatusOK) {
			t.Errorf("%+v", ev)
		}
	}
	o.becomes(answer)
	if got := p.do(t, get); toldIn(t, got).Number != 1 {
		t.Errorf("%v %s", got.header, got.body)
	}
	eventually(t, "there is a new one", func() bool { return toldIn(t, p.do(t, get)).Number == 3 })
	if n := o.count(); n != 3 {
		t.Errorf("the origin was asked %d times", n)
	}
}

// TestCacheProviderStopped: what is stored and too old stands in for a provider that
// nobody reaches, for all who wait at once, and in the events it costs nothing.
func TestCacheProviderStopped(t *testing.T) {
	t.Parallel()
	o := newOrigin(t, func(w http.ResponseWriter, _ *http.Request, told telling) {
		w.Header().Set("Cache-Control", "max-age=600, stale-if-error=600")
		w.Header().Set("Age", "601")
		told.write(w)
	})
	p := start(t, priced(t, o.site("mode always")))
	a := p.account(t)
	ask := chat(a.token, "m", false)
	first := toldIn(t, p.do(t, ask))
	o.server.CloseClientConnections()
	o.server.Close()
	answers := make(chan answer)
	for range 20 {
		go func() { got, _ := p.try(t, ask); answers <- got }()
	}
	for range 20 {
		if got := receive(t, "an answer", answers); toldIn(t, got) != first || !strings.Contains(cacheStatus(got), "detail=stale-if-error") {
			t.Errorf("%d %v %s", got.status, got.header, got.body)
		}
	}
	stale := 0
	for _, ev := range p.cacheEvents(t, a.tokenID, 21) {
		if ev.Cache != "stale" {
			continue
		}
		if stale++; ev.Outcome != "ok" || ev.Status != http.StatusOK || ev.CostNanoUSD == nil || *ev.CostNanoUSD != 0 {
			t.Errorf("%+v", ev)
		}
	}
	if stale != 20 {
		t.Errorf("%d stale answers in the events", stale)
	}
}
