package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// longEvents is a stream of a chat, with n events before its end.
func longEvents(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word %d %s\"}}]}\n\n", i, strings.Repeat("x", 200))
	}
	return b.String() + "data: [DONE]\n\n"
}

// TestCacheNeverStores: answers that are incomplete, errors, somebody's alone or
// forbidden to keep are asked for again, whatever the client wants.
func TestCacheNeverStores(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	const jsonType, sse = "Content-Type: application/json\r\n", "Content-Type: text/event-stream\r\n"
	const long = "Cache-Control: public, max-age=600\r\n"
	script := func(text string) func(net.Conn, *http.Request) bool {
		return func(c net.Conn, _ *http.Request) bool { _, _ = io.WriteString(c, text); return false }
	}
	whole := func(text string) func(net.Conn, *http.Request) bool { // the connection is of further use
		return func(c net.Conn, _ *http.Request) bool { _, err := io.WriteString(c, text); return err == nil }
	}
	body := func(head, text string) func(net.Conn, *http.Request) bool {
		return whole(head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(text), text))
	}
	inChunks := func(head, text string) func(net.Conn, *http.Request) bool {
		return whole(head + "Transfer-Encoding: chunked\r\n\r\n" + chunked(text, 700))
	}
	var answers sync.Map // by credential
	provider := newScripted(t, func(c net.Conn, r *http.Request) bool {
		answer, ok := answers.Load(r.Header.Get("Authorization"))
		return ok && answer.(func(net.Conn, *http.Request) bool)(c, r)
	})
	s := (&origin{url: provider.url}).site("mode always")
	s.app = "cache {\nmax_object 10KiB\n}"
	p := start(t, s)
	events := longEvents(8)
	cut := events[:len(events)/2]
	chatOf := func(stream bool) request { return request{path: "/v1/chat/completions", body: chatBody("m", stream)} }
	get := request{path: "/v1/models/m"}
	for _, tc := range []struct {
		name   string
		r      request
		answer func(net.Conn, *http.Request) bool
		stored bool
	}{
		// What is stored, so that the rest can be told from a cache that never works.
		{"an answer", chatOf(false), body(ok+jsonType, `{"a":1}`), true},
		{"an answer in chunks", chatOf(false), inChunks(ok+jsonType, `{"a":1}`), true},
		{"a stream", chatOf(true), inChunks(ok+sse+"Cache-Control: no-cache\r\n", events), true},
		{"a GET", get, body(ok+jsonType+long, `{"a":1}`), true},
		// Forbidden.
		{"no-store on the second line", chatOf(false), body(ok+jsonType+long+"Cache-Control: no-store\r\n", `{}`), false},
		{"no-store on the second line, of a GET", get, body(ok+jsonType+long+"Cache-Control: no-store\r\n", `{}`), false},
		{"no-store in capitals", get, body(ok+jsonType+"cache-control: max-age=600, NO-STORE\r\n", `{}`), false},
		{"private", chatOf(false), body(ok+jsonType+long+"Cache-Control: private\r\n", `{}`), false},
		{"private fields", get, body(ok+jsonType+"Cache-Control: private=\"set-cookie\", max-age=600\r\n", `{}`), false},
		// Parts.
		{"a part", chatOf(false), body("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\n"+jsonType+long, `{}`), false},
		{"a part that nobody asked for", get, body("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\n"+jsonType+long, `{}`), false},
		{"a 304 to nobody's question", get, whole("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n" + long + "\r\n"), false},
		// Without an end.
		{"a stream without its end", chatOf(true), inChunks(ok+sse, cut), false},
		{"a stream without its last event", chatOf(true), inChunks(ok+sse, strings.TrimSuffix(events, "data: [DONE]\n\n")), false},
		{"a stream whose last event is cut", chatOf(true), inChunks(ok+sse, strings.TrimSuffix(events, "ONE]\n\n")), false},
		{"a stream whose connection breaks", chatOf(true), script(ok + sse + "Transfer-Encoding: chunked\r\n\r\n" + strings.TrimSuffix(chunked(cut, 700), "0\r\n\r\n")), false},
		{"a stream with an error", chatOf(true), inChunks(ok+sse, `data: {"error":{"message":"overloaded","type":"server_error"}}`+"\n\ndata: [DONE]\n\n"), false},
		{"chunks without an end", chatOf(false), script(ok + jsonType + "Transfer-Encoding: chunked\r\n\r\n7\r\n{\"a\":1}\r\n"), false},
		{"less than its length", chatOf(false), script(ok + jsonType + "Content-Length: 90\r\n\r\n" + `{"a":1}`), false},
		{"less than its length, of a GET", get, script(ok + jsonType + long + "Content-Length: 90\r\n\r\n" + `{"a":1}`), false},
		{"a body that ends with its connection", chatOf(false), script(ok + jsonType + "Connection: close\r\n\r\n" + `{"a":1}`), false},
		{"a GET's body that ends with its connection", get, script("HTTP/1.0 200 OK\r\n" + jsonType + long + "\r\n" + `{"a":1}`), false},
		// Too large.
		{"more than max_object", chatOf(false), body(ok+jsonType, `{"a":"`+strings.Repeat("x", 20<<10)+`"}`), false},
		{"a stream of more than max_object", chatOf(true), inChunks(ok+sse, longEvents(60)), false},
		// Not for others, or for no time.
		{"Vary: *", get, body(ok+jsonType+long+"Vary: *\r\n", `{}`), false},
		{"Vary: * in a list", get, body(ok+jsonType+long+"Vary: Accept\r\nVary: Origin, *\r\n", `{}`), false},
		{"Vary: * of a POST", chatOf(false), body(ok+jsonType+"Vary: *\r\n", `{}`), false},
		{"no-cache of a POST", chatOf(false), body(ok+jsonType+"Cache-Control: no-cache\r\n", `{}`), false},
		{"no lifetime", get, body(ok+jsonType+"Cache-Control: max-age=0\r\n", `{}`), false},
		{"expired", chatOf(false), body(ok+jsonType+"Expires: 0\r\n", `{}`), false},
		{"a cookie", get, body(ok+jsonType+long+"Set-Cookie: session=1\r\n", `{}`), false},
		{"a cookie behind a harmless one", chatOf(false), body(ok+jsonType+"Set-Cookie: __cf_bm=1\r\nSet-Cookie: session=1\r\n", `{}`), false},
		// Errors, which would keep others out.
		{"400", chatOf(false), body("HTTP/1.1 400 Bad Request\r\n"+jsonType+long, `{}`), false},
		{"401", get, body("HTTP/1.1 401 Unauthorized\r\n"+jsonType+long, `{}`), false},
		{"404", get, body("HTTP/1.1 404 Not Found\r\n"+jsonType+long, `{}`), false},
		{"405", get, body("HTTP/1.1 405 Method Not Allowed\r\n"+jsonType+long, `{}`), false},
		{"413", chatOf(false), body("HTTP/1.1 413 Content Too Large\r\n"+jsonType+long, `{}`), false},
		{"429", chatOf(false), body("HTTP/1.1 429 Too Many Requests\r\n"+jsonType+long, `{}`), false},
		{"431", get, body("HTTP/1.1 431 Request Header Fields Too Large\r\n"+jsonType+long, `{}`), false},
		{"500", chatOf(false), body("HTTP/1.1 500 Internal Server Error\r\n"+jsonType+long, `{}`), false},
		{"501", get, body("HTTP/1.1 501 Not Implemented\r\n"+jsonType+long, `{}`), false},
		{"503", get, body("HTTP/1.1 503 Service Unavailable\r\n"+jsonType+long, `{}`), false},
		{"301", get, body("HTTP/1.1 301 Moved Permanently\r\nLocation: /other\r\n"+jsonType+long, `{}`), false},
		{"204", get, whole("HTTP/1.1 204 No Content\r\n" + long + "\r\n"), false},
		{"an error in the disguise of a success", chatOf(false), body(ok+jsonType, `{"error":{"message":"overloaded","type":"server_error"}}`), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a := p.account(t)
			asked := new(atomic.Int64)
			answers.Store("Bearer "+a.key, func(c net.Conn, r *http.Request) bool { asked.Add(1); return tc.answer(c, r) })
			for n := range int64(3) {
				r := with(tc.r, "Cache-Control: public, max-age=600")
				r.token = a.token
				before := asked.Load()
				got, err := p.try(t, r)
				if again := asked.Load() > before; again == (tc.stored && n > 0) || isHit(got) == again && err == nil {
					t.Errorf("request %d: the provider was asked: %t; %d %v %.200q, %v, %v", n, again, got.status, got.header, got.body, got.err, err)
				}
			}
		})
	}
}

