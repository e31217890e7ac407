package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// TestProviderAnswersPass checks that answers other than plain success come
// through as they are, errors above all.
func TestProviderAnswersPass(t *testing.T) {
	t.Parallel()
	const body = "{ \"error\" : {\"message\":\"Über\\u00fc \\/ \xff\", \"code\":null} }\r\n"
	provider := newScripted(t, func(c net.Conn, r *http.Request) bool {
		status := strings.TrimPrefix(r.URL.Path, "/v1/models/")
		text, length := body, fmt.Sprintf("Content-Length: %d\r\n", len(body))
		if status == "204" || status == "304" {
			text, length = "", ""
		}
		fmt.Fprintf(c, "HTTP/1.1 %s Whatever\r\nContent-Type: application/problem+json\r\n%sX-Request-Id: req_provider\r\nRequest-Id: req_provider\r\n"+
			"Retry-After: 17\r\nX-Should-Retry: true\r\nX-Ratelimit-Remaining-Requests: 5\r\nanthropic-ratelimit-requests-limit: 7\r\nOpenai-Processing-Ms: 12\r\n"+
			"ETag: \"x\"\r\nVary: A\r\nVary: B\r\nLocation: /elsewhere?a=b\r\nSet-Cookie: a=b\r\nServer: provider\r\n"+
			"Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nAlt-Svc: h3=\":1\"\r\nX-LLM-Proxy-Provider: forged\r\n\r\n%s", status, length, text)
		return true
	})
	p := start(t, site{providers: map[string]string{"openai": provider.url + "/v1"}})
	_, token := onlyOpenAI(t, p)
	for i, status := range []int{200, 201, 204, 301, 302, 303, 304, 307, 308, 400, 402, 403, 404, 408, 409, 413, 418, 422, 429, 500, 502, 503, 504, 529, 599} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			got := p.do(t, request{path: fmt.Sprintf("/v1/models/%d", status), token: token, proto: allProtocols[i%3]})
			want := body
			if status == 204 || status == 304 {
				want = ""
			}
			if got.status != status || got.body != want || got.err != nil {
				t.Errorf("%d %q %v", got.status, got.body, got.err)
			}
			for name, value := range map[string]string{
				"X-Request-Id": "req_provider", "Request-Id": "req_provider", "Retry-After": "17", "X-Should-Retry": "true",
				"X-Ratelimit-Remaining-Requests": "5", "Anthropic-Ratelimit-Requests-Limit": "7", "Openai-Processing-Ms": "12", "Etag": `"x"`,
				"Location": "/elsewhere?a=b", "Set-Cookie": "a=b", "Vary": "A|B", "X-Hop": "", "Keep-Alive": "", "X-Llm-Proxy-Provider": "openai",
				"X-Llm-Proxy-Attempts": "1",
			} {
				if v := strings.Join(got.header[name], "|"); v != value {
					t.Errorf("%s: %q, want %q", name, v, value)
				}
			}
			if v := got.header.Get("Alt-Svc"); strings.Contains(v, ":1\"") {
				t.Errorf("Alt-Svc: %q", v)
			}
			if got.header.Get("X-Llm-Proxy-Request-Id") == "" || !strings.HasPrefix(got.header.Get("Server-Timing"), "llm-proxy;dur=") {
				t.Errorf("headers %v", got.header)
			}
		})
	}
}

// TestHideHeaders switches our own headers off.
func TestHideHeaders(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	s := against(sim)
	s.handler = "expose_headers off"
	p := start(t, s)
	a := p.account(t)
	for _, r := range []request{chat(a.token, "m", false), chat("sk-none", "m", false), {path: "/v1/llm-proxy/token", token: a.token}} {
		got := p.do(t, r)
		for name := range got.header {
			if strings.HasPrefix(name, "X-Llm-Proxy-") || name == "Server-Timing" {
				t.Errorf("%s %s: %v", r.path, name, got.header[name])
			}
		}
	}
}

// TestStreamShapes passes what else a stream may have: trailers, CRLF,
// redirects in its place, and the simulator's other habits.
func TestStreamShapes(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		sim := serveProvider(t, simulator.Options{}, secure)
		p := start(t, against(sim), "SSL_CERT_FILE="+sim.caFile)
		a := p.account(t)
		for _, proto := range allProtocols {
			t.Run(fmt.Sprintf("TLS %t/%s", secure, proto), func(t *testing.T) {
				visit := func(model string, stream bool) answer {
					r := chat(a.token, model, stream)
					r.proto = proto
					return p.do(t, r)
				}
				if got := visit("sim-trailer", true); got.err != nil || got.trailer.Get("X-Sim-Trailer") != "done" {
					t.Errorf("trailer %v, %v", got.trailer, got.err)
				}
				if got := visit("sim-crlf", true); got.err != nil || !strings.HasSuffix(got.body, "data: [DONE]\r\n\r\n") || !strings.Contains(got.body, "\r\n: simulated keep-alive\r\n") {
					t.Errorf("CRLF: %q", got.body)
				}
				if got := visit("sim-redirect", true); got.status != http.StatusFound || got.header.Get("Location") != "/sim/elsewhere" {
					t.Errorf("redirect: %d %v", got.status, got.header)
				}
				if got := visit("sim-truncate", true); got.err != nil || strings.Contains(got.body, "[DONE]") {
					t.Errorf("truncated: %v %q", got.err, got.body)
				}
				if got := visit("sim-cookie", false); got.header.Get("Set-Cookie") == "" {
					t.Errorf("cookie: %v", got.header)
				}
				if got := visit("sim-big-8388608", false); len(got.body) < 8<<20 || got.err != nil {
					t.Errorf("%d bytes, %v", len(got.body), got.err)
				}
				r := request{method: "HEAD", path: "/v1/models", token: a.token, proto: proto}
				if got := p.do(t, r); got.status != http.StatusOK || got.body != "" {
					t.Errorf("HEAD: %d %q", got.status, got.body)
				}
			})
		}
		if n := sim.Stats().Redirected; n != 0 {
			t.Errorf("%d redirects were followed", n)
		}
	}
}

// TestEarlyAnswer lets a provider refuse an upload before it has come.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.ReadFull(c, make([]byte, 1000))
		io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
		_, _ = io.Copy(io.Discard, c)
	}()
	t.Cleanup(func() { ln.Close(); <-served })
	p := start(t, site{providers: map[string]string{"openai": "http://" + ln.Addr().String() + "/v1"}})
	_, token := onlyOpenAI(t, p)
	upload := form("purpose", strings.Repeat("x", 4<<20))
	got := p.do(t, request{path: "/v1/files", token: token, body: upload, header: http.Header{"Content-Type": {"multipart/form-data; boundary=xyz"}}, proto: h2})
	if got.status != http.StatusRequestEntityTooLarge || got.body != "{}" {
		t.Errorf("%d %s", got.status, got.body)
	}
}
