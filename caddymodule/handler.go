package caddymodule

import (
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sofatutor/caddy-llm-proxy/internal/apierr"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
)

// Handler is the data path: it swaps a client's token for the project's
// provider key and passes request and answer through. /v1/* goes to its provider,
// /<name>/* to the configured provider of that name; other paths are the next
// handler's.
//
// It sets these placeholders:
//
// Placeholder | Description
// ------------|------------
// `{llm.project.id}` | the project of the token
// `{llm.token.id}` | the token's id, which is not secret
// `{llm.provider}` | the provider that served the request
// `{llm.model}` | the model that the request asked for
// `{llm.cache}` | hit, stale, miss, revalidated, coalesced or bypass; empty without a cache
// `{llm.tokens.input}` | the tokens of the prompt, cached ones included; empty if not known
// `{llm.tokens.output}` | the tokens of the answer, reasoning included; empty if not known
// `{llm.cost_usd}` | what the request cost; empty if not known
// `{llm.outcome}` | ok, refused, client_cancelled, upstream_error or cut
// `{http.auth.user.id}` | the token's id
type Handler struct {
	// The provider of /v1/*. Default: openai.
	Provider string `json:"provider,omitempty"`

	// The most that a JSON body may hold, in bytes; it is read once, after
	// authentication. Default: 32 MiB.
	MaxBody int64 `json:"max_body,omitempty"`

	// The most that an uploaded file or recording may hold, in bytes; it is streamed
	// through. Default: 512 MiB.
	MaxUpload int64 `json:"max_upload,omitempty"`

	// Globs of further client headers that may reach the provider. Credentials,
	// cookies, addresses and hop-by-hop headers never do.
	ForwardHeaders []string `json:"forward_headers,omitempty"`

	// Whether answers carry X-LLM-Proxy-* and Server-Timing. Default: true.
	ExposeHeaders *bool `json:"expose_headers,omitempty"`

	// How many requests may pass. A token's own rpm takes the place of the limit of
	// each token by the minute.
	RateLimits []RateLimit `json:"rate_limits,omitempty"`

	// How many tokens, input and output, requests may use. A token's own tpm takes
	// the place of the limit of each token by the minute.
	TokenLimits []RateLimit `json:"token_limits,omitempty"`

	// How many requests may be under way. A token's own concurrency takes the place
	// of the limit of each token.
	Concurrency []ConcurrencyLimit `json:"concurrency,omitempty"`

	// What happens while the configured Redis, which counts for all nodes, is away:
	// local lets this node's share of each limit pass, deny answers 503. Default: local.
	OnLimiterFailure string `json:"on_limiter_failure,omitempty"`

	// Which answers are kept and given again. Default: none.
	Cache *HandlerCache `json:"cache,omitempty"`

	gateway *gateway.Gateway
	runtime *runtime
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.llm_proxy", New: func() caddy.Module { return new(Handler) }}
}

// Provision resolves everything that a request needs.
func (h *Handler) Provision(ctx caddy.Context) error {
	mod, err := ctx.App("llm_proxy")
	if err != nil {
		return err
	}
	app, ok := mod.(*App)
	if !ok || app.runtime == nil {
		return fmt.Errorf("llm_proxy: the app is not ready for its handlers")
	}
	if err := h.check(); err != nil {
		return err
	}
	name := h.Provider
	if name == "" {
		name = "openai"
	}
	if _, err := app.provider(name); err != nil {
		return fmt.Errorf("llm_proxy > provider: %w", err)
	}
	configured := app.configured()
	table, err := provider.NewTable(configured, name)
	if err != nil {
		return fmt.Errorf("llm_proxy > provider: %w", err)
	}
	transports := make(map[string]http.RoundTripper, len(configured))
	for _, p := range configured {
		if transports[p.Name], err = app.runtime.transport(p); err != nil {
			return fmt.Errorf("llm_proxy > provider %s: %w", p.Name, err)
		}
	}
	limits, err := h.limits(app.runtime)
	if err != nil {
		return err
	}
	cache, err := h.cache(app)
	if err != nil {
		return err
	}
	tunnel, err := provisionTunnel(ctx)
	if err != nil {
		return fmt.Errorf("llm_proxy: provisioning upgrades: %w", err)
	}
	h.runtime = app.runtime
	h.gateway, err = gateway.New(gateway.Config{
		Providers: table, Transports: transports,
		Authority: app.runtime.db.authority, Inflight: app.runtime.db.inflight,
		Ready: app.runtime.db.gate, ClientIP: clientAddr, Tunnel: tunnel, Denied: app.runtime.db.audit.recorder.Denied,
		MaxBody: h.MaxBody, MaxUpload: h.MaxUpload, ForwardHeaders: h.ForwardHeaders,
		HideHeaders: h.ExposeHeaders != nil && !*h.ExposeHeaders,
		Events:      app.runtime.db, Durable: app.events.beforeResponse, Capture: app.events.capture(), Prepare: app.events.prepare(),
		Limits: limits, Cache: cache,
		Prices: app.prices, Observe: observer(app.prices),
		Logger: ctx.Slogger(),
	})
	return err
}

func (h *Handler) check() error {
	for _, v := range []struct {
		option string
		value  int64
	}{{"max_body", h.MaxBody}, {"max_upload", h.MaxUpload}} {
		if v.value < 0 {
			return fmt.Errorf("llm_proxy > %s: must not be negative", v.option)
		}
	}
	for _, glob := range h.ForwardHeaders {
		if glob == "" {
			return fmt.Errorf("llm_proxy > forward_headers: expected header names or globs such as X-Trace-*")
		}
	}
	return nil
}

// ServeHTTP implements [caddyhttp.MiddlewareHandler]. Errors are answered in the
// dialect of the path, not returned: Caddy would make an empty page of them.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	match, ours := h.gateway.Match(r)
	if !ours {
		return next.ServeHTTP(w, r)
	}
	rec := new(gateway.Record)
	observe(r, rec)
	r, end := traced(r, rec)
	defer end()
	release, ok := h.runtime.acquire()
	if !ok {
		// The last moment of an old configuration: a retry reaches the new one.
		rec.RequestID, rec.Outcome, rec.Code = gateway.NewRequestID(), gateway.OutcomeRefused, gateway.ErrStarting.Code
		apierr.Write(w, apierr.OpenAI, gateway.ErrStarting, rec.RequestID)
		return nil
	}
	defer release()
	h.gateway.Serve(w, r, match, rec)
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
