package caddymodule

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
)

// RateLimit lets so many requests, or tokens, through in any interval of the
// window's length.
type RateLimit struct {
	// For whom it is: each token, each project, each client's address (of IPv6 its
	// first 64 bits), or global: all of them together.
	Scope string `json:"scope"`

	// How many. 0 lets nothing through.
	Limit int64 `json:"limit"`

	// From 1 second to 366 days.
	Window caddy.Duration `json:"window"`
}

// ConcurrencyLimit lets so many requests be under way at a time.
type ConcurrencyLimit struct {
	// token, project, ip or global, as in [RateLimit].
	Scope string `json:"scope"`

	// How many. 0 lets nothing through.
	Limit int64 `json:"limit"`
}

var limitScopes = map[string]limit.Scope{"token": limit.Token, "project": limit.Project, "ip": limit.IP, "global": limit.Global}

// What may be when the shared counters are away.
const (
	failLocal = "local"
	failDeny  = "deny"
)

// limits resolves the handler's limits.
func (h *Handler) limits(r *runtime) (gateway.Limits, error) {
	all := gateway.Limits{Limiter: r.limiter.Limiter, Estimator: &r.limiter.estimator, Ledger: r.db}
	add := func(option, scope string, l limit.Limit) error {
		var ok bool
		if l.Scope, ok = limitScopes[scope]; !ok {
			return fmt.Errorf("llm_proxy > %s: %q is not a scope: expected token, project, ip or global", option, scope)
		}
		if err := l.Validate(); err != nil {
			return fmt.Errorf("llm_proxy > %s %s: %w", option, scope, err)
		}
		for _, other := range all.Rules {
			if other.Key == l.Key {
				return fmt.Errorf("llm_proxy > %s %s: there are two for the same window", option, scope)
			}
		}
		all.Rules = append(all.Rules, l)
		return nil
	}
	for _, r := range h.RateLimits {
		if err := add("rate_limit", r.Scope, limit.Limit{Key: limit.Key{Kind: limit.Requests, Window: time.Duration(r.Window)}, Amount: r.Limit}); err != nil {
			return all, err
		}
	}
	for _, r := range h.TokenLimits {
		if err := add("token_limit", r.Scope, limit.Limit{Key: limit.Key{Kind: limit.Tokens, Window: time.Duration(r.Window)}, Amount: r.Limit}); err != nil {
			return all, err
		}
	}
	for _, c := range h.Concurrency {
		if err := add("concurrency", c.Scope, limit.Limit{Key: limit.Key{Kind: limit.Concurrency}, Amount: c.Limit}); err != nil {
			return all, err
		}
	}
	switch h.OnLimiterFailure {
	case "", failLocal:
	case failDeny:
		all.OnFailure = limit.Deny
	default:
		return all, fmt.Errorf("llm_proxy > on_limiter_failure: expected local or deny, not %q", h.OnLimiterFailure)
	}
	return all, nil
}

// parseRate reads `<scope> <n>/<window>`.
func parseRate(d *caddyfile.Dispenser, list []RateLimit) ([]RateLimit, error) {
	option := d.Val()
	var scope, text string
	if !d.Args(&scope, &text) || d.NextArg() {
		return nil, d.Errf("%s needs a scope and a rate, such as %s token 600/1m", option, option)
	}
	if err := checkScope(d, scope); err != nil {
		return nil, err
	}
	number, window, ok := strings.Cut(text, "/")
	n, err := parseAmount(number)
	if !ok || err != nil {
		return nil, d.Errf("%q is not a rate: expected a number and a window, such as 600/1m", text)
	}
	if window != "" && (window[0] < '0' || window[0] > '9') {
		window = "1" + window // 600/m
	}
	length, err := caddy.ParseDuration(window)
	if err != nil {
		return nil, d.Errf("%q is not a window: expected a duration such as 1m", window)
	}
	l := limit.Limit{Key: limit.Key{Scope: limitScopes[scope], Kind: limit.Requests, Window: length}, Amount: n}
	if err := l.Validate(); err != nil {
		return nil, d.Errf("%s: %v", option, err)
	}
	return append(list, RateLimit{scope, n, caddy.Duration(length)}), nil
}

// parseConcurrency reads `<scope> <n>`.
func parseConcurrency(d *caddyfile.Dispenser, list []ConcurrencyLimit) ([]ConcurrencyLimit, error) {
	var scope, text string
	if !d.Args(&scope, &text) || d.NextArg() {
		return nil, d.Err("concurrency needs a scope and a number, such as concurrency token 8")
	}
	if err := checkScope(d, scope); err != nil {
		return nil, err
	}
	n, err := parseAmount(text)
	if err != nil {
		return nil, d.Errf("%q is not a number of requests", text)
	}
	return append(list, ConcurrencyLimit{scope, n}), nil
}

func checkScope(d *caddyfile.Dispenser, scope string) error {
	if _, ok := limitScopes[scope]; !ok {
		return d.Errf("%q is not a scope: expected token, project, ip or global", scope)
	}
	return nil
}

func parseAmount(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err == nil && (n < 0 || n > limit.MaxAmount) {
		err = strconv.ErrRange
	}
	return n, err
}
