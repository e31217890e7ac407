package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

const (
	// DefaultURL is where `make run` serves.
	DefaultURL = "https://localhost:8443"

	dialTimeout = 10 * time.Second
	// callTimeout bounds a whole call of the management API, answer included.
	callTimeout = 30 * time.Second
	userAgent   = "llm-proxy-cli"
)

// FindURL is the proxy's address: the one given, else the content of file, else
// [DefaultURL].
func FindURL(given, file string) (string, error) {
	if given != "" {
		return given, nil
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return DefaultURL, nil
	}
	if err != nil {
		return "", fmt.Errorf("reading the proxy's address: %w; give it with --url", err)
	}
	if text := strings.TrimSpace(string(data)); text != "" {
		return text, nil
	}
	return DefaultURL, nil
}

// Trust says whose certificates are accepted beside the system's.
type Trust struct {
	CACert string // a PEM file, for any host
	// LocalRoots are the places of a local CA's root, tried for hosts that are
	// this machine only.
	LocalRoots []string
}

func (t Trust) config(host string) (*tls.Config, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if isLocal(host) {
		for _, path := range t.LocalRoots {
			if data, err := os.ReadFile(path); err == nil {
				pool.AppendCertsFromPEM(data)
			}
		}
	}
	if t.CACert != "" {
		data, err := os.ReadFile(t.CACert)
		if err != nil {
			return nil, fmt.Errorf("--cacert: %w", err)
		}
		if !pool.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("--cacert: %s holds no PEM certificate", t.CACert)
		}
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}

// isLocal reports whether a host name or address can only be this machine.
func isLocal(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().IsLoopback()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// connection is a way to one proxy.
type connection struct {
	base  *url.URL
	http  *http.Client
	token secret.Value
}

func newConnection(address string, token secret.Value, trust Trust) (*connection, error) {
	base, err := url.Parse(address)
	switch {
	case err != nil, base.Host == "", base.Scheme != "http" && base.Scheme != "https":
		return nil, Usagef("--url: expected the proxy's address, such as %s", DefaultURL)
	case base.User != nil, base.RawQuery != "", base.Fragment != "":
		return nil, Usagef("--url: expected an address without user, query and fragment, such as %s", DefaultURL)
	}
	base.Path = strings.TrimRight(base.Path, "/")
	base.RawPath = ""
	config, err := trust.config(base.Hostname())
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: dialTimeout,
		ForceAttemptHTTP2:   true,
	}
	// A redirect could lead the token to another host.
	refuse := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &connection{base: base, token: token, http: &http.Client{Transport: transport, CheckRedirect: refuse}}, nil
}

// inClear reports whether the token would leave this machine unencrypted.
func (c *connection) inClear() bool { return c.base.Scheme == "http" && !isLocal(c.base.Hostname()) }

// send makes a request with the token. A body is sent as JSON.
func (c *connection) send(ctx context.Context, method, path string, query url.Values, body any) (*http.Response, error) {
	return c.sendFor(ctx, "", method, path, query, body)
}

// sendFor is send with the kind of answer that is wanted, if it is not "".
func (c *connection) sendFor(ctx context.Context, accept, method, path string, query url.Values, body any) (*http.Response, error) {
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encoding the request: %w", err)
		}
		reader = bytes.NewReader(data)
	}
	target := *c.base
	target.Path += path
	target.RawQuery = query.Encode()
	r, err := http.NewRequestWithContext(ctx, method, target.String(), reader)
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	r.Header.Set("Authorization", "Bearer "+c.token.Reveal())
	r.Header.Set("User-Agent", userAgent)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(r)
	if err != nil {
		return nil, c.explain(err)
	}
	if res.StatusCode/100 == 3 {
		res.Body.Close()
		to := "another address"
		if where, err := res.Location(); err == nil {
			to = where.Scheme + "://" + where.Host
		}
		return nil, fmt.Errorf("%s redirects to %s: give the right address with --url", c.base, to)
	}
	return res, nil
}

// explain says what to do about a request that got no answer.
func (c *connection) explain(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err // without the whole URL
	}
	var (
		untrusted x509.UnknownAuthorityError
		otherName x509.HostnameError
		timeout   net.Error
	)
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &untrusted):
		return fmt.Errorf("the certificate of %s is not trusted: give its root certificate with --cacert, such as data/caddy/pki/authorities/local/root.crt", c.base)
	case errors.As(err, &otherName):
		return fmt.Errorf("the certificate of %s is for other names: give the right address with --url", c.base)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("%s did not answer in time: see whether the proxy is up, or give another address with --url", c.base)
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fmt.Errorf("%s speaks http, not https: give its address with --url http://%s", c.base, c.base.Host)
	}
	return fmt.Errorf("cannot reach %s: %w; start the proxy, or give its address with --url or LLM_PROXY_URL", c.base, err)
}
