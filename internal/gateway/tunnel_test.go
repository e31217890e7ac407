package gateway_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// carrier stands for the host's proxy: it prepares the handshake as
// httputil.ReverseProxy does, and passes the answer on.
type carrier struct {
	saw  *http.Request // what the host's proxy saw, and may log
	then func(w http.ResponseWriter, r *http.Request, resp *http.Response) error
}

func (c *carrier) serve(w http.ResponseWriter, r *http.Request) error {
	c.saw = r
	out := r.Clone(r.Context())
	out.Header.Set("X-Forwarded-For", "1.2.3.4")
	out.Header.Set("Via", "1.1 host")
	out.Header.Set("Authorization", "Bearer of-the-host")
	for _, name := range []string{"Key", "Version", "Extensions"} { // RFC 6455's spelling
		if v := out.Header["Sec-Websocket-"+name]; v != nil {
			delete(out.Header, "Sec-Websocket-"+name)
			out.Header["Sec-WebSocket-"+name] = v
		}
	}
	resp, err := gateway.TunnelTransport{}.RoundTrip(out)
	if err != nil {
		return err
	}
	for name, values := range resp.Header {
		w.Header()[name] = append(w.Header()[name], values...)
	}
	w.WriteHeader(resp.StatusCode)
	if c.then != nil {
		return c.then(w, r, resp)
	}
	return nil
}

func switching() *http.Response {
	resp := reply(http.StatusSwitchingProtocols, "", "")
	resp.Header = http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Accept": {"x"}, "X-Request-Id": {"req_1"},
		"Keep-Alive": {"1"}, "Alt-Svc": {"h3"}, "X-Llm-Proxy-Provider": {"forged"},
	}
	return resp
}

func newTunnel(t *testing.T, s setup) (*rig, *carrier) {
	t.Helper()
	c := new(carrier)
	s.gateway = func(gc *gateway.Config) { gc.Tunnel = c.serve }
	r := newRig(t, s)
	if r.upstream != nil {
		r.upstream.answer = func(*http.Request) (*http.Response, error) { return switching(), nil }
	}
	return r, c
}

func (r *rig) handshake(target string, lines ...string) *http.Request {
	r.t.Helper()
	return r.request("GET", target, "", append([]string{
		"Connection: keep-alive, Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Key: abc", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Extensions: permessage-deflate",
	}, lines...)...)
}

