package caddymodule

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
	"github.com/sofatutor/caddy-llm-proxy/internal/price"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

// App is the `llm_proxy` app: what all sites of a configuration share. Every
// value takes placeholders, which are resolved when the configuration is loaded.
// Write secrets as {env.NAME} or {file./run/secrets/name}: a literal would appear
// in GET /config/ of Caddy's admin endpoint and in its autosave file.
//
// Without any configuration the app keeps its data in SQLite below Caddy's
// data directory.
type App struct {
	// The database. Default: SQLite in llm_proxy/llm-proxy.db below Caddy's data directory.
	Database *Database `json:"database,omitempty"`

	// The Redis that nodes share. Default: none; nodes tell each other what changed
	// by the database alone.
	Redis *Redis `json:"redis,omitempty"`

	// Keys that seal the secrets in the database: base64 of 32 random bytes each
	// (`caddy llm-proxy keygen`). The first one seals; further ones, older, still
	// open. Default with SQLite: one is made beside the database, in the file
	// encryption-key (mode 0600), when the database is created. Keep a copy: without
	// it provider keys are lost.
	EncryptionKeys []string `json:"encryption_keys,omitempty"`

	// The secret that opens the management API. Default: the environment variable
	// MANAGEMENT_TOKEN, else one that is made at the first start in the file
	// management-token (mode 0600) beside the database.
	ManagementToken string `json:"management_token,omitempty"`

	// The providers by name. A provider that a handler names and that is not
	// described here must be a preset.
	Providers map[string]*Provider `json:"providers,omitempty"`

	// Where the audit goes besides the database, and how long it is kept.
	Audit *Audit `json:"audit,omitempty"`

	// A JSON file with prices that override those of the embedded table, read when
	// the configuration is loaded; docs/metering.md describes it. Default: none.
	Prices string `json:"prices,omitempty"`

	// Where answers are kept.
	Cache *Cache `json:"cache,omitempty"`

	// How requests are recorded, and where the records go.
	Events *Events `json:"events,omitempty"`

	// Everything below is resolved by Provision; nothing of it can be encoded.
	logger          *slog.Logger
	managementToken secret.Value
	runtime         *runtime
	providers       map[string]*provider.Provider
	mu              sync.Mutex // guards providers while handlers are provisioned
	api             atomic.Pointer[adminapi.API]
	started         chan struct{} // closed when Start has run
	audit           auditConfig
	prices          *price.Table
	detachAudit     func() // nil before Start
	events          eventsConfig
	detachSinks     func() // nil before Start
	detachRedisLog  func() // nil before Start
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "llm_proxy", New: func() caddy.Module { return new(App) }}
}

// Provision checks and resolves the configuration. It has no effect outside
// the process: connecting and migrating is Start's.
func (a *App) Provision(ctx caddy.Context) error {
	a.logger = ctx.Slogger()
	a.started = make(chan struct{})
	a.providers = make(map[string]*provider.Provider)
	if err := registerMetrics(ctx); err != nil {
		return err
	}
	cfg, err := a.databaseConfig()
	if err != nil {
		return err
	}
	if a.audit, err = a.auditConfig(); err != nil {
		return err
	}
	if a.prices, err = a.priceTable(); err != nil {
		return err
	}
	if a.events, err = a.eventsConfig(ctx); err != nil {
		return err
	}
	if a.managementToken, err = a.resolveManagementToken(); err != nil {
		return err
	}
	if a.managementToken.IsZero() && cfg.driver != driverSQLite {
		return errors.New("llm_proxy > management_token: must be set with PostgreSQL, since all nodes need the same one; write {env.NAME} or {file./path}, or set MANAGEMENT_TOKEN")
	}
	for _, name := range slices.Sorted(maps.Keys(a.Providers)) {
		p, err := a.buildProvider(name)
		if err != nil {
			return fmt.Errorf("llm_proxy > provider %s > %w", name, err)
		}
		a.providers[name] = p
	}
	redis, err := a.redisSettings()
	if err != nil {
		return err
	}
	if a.runtime, err = newRuntime(cfg, a.logger); err != nil {
		return err
	}
	if redis != nil {
		if err := a.runtime.useRedis(redis, a.logger); err != nil {
			return err
		}
	}
	if _, err := a.cacheConfig(); err != nil {
		return err
	}
	return a.runtime.useLimiter(a.logger)
}

