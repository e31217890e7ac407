// Package gateway serves one LLM request, from bytes in to accounted bytes out:
// it recognises the client's token, holds the request against the policies that
// apply, swaps the token for the provider's credential, and passes the answer
// through, byte for byte and as it comes.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
	"github.com/sofatutor/caddy-llm-proxy/internal/price"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

// Defaults of the body limits.
const (
	DefaultMaxBody   = 32 << 20
	DefaultMaxUpload = 512 << 20
)

// SelfPath is where the holder of a token learns about it.
const SelfPath = "/v1/llm-proxy/token"

// Config is what a gateway needs.
type Config struct {
	Providers  *provider.Table
	Transports map[string]http.RoundTripper // by provider name; each keeps its own provider's connections
	Authority  *token.Authority
	Inflight   *Inflight

	// Ready reports why no request can be served yet, nil when they can. It may
	// wait for a moment, within ctx.
	Ready func(ctx context.Context) *apierr.Error
	// ClientIP is the client's address as the host's trusted-proxy rules see it.
	ClientIP func(*http.Request) netip.Addr
	// Tunnel serves an upgraded connection whose upstream side is [TunnelTransport];
	// nil refuses upgrades. It returns when the connection is over.
	Tunnel func(http.ResponseWriter, *http.Request) error

	// Denied is told of every request that policy refused although its token was
	// right: 403, and 401 of an expired or revoked token. The ids may be zero where
	// they are not known. nil: nobody is told. It must not block.
	Denied func(tokenID, projectID uuid.UUID, code string, client netip.Addr)

	// Events gets the event of every request that passed authentication; nil: nobody does.
	Events EventLog
	// Durable has the end of an answer wait until its event is safe.
	Durable bool
	// Capture says how much of bodies events hold, and Prepare makes them fit to be
	// kept, later; nil: they are.
	Capture Capture
	Prepare func(*event.Event)
	// Prices are what calls cost; nil: nobody knows.
	Prices *price.Table
	// Limits are what requests are held against besides policy.
	Limits Limits
	// Cache keeps answers; nil: nobody does.
	Cache *Cache
	// Observe is told of every request when it is over. It must not block.
	Observe func(*Record)

	MaxBody        int64    // JSON bodies, in bytes; 0: DefaultMaxBody
	MaxUpload      int64    // files and audio, in bytes; 0: DefaultMaxUpload
	ForwardHeaders []string // globs of more client headers for the provider, any case
	HideHeaders    bool     // no X-LLM-Proxy-* and Server-Timing on answers
	Logger         *slog.Logger
}

// Gateway serves requests. It is safe for concurrent use.
type Gateway struct {
	cfg          Config
	background   background
	forwardGlobs []string
	paramNames   map[string][]string // members with a rule besides model, by provider
	weighs       bool                // a limit of the gateway counts tokens
	bodies       *respcache.Memo     // of requests that the cache may know; nil without one
}

// New makes a gateway.
func New(cfg Config) (*Gateway, error) {
	if cfg.Providers == nil || cfg.Authority == nil || cfg.Inflight == nil {
		return nil, errors.New("gateway: providers, authority and inflight are required")
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = DefaultMaxBody
	}
	if cfg.MaxUpload == 0 {
		cfg.MaxUpload = DefaultMaxUpload
	}
	if cfg.Ready == nil {
		cfg.Ready = func(context.Context) *apierr.Error { return nil }
	}
	if cfg.ClientIP == nil {
		cfg.ClientIP = remoteIP
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{cfg: cfg, paramNames: make(map[string][]string)}
	for _, glob := range cfg.ForwardHeaders {
		g.forwardGlobs = append(g.forwardGlobs, strings.ToLower(glob))
	}
	for i := range cfg.Limits.Rules {
		rule := &cfg.Limits.Rules[i]
		if err := rule.Validate(); err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
		g.weighs = g.weighs || rule.Kind == limit.Tokens
	}
	if g.cfg.Limits.Limiter != nil && g.cfg.Limits.Estimator == nil {
		g.cfg.Limits.Estimator = new(limit.Estimator)
	}
	if cfg.Cache != nil {
		g.bodies = respcache.NewMemo(cfg.Cache.Ignore)
	}
	for _, p := range cfg.Providers.All() {
		if cfg.Transports[p.Name] == nil {
			return nil, errors.New("gateway: no transport for provider " + p.Name)
		}
		names := slices.Sorted(maps.Keys(p.Params))
		g.paramNames[p.Name] = slices.DeleteFunc(names, func(n string) bool { return n == memberModel })
	}
	return g, nil
}

// Match is what a request's path says about who serves it.
type Match struct {
	route provider.Route
	valid bool
	self  bool
}

// Match reports whether the request is ours by its path; if not, the next
// handler's.
func (g *Gateway) Match(r *http.Request) (Match, bool) {
	escaped := r.URL.EscapedPath()
	route, ours, valid := g.cfg.Providers.Match(escaped)
	if !ours {
		return Match{}, false
	}
	return Match{route: route, valid: valid, self: valid && escaped == SelfPath}, true
}

// remoteIP is the address of the connection's other end.
func remoteIP(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr()
}
