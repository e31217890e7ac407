// Package adminapi is the management API: projects, their provider keys and
// tokens, what they used, and the events of their requests under /manage, and the
// health endpoints. It is a plain [http.Handler];
// every change and its audit record commit in one transaction.
package adminapi

import (
	"crypto/sha256"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/audit"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// Config is what the API needs from its host. Store is required.
type Config struct {
	Store           *storage.DB
	ManagementToken secret.Value               // empty: every call under /manage is refused with 401
	Providers       func() []ProviderInfo      // configured providers and presets; keys are accepted for these only
	Ready           func() error               // nil when requests can be served; its error is logged, never answered
	Redis           func() bool                // whether Redis answers; nil: none is configured
	ClientIP        func(*http.Request) string // the client's address by the host's trusted-proxy rules; nil: the peer's
	Events          Events                     // the event log and its sinks; nil: there are none
	Balances        Balances                   // what is used of limits; nil: it is not shown
	Cache           Cache                      // the response cache; nil: there is none, and nothing in it to purge
	Refused         *audit.Recorder            // records refusals and failed logins; nil: nobody does
	Logger          *slog.Logger               // nil: discard
	Version         string                     // shown by /health
	Now             func() time.Time           // nil: time.Now
}

// ProviderInfo describes a provider that keys can be stored for, without secrets.
type ProviderInfo struct {
	Name         string   `json:"name"`
	Type         string   `json:"type"`
	BaseURL      string   `json:"base_url"`
	AuthScheme   string   `json:"auth_scheme"`
	Endpoints    []string `json:"endpoints"`
	Methods      []string `json:"methods"`
	HasSharedKey bool     `json:"has_shared_key"`
	Configured   bool     `json:"configured"` // false: a preset that the configuration does not name
}

// API serves the management API. It is safe for concurrent use.
type API struct {
	store     *storage.DB
	providers func() []ProviderInfo
	ready     func() error
	redis     func() bool // nil: none
	clientIP  func(*http.Request) string
	events    Events
	balances  Balances // nil: nobody tells
	cache     Cache
	refused   *audit.Recorder
	log       *slog.Logger
	version   string
	now       func() time.Time
	routes    []route

	authorises bool              // false: no management token, so nobody is let in
	tokenSum   [sha256.Size]byte // SHA-256 of the management token
	unready    atomic.Bool       // what /ready said last, so that only transitions are logged
}

// New makes the API. It does no I/O. Without a management token, or with one
// that looks like a client's, the API refuses every call under /manage.
func New(cfg Config) *API {
	a := &API{
		store:     cfg.Store,
		providers: cfg.Providers,
		ready:     cfg.Ready,
		redis:     cfg.Redis,
		clientIP:  cfg.ClientIP,
		events:    cfg.Events,
		balances:  cfg.Balances,
		cache:     cfg.Cache,
		refused:   cfg.Refused,
		log:       cfg.Logger,
		version:   cfg.Version,
		now:       cfg.Now,
	}
	if a.providers == nil {
		a.providers = func() []ProviderInfo { return nil }
	}
	if a.ready == nil {
		a.ready = func() error { return nil }
	}
	if a.clientIP == nil {
		a.clientIP = peerIP
	}
	if a.events == nil {
		a.events = noEvents{}
	}
	if a.cache == nil {
		a.cache = noCache{}
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.now == nil {
		a.now = time.Now
	}
	a.routes = a.table()
	a.tokenSum = sha256.Sum256([]byte(cfg.ManagementToken.Reveal()))
	a.authorises = !cfg.ManagementToken.IsZero() && !strings.HasPrefix(cfg.ManagementToken.Reveal(), token.Prefix)
	if !a.authorises {
		a.log.Error("management API refuses every call: management_token is empty or has the form of a client token")
	}
	return a
}

// Handles reports whether a request path belongs to the API: /manage and what is
// below it, /health, /live and /ready. A path that is not in canonical form
// belongs to nobody here, so that no spelling of a proxied path can reach the API.
func Handles(path string) bool {
	switch path {
	case "/health", "/live", "/ready", "/manage":
		return true
	}
	return strings.HasPrefix(path, "/manage/") && canonical(path)
}

func canonical(path string) bool {
	for i := range len(path) {
		if c := path[i]; c <= ' ' || c >= 0x7f || c == '%' || c == '\\' || c == ';' {
			return false
		}
	}
	rest := path + "/"
	return !strings.Contains(path, "//") && !strings.Contains(rest, "/./") && !strings.Contains(rest, "/../")
}

// ServeHTTP answers one call. Under /manage nothing happens before the
// management token has been checked: no routing, no body is read, no database.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.respond(&call{w: w, r: r, requestID: requestID(r), start: time.Now(), actor: audit.ManagementToken}, a.serve)
}

// respond sends a call's answer.
func (a *API) respond(c *call, serve func(*call) (answer, error)) {
	r, h := c.r, c.w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Request-Id", c.requestID)

	ans, err := serve(c)
	text, encodeErr := ans.encode()
	if err = firstOf(err, encodeErr); err != nil {
		ans = a.refusal(c, err)
		a.auditRefusal(c, asFailure(err).code)
		text, _ = ans.encode() // three strings
	}
	c.write(ans, text)
	a.log.LogAttrs(r.Context(), slog.LevelDebug, "management call",
		slog.String("request_id", c.requestID), slog.String("method", methodLabel(r.Method)),
		slog.String("route", c.pattern), slog.Int("status", ans.status), slog.Duration("duration", time.Since(c.start)))
}

func (a *API) serve(c *call) (answer, error) {
	path := c.r.URL.Path
	if path == "/manage" || strings.HasPrefix(path, "/manage/") {
		if !a.authorised(c.r) {
			a.log.LogAttrs(c.r.Context(), slog.LevelWarn, "management call without the management token",
				slog.String("request_id", c.requestID), slog.String("client_ip", a.clientIP(c.r)), slog.String("method", methodLabel(c.r.Method)))
			a.auditLogin(c)
			return answer{}, fail(codeUnauthorized, "send the management token in one header: Authorization: Bearer <management token>")
		}
	}
	rt, err := a.match(c)
	if err != nil {
		return answer{}, err
	}
	if rt.access == public {
		return rt.handle(c)
	}
	if c.query, err = parseQuery(c.r.URL.RawQuery, rt.query); err != nil {
		return answer{}, err
	}
	if rt.access == usesStore {
		if err := a.ready(); err != nil {
			return answer{}, unavailable(err)
		}
	}
	return rt.handle(c)
}

func peerIP(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		return host
	}
	return r.RemoteAddr
}

// methodLabel bounds what a stranger can make us log.
func methodLabel(method string) string {
	if len(method) > 16 {
		return method[:16] + "…"
	}
	return method
}
