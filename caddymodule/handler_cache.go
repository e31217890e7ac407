package caddymodule

import (
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/sofatutor/caddy-llm-proxy/internal/fill"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/httpcache"
	"github.com/sofatutor/caddy-llm-proxy/internal/respcache"
)

// HandlerCache says which answers are kept, and who gets them.
type HandlerCache struct {
	// opt_in: GET as RFC 9111 has it, POST if the client asks. always: every POST.
	// off: nothing. Default: opt_in.
	Mode string `json:"mode,omitempty"`

	// How long the answer to a POST is kept under always, and the longest that a
	// client may ask for. Default: 5 minutes.
	TTL caddy.Duration `json:"ttl,omitempty"`

	// Who shares answers: the tokens of a project, nobody but the token itself, or
	// everybody (shared). Default: project.
	Scope string `json:"scope,omitempty"`

	// Members of JSON bodies that make no difference, such as user or
	// metadata.user_id.
	VaryParams []string `json:"vary_params,omitempty"`

	// How long an answer that is too old may stand in for a provider that fails.
	// Default: 1 hour.
	StaleIfError *caddy.Duration `json:"stale_if_error,omitempty"`

	// How long it may be given out while a new one is fetched. Default: 0.
	StaleWhileRevalidate caddy.Duration `json:"stale_while_revalidate,omitempty"`

	// How a stream that is kept is given out: at once (instant), or at the pace at
	// which it came (original). Default: instant.
	Replay string `json:"replay,omitempty"`

	// Globs of further response headers that are kept. Cookies, and what speaks of one
	// request or connection, never are.
	StoreHeaders []string `json:"store_headers,omitempty"`
}

const (
	defaultCacheTTL     = 5 * time.Minute
	defaultStaleIfError = time.Hour
)

var (
	cacheModes  = map[string]httpcache.Mode{"": httpcache.OptIn, "opt_in": httpcache.OptIn, "always": httpcache.Always, "off": httpcache.Off}
	cacheScopes = map[string]httpcache.Scope{"": httpcache.Project, "project": httpcache.Project, "token": httpcache.Token, "shared": httpcache.Shared}
)

// cache resolves the handler's cache; nil: it has none.
func (h *Handler) cache(app *App) (*gateway.Cache, error) {
	c := h.Cache
	if c == nil || c.Mode == "off" {
		return nil, c.check()
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	config, err := app.cacheConfig()
	if err != nil {
		return nil, err
	}
	if app.runtime.cache == nil { // handlers are provisioned one after the other
		if err := app.runtime.useCache(config, app.logger); err != nil {
			return nil, err
		}
	}
	pool, runtime := app.runtime.cache, app.runtime
	rules := httpcache.Rules{
		Mode: cacheModes[c.Mode], Scope: cacheScopes[c.Scope], TTL: defaultCacheTTL,
		StaleIfError: defaultStaleIfError, StaleWhileRevalidate: time.Duration(c.StaleWhileRevalidate),
	}
	if c.TTL != 0 {
		rules.TTL = time.Duration(c.TTL)
	}
	if c.StaleIfError != nil {
		rules.StaleIfError = time.Duration(*c.StaleIfError)
	}
	if rules.Fields, err = httpcache.ParseFields(c.StoreHeaders); err != nil {
		return nil, fmt.Errorf("llm_proxy > cache > store_headers: %w", err)
	}
	ignore, err := c.ignore()
	if err != nil {
		return nil, err
	}
	return &gateway.Cache{
		Store: pool, Fills: pool.fills, Rules: rules, Ignore: ignore, Paced: c.Replay == "original",
		Lease: func() fill.Lease { return &fillLease{runtime: runtime, pool: pool} },
	}, nil
}

func (c *HandlerCache) ignore() (*respcache.Ignore, error) {
	paths := make([]respcache.Path, len(c.VaryParams))
	for i, text := range c.VaryParams {
		var err error
		if paths[i], err = respcache.ParsePath(text); err != nil {
			return nil, fmt.Errorf("llm_proxy > cache > vary_params: %w", err)
		}
	}
	ignore, err := respcache.NewIgnore(paths...)
	if err != nil {
		return nil, fmt.Errorf("llm_proxy > cache > vary_params: %w", err)
	}
	return ignore, nil
}

// check reports what cannot be; nil is no cache.
func (c *HandlerCache) check() error {
	if c == nil {
		return nil
	}
	if _, ok := cacheModes[c.Mode]; !ok {
		return fmt.Errorf("llm_proxy > cache > mode: expected opt_in, always or off, not %q", c.Mode)
	}
	if _, ok := cacheScopes[c.Scope]; !ok {
		return fmt.Errorf("llm_proxy > cache > scope: expected project, token or shared, not %q", c.Scope)
	}
	switch c.Replay {
	case "", "instant", "original":
	default:
		return fmt.Errorf("llm_proxy > cache > replay: expected instant or original, not %q", c.Replay)
	}
	if c.TTL < 0 || c.StaleWhileRevalidate < 0 || c.StaleIfError != nil && *c.StaleIfError < 0 {
		return fmt.Errorf("llm_proxy > cache: durations must not be negative")
	}
	if _, err := httpcache.ParseFields(c.StoreHeaders); err != nil {
		return fmt.Errorf("llm_proxy > cache > store_headers: %w", err)
	}
	_, err := c.ignore()
	return err
}

// parseHandlerCache reads
//
//	cache {
//		mode opt_in|always|off
//		ttl <duration>
//		scope project|token|shared
//		vary_params <json paths...>
//		stale_if_error <duration>
//		stale_while_revalidate <duration>
//		replay instant|original
//		store_headers <globs...>
//	}
func parseHandlerCache(d *caddyfile.Dispenser) (*HandlerCache, error) {
	if err := noArg(d, "write a block, such as cache { mode opt_in }, each option on a line of its own; without cache nothing is kept"); err != nil {
		return nil, err
	}
	c := new(HandlerCache)
	seen := make(once)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		err := seen.add(d, option)
		if err != nil {
			return nil, err
		}
		switch option {
		case "mode":
			c.Mode, err = oneArg(d)
		case "ttl":
			c.TTL, err = parseDuration(d)
		case "scope":
			c.Scope, err = oneArg(d)
		case "vary_params":
			c.VaryParams, err = args(d, nil)
		case "stale_if_error":
			var limit caddy.Duration
			limit, err = parseDuration(d)
			c.StaleIfError = &limit
		case "stale_while_revalidate":
			c.StaleWhileRevalidate, err = parseDuration(d)
		case "replay":
			c.Replay, err = oneArg(d)
		case "store_headers":
			c.StoreHeaders, err = args(d, nil)
		default:
			err = unknownOption(d, "mode, ttl, scope, vary_params, stale_if_error, stale_while_revalidate, replay, store_headers")
		}
		if err != nil {
			return nil, err
		}
	}
	if err := c.check(); err != nil {
		return nil, d.Err(err.Error())
	}
	return c, nil
}
