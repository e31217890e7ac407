package caddymodule

import (
	"context"
	"errors"
	"net"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
)

// LocalAPI serves on Caddy's admin endpoint, for whoever may use that: it asks for no
// management token, and tells and does nothing that would need one.
//
//	GET  /llm_proxy/health        as GET /ready of the management API
//	POST /llm_proxy/cache/purge   as POST /manage/cache/purge, also while the database is away
type LocalAPI struct{}

// CaddyModule returns the Caddy module information.
func (*LocalAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.llm_proxy", New: func() caddy.Module { return new(LocalAPI) }}
}

// Routes implements [caddy.AdminRouter].
func (*LocalAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: "/llm_proxy/health", Handler: caddy.AdminHandlerFunc(serveLocalHealth)},
		{Pattern: "/llm_proxy/cache/purge", Handler: caddy.AdminHandlerFunc(serveLocalPurge)},
	}
}

func serveLocalHealth(w http.ResponseWriter, r *http.Request) error {
	api, err := runningAPI()
	if err != nil {
		return err
	}
	ready := r.Clone(r.Context())
	ready.URL.Path, ready.URL.RawPath = "/ready", ""
	api.ServeHTTP(w, ready)
	return nil
}

func serveLocalPurge(w http.ResponseWriter, r *http.Request) error {
	api, err := runningAPI()
	if err != nil {
		return err
	}
	// The admin endpoint does not say who its clients are, as HTTP servers do.
	client, _, err := net.SplitHostPort(r.RemoteAddr)
	if err == nil {
		vars := map[string]any{caddyhttp.ClientIPVarKey: client}
		r = r.WithContext(context.WithValue(r.Context(), caddyhttp.VarsCtxKey, vars))
	}
	api.ServePurge(w, r, audit.ActorLocal)
	return nil
}

// runningAPI is the management API of the running configuration.
func runningAPI() (*adminapi.API, error) {
	mod, err := caddy.ActiveContext().AppIfConfigured("llm_proxy")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil, caddy.APIError{HTTPStatus: http.StatusNotFound, Err: err, Message: "the running configuration has no llm_proxy"}
	}
	if err != nil {
		return nil, caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err, Message: "llm_proxy does not run; the log says why"}
	}
	if app, ok := mod.(*App); ok {
		if api := app.api.Load(); api != nil {
			return api, nil
		}
	}
	return nil, caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Message: "llm_proxy is starting; try again soon", Err: errStarting}
}

var errStarting = errors.New("llm_proxy is starting")

// Interface guards
var (
	_ caddy.Module      = (*LocalAPI)(nil)
	_ caddy.AdminRouter = (*LocalAPI)(nil)
)
