package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	probeTimeout = 5 * time.Second
	clockWarning = 5 * time.Second
)

// dialFunc connects to a provider and leaves again.
type dialFunc func(ctx context.Context, target *url.URL) (how string, err error)

func newProbes(trust Trust) (probes, error) {
	// Providers are judged with the roots that the proxy judges them with.
	config, err := trust.config("")
	if err != nil {
		return probes{}, err
	}
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: probeTimeout,
		DisableKeepAlives:   true,
	}
	client := &http.Client{
		Transport:     transport,
		Timeout:       probeTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return probes{client: client, dial: dialer(config), now: time.Now}, nil
}

// dialer connects as the proxy would: through the environment's HTTP proxy if
// there is one, which is then all that is tried, else with TCP and TLS.
func dialer(config *tls.Config) dialFunc {
	return func(ctx context.Context, target *url.URL) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, probeTimeout)
		defer cancel()
		how := "reachable"
		if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: target}); err != nil {
			return "", errors.New("the environment's proxy is not a valid address: see HTTPS_PROXY and HTTP_PROXY")
		} else if proxy != nil {
			how = "the environment's proxy " + proxy.Host + " is reachable; what is behind it was not tried"
			target = &url.URL{Scheme: "http", Host: proxy.Host} // speaking TLS to it is its clients' matter
		}
		port := target.Port()
		if port == "" {
			port = map[bool]string{true: "443", false: "80"}[target.Scheme == "https"]
		}
		address := net.JoinHostPort(target.Hostname(), port)
		dial := (&net.Dialer{}).DialContext
		if target.Scheme == "https" {
			dial = (&tls.Dialer{Config: config}).DialContext
		}
		conn, err := dial(ctx, "tcp", address)
		if err != nil {
			return "", err
		}
		return how, conn.Close()
	}
}

// checkProviders tries every provider's host, all at once, and compares the
// clock with the first that answers.
func checkProviders(ctx context.Context, providers []Endpoint, p probes) []Check {
	checks := make([]Check, len(providers), len(providers)+1)
	secure := make([]*url.URL, len(providers)) // those to ask for the time
	each(len(providers), func(i int) {
		checks[i], secure[i] = checkProvider(ctx, providers[i], p)
	})
	return append(checks, checkClock(ctx, secure, p))
}

func checkProvider(ctx context.Context, e Endpoint, p probes) (Check, *url.URL) {
	name := "provider:" + e.Name
	if e.Err != nil {
		return Check{Fail, name, e.Err.Error()}, nil
	}
	target, err := url.Parse(e.BaseURL)
	if err != nil || target.Host == "" {
		return Check{Fail, name, "its base_url is not a URL"}, nil
	}
	how, err := p.dial(ctx, target)
	switch {
	case err != nil && isLocal(target.Hostname()):
		// Started by the same person, perhaps later.
		return Check{Warn, name, fmt.Sprintf("%s does not answer: start it (%v)", target.Host, err)}, nil
	case err != nil:
		return Check{Fail, name, fmt.Sprintf("%s cannot be reached: %v; check base_url, name resolution and firewall", target.Host, err)}, nil
	case target.Scheme != "https":
		return Check{OK, name, target.Host + ": " + how + ", without TLS"}, nil
	}
	return Check{OK, name, target.Host + ": " + how}, target
}

// checkClock compares this machine's clock with a provider's: tokens that seem to
// come from the future are refused, and certificates are judged by the date.
func checkClock(ctx context.Context, targets []*url.URL, p probes) Check {
	const name = "clock"
	for _, target := range targets {
		if target == nil {
			continue
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodHead, "https://"+target.Host+"/", nil)
		if err != nil {
			continue
		}
		r.Header.Set("User-Agent", userAgent)
		before := p.now()
		res, err := p.client.Do(r)
		if err != nil {
			continue
		}
		res.Body.Close()
		theirs, err := http.ParseTime(res.Header.Get("Date"))
		if err != nil {
			continue
		}
		after := p.now()
		// Dates are cut to the second, and it is unknown when in between theirs was made.
		ahead := max(before.Sub(theirs.Add(time.Second)), 0)
		behind := max(theirs.Sub(after), 0)
		switch {
		case ahead > clockWarning:
			return Check{Warn, name, fmt.Sprintf("%s ahead of %s: synchronise this machine's clock", ahead.Round(time.Second), target.Host)}
		case behind > clockWarning:
			return Check{Warn, name, fmt.Sprintf("%s behind %s: synchronise this machine's clock", behind.Round(time.Second), target.Host)}
		}
		return Check{OK, name, "agrees with " + target.Host}
	}
	return Check{OK, name, "skipped: no provider answers over https"}
}