func TestTunnelHandshake(t *testing.T) {
	r, c := newTunnel(t, setup{})
	a := r.do(r.handshake("/v1/realtime?model=gpt-realtime&key="+r.token, "X-Api-Key:", "Cookie: a=b", "User-Agent: app/1", "OpenAI-Beta: realtime=v1", "Origin: https://app",
		"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key."+r.token+", openai-organization.o, openai-beta.realtime-v1"))
	if a.Code != http.StatusSwitchingProtocols || a.rec.Status != 101 || a.rec.Outcome != gateway.OutcomeOK || !a.rec.Stream || a.rec.Model != "gpt-realtime" || a.rec.UpstreamRequestID != "req_1" {
		t.Errorf("%d, %+v", a.Code, a.rec)
	}
	got := r.upstream.only(t)
	want := http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Key": {"abc"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Protocol": {"realtime, openai-beta.realtime-v1"},
		"Authorization":          {"Bearer " + sharedKey}, "User-Agent": {"app/1"}, "Openai-Beta": {"realtime=v1"},
	}
	for name := range got.Header {
		if !slices.Equal(got.Header[name], want[name]) {
			t.Errorf("%s: %q, want %q", name, got.Header[name], want[name])
		}
	}
	for name := range want {
		if got.Header[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
	if got.Method != "GET" || got.URL.String() != "https://api.openai.com/v1/realtime?model=gpt-realtime" || got.Host != "api.openai.com" {
		t.Errorf("%s %s, Host %s", got.Method, got.URL, got.Host)
	}
	if told := credentials(c.saw); strings.Contains(told, r.token) || strings.Contains(c.saw.RequestURI, r.token) || strings.Contains(told, "a=b") {
		t.Errorf("the host's proxy saw %q", told)
	}
	h := a.Header()
	if h.Get("Connection") != "Upgrade" || h.Get("Upgrade") != "websocket" || h.Get("Sec-Websocket-Accept") != "x" || h["Keep-Alive"] != nil || h["Alt-Svc"] != nil {
		t.Errorf("answer %v", h)
	}
	if h.Get("X-Llm-Proxy-Attempts") != "1" || !slices.Equal(h["X-Llm-Proxy-Provider"], []string{"openai"}) {
		t.Errorf("answer %v", h)
	}
}

func TestTunnelOverHTTP2And3(t *testing.T) {
	connect := func(r *rig, target string, major int) *http.Request {
		req := r.request("GET", target, "", "Sec-WebSocket-Version: 13")
		req.Method, req.ProtoMajor = http.MethodConnect, major
		if major == 2 {
			req.Header[":protocol"] = []string{"websocket"}
		} else {
			req.Proto = "websocket"
		}
		return req
	}
	for _, major := range []int{2, 3} {
		r, _ := newTunnel(t, setup{})
		if a := r.do(connect(r, "/v1/realtime?model=m", major)); a.Code != http.StatusSwitchingProtocols {
			t.Errorf("HTTP/%d: %d %s", major, a.Code, a.Body)
		}
		if got := r.upstream.only(t); got.Method != "GET" || got.Header[":protocol"] != nil {
			t.Errorf("HTTP/%d: %s %v", major, got.Method, got.Header)
		}
		r, _ = newTunnel(t, setup{})
		r.wantRefused(r.do(connect(r, "/v1/models", major)), http.StatusMethodNotAllowed, apierr.MethodNotAllowed)
	}
	r, _ := newTunnel(t, setup{})
	req := connect(r, "/v1/realtime?model=m", 2)
	delete(req.Header, ":protocol")
	r.wantRefused(r.do(req), http.StatusMethodNotAllowed, apierr.MethodNotAllowed)
}

func TestTunnelRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		target, model string
		status        int
		code          string
	}{
		"another model":    {"/v1/realtime?model=o3", "gpt-*", 403, apierr.ModelNotAllowed},
		"no model":         {"/v1/realtime", "gpt-*", 403, apierr.ModelNotAllowed},
		"two models":       {"/v1/realtime?model=gpt-4o&model=o3", "gpt-*", 400, apierr.ParamNotAllowed},
		"semicolon":        {"/v1/realtime?x=1;model=o3&model=gpt-4o", "gpt-*", 400, apierr.ParamNotAllowed},
		"another endpoint": {"/v1/realtimes", "*", 404, apierr.EndpointNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			r, c := newTunnel(t, setup{token: onlyModels(tc.model)})
			r.wantRefused(r.do(r.handshake(tc.target)), tc.status, tc.code)
			if c.saw != nil {
				t.Error("the host's proxy was asked")
			}
		})
	}
	r := newRig(t, setup{})
	r.wantRefused(r.do(r.handshake("/v1/realtime?model=m")), http.StatusNotFound, apierr.EndpointNotFound)
}

// Elsewhere an upgrade is not passed on: the request is an ordinary one.
func TestNoUpgradeElsewhere(t *testing.T) {
	for _, lines := range [][]string{nil, {"Upgrade:", "Upgrade: h2c", "HTTP2-Settings: x"}} {
		r, c := newTunnel(t, setup{})
		target := "/v1/models"
		if lines != nil {
			target = "/v1/realtime"
		}
		r.upstream.answer = nil
		r.wantOK(r.do(r.handshake(target, lines...)), "{}")
		got := r.upstream.only(t).Header
		for name := range got {
			if name == "Connection" || name == "Upgrade" || name == "Http2-Settings" || strings.HasPrefix(name, "Sec-") {
				t.Errorf("%s reached the provider", name)
			}
		}
		if c.saw != nil {
			t.Error("the host's proxy was asked")
		}
	}
}

