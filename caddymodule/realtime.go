package caddymodule

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
)

// streamCloseDelay is how long upgraded connections outlive the configuration
// they began under; it equals the grace period of the example configuration.
const streamCloseDelay = 10 * time.Minute

// provisionTunnel makes the reverse_proxy that carries upgraded connections.
// Loaded as a module, it is cleaned up with the configuration.
func provisionTunnel(ctx caddy.Context) (func(http.ResponseWriter, *http.Request) error, error) {
	config, err := json.Marshal(map[string]any{
		// Never dialled: the transport knows where each request goes.
		"upstreams":          []map[string]string{{"dial": "llm-proxy.invalid:443"}},
		"stream_close_delay": streamCloseDelay,
	})
	if err != nil {
		return nil, err
	}
	mod, err := ctx.LoadModuleByID("http.handlers.reverse_proxy", config)
	if err != nil {
		return nil, err
	}
	proxy, ok := mod.(*reverseproxy.Handler)
	if !ok {
		return nil, errors.New("http.handlers.reverse_proxy is not Caddy's own")
	}
	proxy.Transport = gateway.TunnelTransport{}
	end := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	return func(w http.ResponseWriter, r *http.Request) error { return proxy.ServeHTTP(w, r, end) }, nil
}
