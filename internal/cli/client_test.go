package cli

import (
	"context"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testnet"
)

func getProject(t *testing.T, address string, trust Trust) error {
	t.Helper()
	c, err := NewClient(address, secret.NewValue(testManagementToken), trust)
	if err != nil {
		return err
	}
	c.timeout = 20 * time.Second
	_, _, err = c.Do(t.Context(), http.MethodGet, "/manage/projects", nil, nil)
	return err
}

func TestUnauthorized(t *testing.T) {
	t.Parallel()
	i := newInstallation(t)
	i.m = i.manager("mt-CANARY-wrong")
	expectError(t, i.m.ListProjects(t.Context(), Filter{}), false, "the management token was refused", "MANAGEMENT_TOKEN")
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var reached atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL+"/x?y", http.StatusTemporaryRedirect))
	defer server.Close()
	expectError(t, getProject(t, server.URL, Trust{}), false, "redirects to "+other.URL, "--url")
	if reached.Load() {
		t.Error("the redirect was followed")
	}
}

func TestOtherServers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		body   string
		words  string
	}{
		"a page":           {200, "<html>", "not as the management API"},
		"not found":        {404, "nothing here\n", "answered 404, but not as the management API"},
		"nothing":          {502, "", "answered 502"},
		"https":            {400, "Client sent an HTTP request to an HTTPS server.\n", "speaks https, not http"},
		"control sequence": {409, `{"error":"a\u001b[31m\nb","code":"c\u0007d"}`, "a[31m b (cd"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			}))
			defer server.Close()
			expectError(t, getProject(t, server.URL, Trust{}), false, c.words)
		})
	}
}

func TestPagesThatLeadNowhere(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Link", `<https://elsewhere.example/manage/tokens?cursor=prev>; rel="prev", </manage/tokens?cursor=same>; rel="next"`)
		_, _ = w.Write([]byte(`[{}]`))
	}))
	defer server.Close()
	c, err := NewClient(server.URL, secret.NewValue("x"), Trust{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.list(t.Context(), "/manage/tokens", map[string][]string{}, 0)
	expectError(t, err, false, "from a page to itself")
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	address := "http://" + testnet.Refusing(t)
	expectError(t, getProject(t, address, Trust{}), false, "cannot reach "+address, "start the proxy", "--url")

	release := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer silent.Close()
	defer close(release)
	c, err := NewClient(silent.URL, secret.NewValue(testManagementToken), Trust{})
	if err != nil {
		t.Fatal(err)
	}
	c.timeout = 50 * time.Millisecond
	_, _, err = c.Do(context.Background(), http.MethodGet, "/manage/projects", nil, nil)
	expectError(t, err, false, "did not answer in time")

	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	expectError(t, getProject(t, strings.Replace(plain.URL, "http:", "https:", 1), Trust{}), false, "speaks http, not https")
}

// newTLSServer does not tell of handshakes that fail, as they shall.
func newTLSServer(handler http.Handler) *httptest.Server {
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	return server
}

func TestTrust(t *testing.T) {
	t.Parallel()
	server := newTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`[]`)) }))
	defer server.Close()
	root := filepath.Join(t.TempDir(), "root.crt")
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(root, data, 0o600); err != nil {
		t.Fatal(err)
	}
	expectError(t, getProject(t, server.URL, Trust{}), false, "is not trusted", "--cacert")
	expectError(t, getProject(t, server.URL, Trust{CACert: root + "x"}), false, "--cacert")
	expectError(t, getProject(t, server.URL, Trust{CACert: "client_test.go"}), false, "no PEM certificate")
	for _, trust := range []Trust{{CACert: root}, {LocalRoots: []string{root + "x", root}}} {
		if err := getProject(t, server.URL, trust); err != nil {
			t.Errorf("%+v: %v", trust, err)
		}
	}
	expectError(t, getProject(t, strings.Replace(server.URL, "127.0.0.1", "localhost", 1), Trust{CACert: root}), false, "is for other names")
	remote, err := Trust{LocalRoots: []string{root}}.config("llm.example.com")
	if err != nil {
		t.Fatal(err)
	}
	local, err := Trust{LocalRoots: []string{root}}.config("localhost")
	if err != nil {
		t.Fatal(err)
	}
	if remote.RootCAs.Equal(local.RootCAs) {
		t.Error("the local root is trusted for a remote host")
	}
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST.": true, "a.localhost": true, "127.9.9.9": true, "::1": true, "::ffff:127.0.0.1": true,
		"localhost.example.com": false, "10.0.0.1": false, "notlocalhost": false, "": false,
	} {
		if isLocal(host) != want {
			t.Errorf("isLocal(%q) is %v", host, !want)
		}
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "localhost:8443", "ftp://h", "https://user:CANARY@h", "https://h?x=CANARY", "https://h#x", "://", "https://"} {
		expectError(t, getProject(t, address, Trust{}), true, "--url")
	}
	file := filepath.Join(t.TempDir(), "url")
	for _, c := range []struct{ given, content, want string }{
		{"", "", DefaultURL}, {"", "https://llm.example.com\n", "https://llm.example.com"}, {"http://x", "https://y", "http://x"},
	} {
		if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := FindURL(c.given, file); got != c.want || err != nil {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
	if got, err := FindURL("", file+"x"); got != DefaultURL || err != nil {
		t.Errorf("without a file: %q, %v", got, err)
	}
	for address, want := range map[string]bool{"http://llm.example.com": true, "http://127.0.0.1": false, "https://llm.example.com": false} {
		c, err := NewClient(address, secret.Value{}, Trust{})
		if err != nil || c.InClear() != want {
			t.Errorf("%s: in clear %v, error %v", address, !want, err)
		}
	}
}
