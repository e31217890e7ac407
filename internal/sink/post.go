package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

const (
	maxAnswer   = 64 << 10 // bytes of an answer that are read; the rest is left
	maxQuote    = 200      // bytes of an answer that errors quote
	dialTimeout = 10 * time.Second
	idleTimeout = 90 * time.Second
	userAgent   = "caddy-llm-proxy"
)

// poster sends bodies to one URL. Redirects are not followed: what is sent is meant
// for that address alone.
type poster struct {
	url     string
	header  http.Header // secrets among them
	secrets []string    // what no error may show
	client  *http.Client
}

// newPoster makes a poster for an absolute http or https URL, with headers of the
// operator's own.
func newPoster(rawURL secret.Value, headers map[string]secret.Value) (*poster, error) {
	if err := CheckURL(rawURL.Reveal()); err != nil {
		return nil, err
	}
	p := &poster{url: rawURL.Reveal(), header: http.Header{"User-Agent": {userAgent}}}
	for name, value := range headers {
		p.header.Set(name, value.Reveal())
		for word := range strings.FieldsSeq(value.Reveal()) { // without "Bearer"
			if len(word) > 8 {
				p.secrets = append(p.secrets, word)
			}
		}
	}
	p.client = &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: dialTimeout, IdleConnTimeout: idleTimeout,
			MaxIdleConnsPerHost: 2, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return p, nil
}

// at is a poster for another address of the same receiver. They share connections.
func (p *poster) at(url string) *poster {
	other := *p
	other.url = url
	return &other
}

// CheckURL reports whether a text is an absolute http or https URL. The error does
// not show it, as it may hold a secret.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return errors.New("is not a URL; expected one such as https://example.com/events")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Opaque != "":
		return errors.New("expected an absolute URL such as https://example.com/events")
	case u.Fragment != "":
		return errors.New("a URL to send to has no #fragment")
	}
	return nil
}

// close lets go of idle connections.
func (p *poster) close() { p.client.CloseIdleConnections() }

// post sends a body once. It returns what the receiver answered with a 2xx.
func (p *poster) post(ctx context.Context, body []byte, headers ...string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("making the request failed")
	}
	if user := req.URL.User; user != nil && p.header.Get("Authorization") == "" {
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
	}
	for name, values := range p.header {
		req.Header[name] = values
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	// An operator's Host header is the request's host.
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode/100 == 2 && err != nil {
		return nil, fmt.Errorf("reading the answer %d: %w", resp.StatusCode, withoutURL(err))
	}
	return answer, p.judge(resp, answer, time.Now())
}

// withoutURL removes the address from an error of net/http: it may hold a secret.
func withoutURL(err error) error {
	var in *url.Error
	if errors.As(err, &in) {
		return in.Err
	}
	return err
}

// statusError is an answer that is no success.
type statusError struct {
	code  int
	quote string
}

func (e *statusError) Error() string { return fmt.Sprintf("answered %d%s", e.code, e.quote) }

// judge says what an answer means for what was sent.
func (p *poster) judge(resp *http.Response, answer []byte, now time.Time) error {
	status := resp.StatusCode
	if status/100 == 2 {
		return nil
	}
	err := error(&statusError{status, p.quote(resp, answer)})
	switch {
	case status/100 == 3:
		return fmt.Errorf("%w; redirects are not followed: name the final address", err)
	case refusesEvents(status):
		return delivery.Permanent(err)
	}
	if after := retryAfter(resp.Header.Get("Retry-After"), now); after > 0 {
		err = delivery.RetryAfter(after, err)
	}
	return err
}

// refusesEvents reports whether a status is about what was sent, so that sending it
// again is of no use. Statuses about the address or the credential are not: they
// would turn every event into a dead letter until somebody corrects the
// configuration, which is what the time for retries is for.
func refusesEvents(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, // passing
		http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusProxyAuthRequired, http.StatusMisdirectedRequest: // not about the events
		return false
	}
	return status/100 == 4
}

// quote is the beginning of an answer in plain text or JSON, which often says what
// is wrong, unless it repeats a secret of ours.
func (p *poster) quote(resp *http.Response, answer []byte) string {
	kind := resp.Header.Get("Content-Type")
	if !strings.Contains(kind, "json") && !strings.HasPrefix(kind, "text/plain") {
		return ""
	}
	text := strings.TrimSpace(string(answer[:min(len(answer), maxQuote)]))
	shows := func(secret string) bool { return strings.Contains(string(answer), secret) }
	if text == "" || slices.ContainsFunc(p.secrets, shows) {
		return ""
	}
	return ": " + text
}

// retryAfter reads the Retry-After header: seconds, or a date. 0: none.
func retryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseInt(value, 10, 32); err == nil {
		return max(0, time.Duration(seconds)*time.Second)
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
