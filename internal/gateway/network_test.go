package gateway_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
)

// site is a rig between a real server and a real provider.
type site struct {
	*rig
	server  *httptest.Server
	client  *http.Client
	records chan gateway.Record
}

func newSite(t *testing.T, http2 bool, upstream http.HandlerFunc) *site {
	t.Helper()
	origin := httptest.NewServer(upstream)
	t.Cleanup(origin.Close)
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	s := &site{records: make(chan gateway.Record, 16)}
	s.rig = newRig(t, setup{provider: func(c *provider.Config) { c.BaseURL = origin.URL + "/v1" }, upstream: transport})
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m, ours := s.gateway.Match(r)
		if !ours {
			http.NotFound(w, r)
			return
		}
		var rec gateway.Record
		defer func() { s.records <- rec }()
		s.gateway.Serve(w, r, m, &rec)
	}))
	s.server.EnableHTTP2 = http2
	if http2 {
		s.server.StartTLS()
	} else {
		s.server.Start()
	}
	t.Cleanup(s.server.Close)
	s.client = s.server.Client()
	return s
}

func (s *site) get(t *testing.T, target string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+target, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Api-Key", s.token)
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// An answer that the provider breaks off is not complete for the client either,
// whatever the protocol: no length that fits, no last chunk, no end of stream.
func TestNoBrokenAnswerLooksComplete(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		for kind, length := range map[string]int{eventStream: -1, "application/json": -1, "text/plain": 100} {
			t.Run(fmt.Sprintf("HTTP/2 %t, %s", http2, kind), func(t *testing.T) {
				s := newSite(t, http2, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", kind)
					if length >= 0 {
						w.Header().Set("Content-Length", fmt.Sprint(length))
					}
					_, _ = io.WriteString(w, "data: a\n\n")
					w.(http.Flusher).Flush()
					panic(http.ErrAbortHandler)
				})
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+"/v1/files/f", http.NoBody)
				req.Header.Set("X-Api-Key", s.token)
				resp, err := s.client.Do(req)
				var body []byte
				if err == nil {
					body, err = io.ReadAll(resp.Body)
					_ = resp.Body.Close()
				}
				if err == nil {
					t.Errorf("the client took %q for a complete answer", body)
				}
				if told := strings.Contains(string(body), "upstream_error"); told != (kind == eventStream) {
					t.Errorf("got %q", body)
				}
				if rec := <-s.records; rec.Outcome != gateway.OutcomeUpstreamError {
					t.Errorf("record %+v", rec)
				}
			})
		}
	}
}

// Each event reaches the client before the provider sends the next one.
func TestEventsArriveOneByOne(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		next := make(chan struct{})
		s := newSite(t, http2, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			w.(http.Flusher).Flush()
			for i := range 20 {
				select {
				case <-next:
				case <-r.Context().Done():
					return
				}
				_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
				w.(http.Flusher).Flush()
			}
		})
		body := bufio.NewReader(s.get(t, "/v1/files/f").Body)
		for i := range 20 {
			next <- struct{}{}
			line, err := body.ReadString('\n')
			if want := fmt.Sprintf("data: %d\n", i); err != nil || line != want {
				t.Fatalf("got %q, %v; want %q", line, err, want)
			}
			_, _ = body.ReadString('\n')
		}
		if rest, err := io.ReadAll(body); err != nil || len(rest) > 0 {
			t.Errorf("ends with %q, %v", rest, err)
		}
		if rec := <-s.records; rec.Outcome != gateway.OutcomeOK || !rec.Stream {
			t.Errorf("record %+v", rec)
		}
	}
}

// Without a token the body is not even asked for.
func TestNoContinueWithoutAToken(t *testing.T) {
	s := newSite(t, false, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})
	for token, want := range map[string]string{"sk-wt-nonsense": "HTTP/1.1 401 Unauthorized\r\n", s.token: "HTTP/1.1 100 Continue\r\n"} {
		conn, err := net.Dial("tcp", s.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nX-Api-Key: %s\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n", chatPath, token)
		if line, _ := bufio.NewReader(conn).ReadString('\n'); line != want {
			t.Errorf("%q, want %q", line, want)
		}
		_ = conn.Close()
		<-s.records
	}
}

