package upstream_test

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/upstream"
)

func newTransport(t *testing.T, s upstream.Settings) *http.Transport {
	t.Helper()
	if s.DialTimeout == 0 {
		s.DialTimeout = 10 * time.Second
	}
	if s.MaxIdleConnsPerHost == 0 {
		s.MaxIdleConnsPerHost = 16
	}
	transport := upstream.NewTransport(s)
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

func send(t *testing.T, transport http.RoundTripper, url string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header["User-Agent"] = nil
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp, string(body)
}

func TestSettingsFor(t *testing.T) {
	p, err := provider.New(provider.Config{
		Name: "openai", BaseURL: "http://llm.internal:8000/proxy/v1", APIKey: secret.NewValue("sk-secret-key-0001"), DialTimeout: 3 * time.Second, MaxIdleConnsPerHost: 7,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := upstream.Settings{Host: "http://llm.internal:8000", DialTimeout: 3 * time.Second, MaxIdleConnsPerHost: 7}
	if got := upstream.SettingsFor(p); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if key := want.Key(); strings.Contains(key, "sk-secret") || !strings.Contains(key, "llm.internal:8000") {
		t.Errorf("key %q", key)
	}
}

// Settings share a pool if they are equal, and only then: a provider's key must
// never travel on another host's connections.
func TestKeysTellSettingsApart(t *testing.T) {
	base := upstream.Settings{Host: "https://a", DialTimeout: time.Second, MaxIdleConnsPerHost: 1}
	seen := map[string]upstream.Settings{base.Key(): base}
	for _, s := range []upstream.Settings{
		{Host: "http://a", DialTimeout: time.Second, MaxIdleConnsPerHost: 1},
		{Host: "https://a:8443", DialTimeout: time.Second, MaxIdleConnsPerHost: 1},
		{Host: "https://b", DialTimeout: time.Second, MaxIdleConnsPerHost: 1},
		{Host: "https://a", DialTimeout: 11 * time.Second, MaxIdleConnsPerHost: 1},
		{Host: "https://a", DialTimeout: time.Second, MaxIdleConnsPerHost: 11},
		{Host: "https://a", DialTimeout: time.Millisecond, MaxIdleConnsPerHost: 1},
		{},
	} {
		if other, ok := seen[s.Key()]; ok {
			t.Errorf("%+v and %+v share a pool", s, other)
		}
		seen[s.Key()] = s
	}
	if again := (upstream.Settings{Host: "https://a", DialTimeout: time.Second, MaxIdleConnsPerHost: 1}); again.Key() != base.Key() {
		t.Error("equal settings have different keys")
	}
}

// Bytes pass as the provider sent them: nothing is asked for, and undone, that
// the client did not ask for.
func TestNothingIsAddedOrDecoded(t *testing.T) {
	const packed = "\x1f\x8b\x08 not really"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"Accept-Encoding", "User-Agent"} {
			if v, ok := r.Header[name]; ok {
				t.Errorf("%s: %q was added", name, v)
			}
		}
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = io.WriteString(w, packed)
	}))
	defer server.Close()
	resp, body := send(t, newTransport(t, upstream.Settings{}), server.URL)
	if body != packed || resp.Header.Get("Content-Encoding") != "gzip" || resp.Uncompressed {
		t.Errorf("%q, %v", body, resp.Header)
	}
}

func TestRedirectsAreReturned(t *testing.T) {
	server := httptest.NewServer(http.RedirectHandler("/elsewhere", http.StatusFound))
	defer server.Close()
	if resp, _ := send(t, newTransport(t, upstream.Settings{}), server.URL); resp.StatusCode != http.StatusFound {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestConnectionsAreKept(t *testing.T) {
	var mu sync.Mutex
	opened := 0
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") }))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			mu.Lock()
			opened++
			mu.Unlock()
		}
	}
	server.Start()
	defer server.Close()
	transport := newTransport(t, upstream.Settings{})
	for range 5 {
		send(t, transport, server.URL)
	}
	mu.Lock()
	defer mu.Unlock()
	if opened != 1 {
		t.Errorf("%d connections for 5 requests in a row", opened)
	}
}

func TestHTTP2WhereOffered(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	transport := newTransport(t, upstream.Settings{})
	transport.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	transport.TLSClientConfig.NextProtos = nil
	if _, body := send(t, transport, server.URL); body != "HTTP/2.0" {
		t.Errorf("spoke %s", body)
	}
}

// A host that does not answer is given up on within the dial timeout, whether
// it keeps silent on TCP or on TLS.
func TestDialTimeout(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	transport := newTransport(t, upstream.Settings{DialTimeout: 50 * time.Millisecond})
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+silent.Addr().String(), http.NoBody)
	resp, err := transport.RoundTrip(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	var netErr net.Error
	if !errors.As(err, &netErr) || !netErr.Timeout() {
		t.Errorf("error %v, want a timeout", err)
	}
}

// No time limit of the transport's own ends an answer that is slow to begin.
func TestTransportSettings(t *testing.T) {
	transport := newTransport(t, upstream.Settings{MaxIdleConnsPerHost: 3})
	if transport.ResponseHeaderTimeout != 0 || transport.MaxConnsPerHost != 0 || transport.MaxIdleConnsPerHost != 3 || transport.IdleConnTimeout == 0 {
		t.Errorf("%+v", transport)
	}
	if transport.HTTP2 == nil || transport.HTTP2.SendPingTimeout == 0 || transport.HTTP2.PingTimeout == 0 {
		t.Error("dead HTTP/2 connections are not found")
	}
	if transport.TLSClientConfig != nil && transport.TLSClientConfig.InsecureSkipVerify {
		t.Error("certificates are not checked")
	}
}

// A certificate that nobody we trust has signed ends the request before its
// credential is sent.
func TestCertificatesAreChecked(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the request was sent") }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
	if resp, err := newTransport(t, upstream.Settings{}).RoundTrip(req); err == nil {
		_ = resp.Body.Close()
		t.Error("the certificate was accepted")
	}
}