// TestCacheAttacks is what caches before providers, and others, could be brought to do.
func TestCacheAttacks(t *testing.T) {
	t.Parallel()
	for name, attack := range map[string]func(t *testing.T, p *proxy, o *origin, alice, bob *account){
		"a client makes a GET storable, and shares it": func(t *testing.T, p *proxy, o *origin, alice, bob *account) {
			o.becomes(func(w http.ResponseWriter, _ *http.Request, told telling) { told.write(w) }) // says nothing of storing
			get := with(request{path: "/v1/files"}, "Cache-Control: public, max-age=600")
			for _, a := range []*account{alice, bob, alice, bob} {
				get.token = a.token
				if got := p.do(t, get); isHit(got) || toldIn(t, got).Owner != digestOf(a.key) {
					t.Errorf("%v %s", got.header, got.body)
				}
			}
		},
		"a body goes under another's digest": func(t *testing.T, p *proxy, o *origin, alice, bob *account) {
			const victims = `{"model":"m","messages":[]}`
			sum := sha256.Sum256([]byte(victims))
			for _, a := range []*account{bob, alice} { // of another project, and of the same one
				evil := fmt.Sprintf(`{"model":"m","evil":%q}`, a.tokenID)
				got := p.raw(t, "POST /v1/chat/completions HTTP/1.1\nHost: localhost\nAuthorization: Bearer "+a.token+
					"\nContent-Type: application/json\nCache-Control: public, max-age=600\nX-Body-Hash: "+hex.EncodeToString(sum[:])+
					"\nTransfer-Encoding: chunked\nConnection: close\n", chunked(evil, 7))
				if toldIn(t, got).Body != digestOf(evil) {
					t.Errorf("%v %s", got.header, got.body)
				}
			}
			got := p.do(t, with(request{path: "/v1/chat/completions", body: victims, token: alice.token}, "Cache-Control: public, max-age=600"))
			if told := toldIn(t, got); isHit(got) || told.Body != digestOf(victims) {
				t.Errorf("%v %s", got.header, got.body)
			}
		},
		"one parameter is two": func(t *testing.T, p *proxy, o *origin, alice, _ *account) {
			for _, query := range []string{"?a=1&b=2", "?a=1%26b%3D2", "?a=1&b=2", "?a=1%26b%3D2"} {
				if got := toldIn(t, p.do(t, request{path: "/v1/files" + query, token: alice.token})); got.Target != "/v1/files"+query {
					t.Errorf("%s: %+v", query, got)
				}
			}
			if n := o.count(); n != 2 {
				t.Errorf("the origin was asked %d times", n)
			}
		},
		"what speaks of the first request is replayed": func(t *testing.T, p *proxy, o *origin, alice, _ *account) {
			lines := []string{"X-Request-Id", "Openai-Organization", "Openai-Processing-Ms", "X-Ratelimit-Remaining-Requests", "Access-Control-Allow-Origin", "Cf-Ray", "Server-Timing", "Anthropic-Organization-Id"}
			o.becomes(func(w http.ResponseWriter, r *http.Request, told telling) {
				for _, name := range lines {
					w.Header().Set(name, "of-the-first")
				}
				w.Header().Set("Set-Cookie", "__cf_bm=of-the-first")
				tell(w, r, told)
			})
			get := request{path: "/v1/files", token: alice.token}
			p.do(t, get)
			got := p.do(t, get)
			if !isHit(got) {
				t.Errorf("no hit: %v", got.header)
			}
			for name, values := range got.header {
				if strings.Contains(strings.Join(values, " "), "of-the-first") {
					t.Errorf("%s: %q", name, values)
				}
				if strings.Contains(strings.ToLower(name), "cache-key") {
					t.Errorf("the key is shown: %s: %q", name, values)
				}
			}
			if strings.Contains(got.header.Get("Cache-Status"), "key") {
				t.Errorf("the key is shown: %s", got.header.Get("Cache-Status"))
			}
		},
		"who leaves a stream leaves half of it for others": func(t *testing.T, p *proxy, o *origin, alice, _ *account) {
			events, gate := longEvents(8), make(chan struct{})
			o.becomes(func(w http.ResponseWriter, r *http.Request, _ telling) {
				w.Header().Set("Content-Type", "text/event-stream")
				_, _ = io.WriteString(w, events[:len(events)/2])
				_ = http.NewResponseController(w).Flush()
				select {
				case <-gate:
					_, _ = io.WriteString(w, events[len(events)/2:])
				case <-r.Context().Done():
				}
			})
			ask := optIn(chat(alice.token, "m", true))
			ctx, leave := context.WithCancel(bounded(t))
			prefix(t, p.open(t, ctx, ask).Body)
			leave()
			eventually(t, "it has left", func() bool { return p.inflight(t) == 0 })
			close(gate)
			for range 3 {
				if got := p.do(t, ask); got.status != http.StatusOK || got.body != events {
					t.Errorf("%v %q", got.header, got.body)
				}
			}
			if n := o.count(); n > 2 {
				t.Errorf("the origin was asked %d times", n)
			}
		},
		"what the client accepts defeats the cache": func(t *testing.T, p *proxy, o *origin, alice, _ *account) {
			o.becomes(func(w http.ResponseWriter, r *http.Request, told telling) {
				w.Header().Set("Vary", "Accept-Encoding, Origin")
				tell(w, r, told)
			})
			for range 4 {
				p.do(t, with(request{path: "/v1/files", token: alice.token}, "Accept: application/json", "Accept-Encoding: gzip", "Origin: https://a.example"))
			}
			if n := o.count(); n != 1 {
				t.Errorf("the origin was asked %d times", n)
			}
		},
		"a 304 goes to who has not asked for one": func(t *testing.T, p *proxy, o *origin, alice, _ *account) {
			o.becomes(func(w http.ResponseWriter, r *http.Request, told telling) {
				w.Header().Set("ETag", `"one"`)
				w.Header().Set("Cache-Control", "max-age=600")
				if r.Header.Get("If-None-Match") == `"one"` {
					w.WriteHeader(http.StatusNotModified)
					return
				}
				told.write(w)
			})
			get := request{path: "/v1/files", token: alice.token}
			first := p.do(t, get)
			for _, control := range []string{"no-cache", "max-age=0", "no-cache, max-age=0", "max-age=1"} {
				if got := p.do(t, with(get, "Cache-Control: "+control)); got.status != http.StatusOK || got.body != first.body {
					t.Errorf("%s: %d %q", control, got.status, got.body)
				}
			}
		},
		"a part is the answer to a request for all": func(t *testing.T, p *proxy, o *origin, alice, bob *account) {
			o.becomes(func(w http.ResponseWriter, r *http.Request, told telling) {
				w.Header().Set("Cache-Control", "max-age=600")
				http.ServeContent(w, r, "x.json", time.Time{}, strings.NewReader(`{"Number":1,"Owner":"`+told.Owner+`"}`))
			})
			for _, a := range []*account{alice, bob} {
				part := p.do(t, with(request{path: "/v1/files/1/content", token: a.token}, "Range: bytes=0-2", "Cache-Control: public, max-age=600"))
				all := p.do(t, request{path: "/v1/files/1/content", token: a.token})
				if part.status != http.StatusPartialContent || part.body != `{"N` || toldIn(t, all).Owner != digestOf(a.key) {
					t.Errorf("%d %q, then %d %q", part.status, part.body, all.status, all.body)
				}
			}
		},
		"requests at once are not collapsed, or across projects": func(t *testing.T, p *proxy, o *origin, alice, bob *account) {
			gate := make(chan struct{})
			o.becomes(gated(gate))
			got := make(chan func() (answer, *account), 40)
			for i := range 40 {
				a := []*account{alice, bob}[i%2]
				go func() {
					text := p.do(t, optIn(request{path: "/v1/chat/completions", body: `{}`, token: a.token}))
					got <- func() (answer, *account) { return text, a }
				}()
			}
			eventually(t, "all wait", func() bool { return p.inflight(t) >= 40 && o.count() == 2 })
			close(gate)
			for range 40 {
				if text, a := receive(t, "an answer", got)(); toldIn(t, text).Owner != digestOf(a.key) {
					t.Errorf("%v %s", text.header, text.body)
				}
			}
			if n := o.count(); n != 2 {
				t.Errorf("the origin was asked %d times", n)
			}
		},
		"denial of service: an error that one provokes is for all": func(t *testing.T, p *proxy, o *origin, alice, _ *account) {
			o.becomes(func(w http.ResponseWriter, r *http.Request, told telling) {
				for name, status := range map[string]int{
					"X-Http-Method-Override": http.StatusMethodNotAllowed, "X-Http-Method": http.StatusMethodNotAllowed, "X-Forwarded-Host": http.StatusNotFound,
					"Range": http.StatusRequestedRangeNotSatisfiable, "If-Match": http.StatusPreconditionFailed,
				} {
					if r.Header.Get(name) != "" {
						w.Header().Set("Cache-Control", "public, max-age=600")
						w.WriteHeader(status)
						return
					}
				}
				if r.Header.Get("Accept") == "evil/evil" || len(r.UserAgent()) > 1000 {
					w.Header().Set("Cache-Control", "public, max-age=600")
					w.WriteHeader(http.StatusBadRequest)
					return
				}
				tell(w, r, told)
			})
			for i, tc := range []struct {
				line   string
				status int
			}{
				{"User-Agent: " + strings.Repeat("x", 4000), http.StatusBadRequest},
				{"X-Long: " + strings.Repeat("x", 40<<10), http.StatusRequestHeaderFieldsTooLarge},
				{"Accept: evil/evil", http.StatusBadRequest},
				{"Accept: a\x00b", http.StatusBadRequest},
				{"X-Meta: \x07\x1b", http.StatusBadRequest},
				{"X-Meta : x", http.StatusBadRequest},
				{"Host: evil.example", http.StatusBadRequest},
				{"Content-Length: x", http.StatusBadRequest},
				{"Transfer-Encoding: gzip", http.StatusNotImplemented},
				{"Range: bytes=9-1", http.StatusRequestedRangeNotSatisfiable},
				{`If-Match: "x"`, http.StatusPreconditionFailed},
				{"X-Http-Method-Override: DELETE", http.StatusOK}, // and does not get there
				{"X-Http-Method: POST", http.StatusOK},
				{"X-Forwarded-Host: evil.example", http.StatusOK},
			} {
				path := fmt.Sprintf("/v1/models/%d", i)
				for _, control := range []string{"public, max-age=600", "no-cache"} { // before there is something, and after
					got := p.raw(t, "GET "+path+" HTTP/1.1\nHost: localhost\nAuthorization: Bearer "+alice.token+"\nCache-Control: "+control+"\n"+tc.line+"\nConnection: close\n", "")
					if got.status != tc.status {
						t.Errorf("%.40q, %s: %d %v", tc.line, control, got.status, got.header)
					}
					for n := range 2 {
						got := p.do(t, request{path: path, token: alice.token})
						if told := toldIn(t, got); told.Method != http.MethodGet || told.Target != path || n == 1 && !isHit(got) {
							t.Errorf("after %.40q, %s: %v %s", tc.line, control, got.header, got.body)
						}
					}
				}
			}
		},
		"deception: a path that looks static is stored": func(t *testing.T, p *proxy, o *origin, alice, bob *account) {
			o.becomes(func(w http.ResponseWriter, _ *http.Request, told telling) { told.write(w) })
			for _, path := range []string{"/v1/files/x.css", "/v1/files;.js", "/v1/files/%0a.css", "/v1/files/..%2fx.css", "/v1/files/x.js?a.css", "/v1/files%3Fx.css", "/v1/files%23.css", "/v1/files/robots.txt"} {
				for _, a := range []*account{alice, bob, alice} {
					got := p.do(t, request{path: path, token: a.token})
					if isHit(got) || got.status == http.StatusOK && toldIn(t, got).Owner != digestOf(a.key) {
						t.Errorf("%s: %d %v %s", path, got.status, got.header, got.body)
					}
				}
			}
		},
		"absolute-form: the request line names another host": func(t *testing.T, p *proxy, o *origin, alice, _ *account) {
			line := func(target string) answer {
				return p.raw(t, "GET "+target+" HTTP/1.1\nHost: localhost\nAuthorization: Bearer "+alice.token+"\nConnection: close\n", "")
			}
			first := line("/v1/files")
			for _, target := range []string{fmt.Sprintf("https://localhost:%d/v1/files", p.port), "https://evil.example/v1/files", "//v1/files"} {
				got := line(target)
				if told := (telling{}); got.status == http.StatusOK && json.Unmarshal([]byte(got.body), &told) == nil && told.Target != "/v1/files" {
					t.Errorf("%s: %s", target, got.body)
				}
			}
			if got := line("/v1/files"); got.body != first.body {
				t.Errorf("%s, was %s", got.body, first.body)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t, nil)
			p := start(t, o.site())
			attack(t, p, o, p.account(t), p.account(t))
		})
	}
}