// A space in a query, which HTTP/2 lets through, must not end the target of the
// request line that the provider reads.
func TestQueriesStayInsideTheirRequestLine(t *testing.T) {
	seen := make(chan string, 1)
	s := newSite(t, true, func(_ http.ResponseWriter, r *http.Request) { seen <- r.RequestURI })
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL, http.NoBody)
	req.URL = &url.URL{Scheme: "https", Host: req.URL.Host, Path: "/v1/models", RawQuery: "a=b HTTP/1.0&c= d"}
	req.Header.Set("X-Api-Key", s.token)
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if uri := <-seen; resp.ProtoMajor != 2 || uri != "/v1/models?a=b%20HTTP/1.0&c=%20d" {
		t.Errorf("%s: the provider read %q", resp.Proto, uri)
	}
}

// Redirects are the client's to follow.
func TestRedirectsAreNotFollowed(t *testing.T) {
	s := newSite(t, false, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/v1/files/other", http.StatusTemporaryRedirect)
	})
	s.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if resp := s.get(t, "/v1/files/f"); resp.StatusCode != 307 || resp.Header.Get("Location") != "/v1/files/other" {
		t.Errorf("%d, Location %q", resp.StatusCode, resp.Header.Get("Location"))
	}
}

// A client that stalls while its provider goes away: what the transport still
// does with the body must not be seen half (run with -race).
func TestProviderLeavesDuringAnUpload(t *testing.T) {
	began := make(chan struct{})
	s := newSite(t, false, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = r.Body.Read(make([]byte, 1))
		close(began)
		panic(http.ErrAbortHandler)
	})
	pr, pw := io.Pipe()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, s.server.URL+uploadPath, pr)
	req.Header.Set("X-Api-Key", s.token)
	go func() {
		_, _ = pw.Write([]byte("first"))
		<-began
		_ = pw.CloseWithError(errors.New("the client leaves too"))
	}()
	if resp, err := s.client.Do(req); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	if rec := <-s.records; rec.Outcome == gateway.OutcomeOK || rec.Outcome == gateway.OutcomeRefused {
		t.Errorf("record %+v", rec)
	}
}

// A client that leaves ends the provider's work, over HTTP/2 too.
func TestLeavingEndsTheProvidersWork(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		ended := make(chan struct{})
		s := newSite(t, http2, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			close(ended)
		})
		resp := s.get(t, "/v1/files/f")
		_ = resp.Body.Close()
		<-ended
		if rec := <-s.records; rec.Outcome != gateway.OutcomeClientCancelled || rec.Status != 200 {
			t.Errorf("record %+v", rec)
		}
	}
}

// The provider answers over TLS with HTTP/2: bodies, streams and header names
// are the same.
func TestProviderSpeaksHTTP2(t *testing.T) {
	origin := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Proto", r.Proto)
		w.Header().Set("Trailer", "X-End")
		_, _ = io.Copy(w, r.Body)
		w.Header().Set("X-End", "yes")
	}))
	origin.EnableHTTP2 = true
	origin.StartTLS()
	defer origin.Close()
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: origin.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}}
	defer transport.CloseIdleConnections()
	r := newRig(t, setup{provider: func(c *provider.Config) { c.BaseURL = origin.URL + "/v1" }, upstream: transport})
	const body = `{"model":"m"}`
	a := r.do(r.chat(body))
	r.wantOK(a, body)
	if a.Header().Get("X-Proto") != "HTTP/2.0" || a.Result().Trailer.Get("X-End") != "yes" {
		t.Errorf("header %v, trailer %v", a.Header(), a.Result().Trailer)
	}
}