func (a *App) resolveManagementToken() (secret.Value, error) {
	if a.ManagementToken != "" {
		return a.resolveSecret("llm_proxy > management_token", a.ManagementToken)
	}
	return secret.NewValue(os.Getenv("MANAGEMENT_TOKEN")), nil // empty: Start reads or makes the file
}

// provider returns a configured provider, or the preset of that name.
func (a *App) provider(name string) (*provider.Provider, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.providers[name]; p != nil {
		return p, nil
	}
	if _, ok := provider.PresetFor(name); !ok {
		return nil, fmt.Errorf("%q is neither configured nor a preset; configure it in the llm_proxy global option, or use one of: %s", name, joinNames(a.providers))
	}
	p, err := provider.New(provider.Config{Name: name})
	if err != nil {
		return nil, err
	}
	a.providers[name] = p
	return p, nil
}

// configured returns all providers known so far.
func (a *App) configured() []*provider.Provider {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Values(a.providers))
}

// Start opens the database, and migrates it if need be. When it is out of
// reach at the first start of the process, Start goes on trying behind the scenes
// and requests are answered 503 until it succeeds; at a reload it is an error
// instead, so that the running configuration stays.
func (a *App) Start() error {
	defer close(a.started)
	a.runtime.startRedis()
	db := a.runtime.db
	if err := db.start(); err != nil {
		return fmt.Errorf("llm_proxy > database: %w", err)
	}
	if err := db.adopt(a.runtime); err != nil {
		return fmt.Errorf("llm_proxy > encryption_key: %w", err)
	}
	if a.managementToken.IsZero() {
		token, err := managementTokenFile(filepath.Dir(db.cfg.dsn))
		if err != nil {
			return fmt.Errorf("llm_proxy > management_token: %w", err)
		}
		a.managementToken = token
	}
	detach, err := db.audit.attach(a.audit)
	if err != nil {
		return err
	}
	a.detachAudit = detach
	if a.detachRedisLog, err = a.attachRedisLog(); err != nil {
		return err
	}
	if a.detachSinks, err = db.sinks.attach(a.events); err != nil {
		return err
	}
	db.eventRetention.Store(int64(a.events.retention))
	db.keepAudit()
	a.api.Store(a.newAPI())
	return nil
}

// Stop ends the deliveries to this configuration's sinks, which are cleaned up next.
// Other background work belongs to shared resources, which may serve the next
// configuration as well.
func (a *App) Stop() error {
	if a.detachSinks != nil {
		a.detachSinks()
	}
	if a.detachRedisLog != nil {
		a.detachRedisLog()
	}
	return nil
}

// Cleanup lets go of the shared resources. Requests that are still running
// keep them open until they are done.
func (a *App) Cleanup() error {
	if a.detachSinks != nil {
		a.detachSinks() // Stop is not called after a Start that failed
		a.detachSinks = nil
	}
	if a.detachRedisLog != nil {
		a.detachRedisLog()
		a.detachRedisLog = nil
	}
	if a.detachAudit != nil {
		a.detachAudit()
		a.detachAudit = nil
	}
	if a.runtime != nil {
		if p := a.runtime.cache; p != nil && exiting() { // nobody would wait for fills, whose clients may have left
			p.finish()
		}
		a.runtime.release()
		a.runtime = nil
	}
	return nil
}

// resolve replaces the placeholders of a value.
func resolve(text string) (string, error) {
	value, err := caddy.NewReplacer().ReplaceOrErr(text, true, true)
	if err != nil {
		return "", err
	}
	if value == "" {
		return "", errors.New("is empty")
	}
	return value, nil
}

// resolveSecret resolves a secret; errors name the option, never the value.
func (a *App) resolveSecret(option, text string) (secret.Value, error) {
	value, err := resolve(text)
	if err != nil {
		// Caddy's error names the placeholder; a literal is never part of it.
		return secret.Value{}, fmt.Errorf("%s: %w; expected a secret, best as a placeholder that resolves, such as {env.NAME} or {file./run/secrets/name}", option, err)
	}
	if value == text {
		a.logger.Warn("a secret is written into the configuration, where GET /config/ and the autosave file show it: use {env.NAME} or {file./path} instead of a literal or {$NAME}", "option", option)
	}
	return secret.NewValue(value), nil
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