func TestTunnelAnswersThatAreNone(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(*http.Request) (*http.Response, error)
		status int
		code   string // of ours; "": the provider's answer passes
	}{
		"401":     {always(401, "application/json", `{"error":"`+sharedKey+`"}`), 502, apierr.CredentialsExhausted},
		"key":     {always(400, "application/json", `{"error":"`+sharedKey+`"}`), 502, apierr.CredentialsExhausted},
		"400":     {always(400, "application/json", `{"error":"bad"}`), 400, ""},
		"refused": {func(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }, 502, apierr.UpstreamError},
		"timeout": {func(*http.Request) (*http.Response, error) { return nil, timeout{} }, 504, apierr.UpstreamTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := newTunnel(t, setup{})
			r.upstream.answer = tc.answer
			a := r.do(r.handshake("/v1/realtime?model=m"))
			if a.rec.Outcome != gateway.OutcomeUpstreamError || a.rec.Attempts != 1 || strings.Contains(a.Body.String(), sharedKey) {
				t.Errorf("%+v %s", a.rec, a.Body)
			}
			if tc.code != "" {
				r.wantError(a, tc.status, tc.code)
			} else if a.Code != tc.status || a.rec.Status != tc.status {
				t.Errorf("%d, %+v", a.Code, a.rec)
			}
		})
	}
}

func TestTunnelThatFails(t *testing.T) {
	r := newRig(t, setup{gateway: func(c *gateway.Config) {
		c.Tunnel = func(http.ResponseWriter, *http.Request) error { return errors.New("no upstreams") }
	}})
	a := r.do(r.handshake("/v1/realtime?model=m"))
	r.wantError(a, http.StatusBadGateway, apierr.UpstreamError)

	r, c := newTunnel(t, setup{})
	c.then = func(http.ResponseWriter, *http.Request, *http.Response) error { panic(http.ErrAbortHandler) }
	if a = r.do(r.handshake("/v1/realtime?model=m")); !a.aborted || a.rec.Outcome != gateway.OutcomeUpstreamError {
		t.Errorf("aborted %t, %+v", a.aborted, a.rec)
	}
	if n := r.inflight.Count(); n != 0 {
		t.Errorf("%d requests are still registered", n)
	}
	if _, err := (gateway.TunnelTransport{}).RoundTrip(r.request("GET", "/v1/realtime", "")); err == nil {
		t.Error("a request that is no upgrade of the gateway's was sent")
	}
}

func TestRevocationCutsTunnels(t *testing.T) {
	for _, aborts := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r, c := newTunnel(t, setup{})
			c.then = func(_ http.ResponseWriter, r *http.Request, _ *http.Response) error {
				<-r.Context().Done()
				if aborts {
					panic(http.ErrAbortHandler)
				}
				return nil
			}
			f := r.fly(r.handshake("/v1/realtime?model=m"))
			synctest.Wait()
			start := time.Now()
			r.announce(r.store.revoke(r.tokenID))
			<-f.done
			if took := time.Since(start); took > time.Second || f.rec.Outcome != gateway.OutcomeCut || f.rec.Code != apierr.TokenInactive || f.rec.Status != 101 {
				t.Errorf("after %v: %+v", took, f.rec)
			}
		})
	}
}

// The idle timeout is about answers: a connection may be silent for long.
func TestTunnelMayBeSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, c := newTunnel(t, setup{provider: times(time.Second, time.Second), token: func(tok *token.Token) {}})
		c.then = func(_ http.ResponseWriter, r *http.Request, _ *http.Response) error {
			select {
			case <-r.Context().Done():
			case <-time.After(20 * time.Minute):
			}
			return nil
		}
		a := r.do(r.handshake("/v1/realtime?model=m"))
		if a.rec.Outcome != gateway.OutcomeOK || a.rec.Latency < 20*time.Minute {
			t.Errorf("%+v", a.rec)
		}
	})
}
