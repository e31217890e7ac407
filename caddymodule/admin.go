package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
)

// Admin serves the management API below /manage, and /health, /live and
// /ready. Other paths are the next handler's.
type Admin struct {
	app *App
	rt  *runtime
}

// CaddyModule returns the Caddy module information.
func (*Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.llm_proxy_admin", New: func() caddy.Module { return new(Admin) }}
}

// Provision finds the app.
func (h *Admin) Provision(ctx caddy.Context) error {
	mod, err := ctx.App("llm_proxy")
	if err != nil {
		return err
	}
	app, ok := mod.(*App)
	if !ok || app.runtime == nil {
		return fmt.Errorf("llm_proxy_admin: the app is not ready for its handlers")
	}
	h.app = app
	h.rt = app.runtime
	return nil
}

// ServeHTTP implements [caddyhttp.MiddlewareHandler].
func (h *Admin) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !adminapi.Handles(r.URL.Path) {
		return next.ServeHTTP(w, r)
	}
	if release, ok := h.rt.acquire(); ok {
		defer release()
		if api := h.api(r); api != nil {
			api.ServeHTTP(w, r)
			return nil
		}
	}
	writeStarting(w)
	return nil
}

// api waits a moment for the app: Caddy starts apps in random order.
func (h *Admin) api(r *http.Request) *adminapi.API {
	timer := time.NewTimer(startWait)
	defer timer.Stop()
	select {
	case <-h.app.started:
	case <-r.Context().Done():
	case <-timer.C:
	}
	return h.app.api.Load()
}

// writeStarting answers before there is an API to ask.
func writeStarting(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Retry-After", "2")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = w.Write([]byte(`{"error":"the proxy is starting; try again soon","code":"starting"}`)) // a client that left needs no answer
}

// newAPI makes the management API of this configuration.
func (a *App) newAPI() *adminapi.API {
	db := a.runtime.db
	return adminapi.New(adminapi.Config{
		Store:           db.store.Load(),
		ManagementToken: a.managementToken,
		Providers:       a.providerInfo,
		Ready: func() error {
			if !db.isOpen() {
				return errors.New("the database is not open yet")
			}
			return nil
		},
		Redis: a.runtime.redisAnswers(),
		ClientIP: func(r *http.Request) string {
			if addr := clientAddr(r); addr.IsValid() {
				return addr.String()
			}
			return ""
		},
		Events:   db.adminEvents(),
		Balances: db.balances,
		Cache:    adminCache{a.runtime},
		Refused:  db.audit.recorder,
		Logger:   a.logger,
		Version:  version(),
	})
}

// providerInfo lists the configured providers, then the presets.
func (a *App) providerInfo() []adminapi.ProviderInfo {
	var out []adminapi.ProviderInfo
	seen := make(map[string]bool)
	configured := a.configured()
	slices.SortFunc(configured, func(p, q *provider.Provider) int { return strings.Compare(p.Name, q.Name) })
	for _, p := range configured {
		seen[p.Name] = true
		out = append(out, adminapi.ProviderInfo{
			Name: p.Name, Type: p.Type, BaseURL: p.BaseURL(), AuthScheme: p.Auth.String(),
			Endpoints: p.Endpoints, Methods: p.Methods, HasSharedKey: !p.APIKey.IsZero(), Configured: true,
		})
	}
	for _, p := range provider.Presets() {
		if !seen[p.Type] {
			out = append(out, adminapi.ProviderInfo{
				Name: p.Type, Type: p.Type, BaseURL: p.BaseURL, AuthScheme: p.Auth.String(), Endpoints: p.Endpoints, Methods: p.Methods,
			})
		}
	}
	return out
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Admin)(nil)
	_ caddyhttp.MiddlewareHandler = (*Admin)(nil)
)
