package caddymodule

import (
	"log/slog"
	"net/http"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"

	"github.com/sofatutor/caddy-llm-proxy/internal/heap"
	"github.com/sofatutor/caddy-llm-proxy/internal/lease"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
	"github.com/sofatutor/caddy-llm-proxy/internal/upstream"
)

// shared holds every resource that outlives a configuration, one entry for
// each, under a hash or name of that resource's own settings: a reload that leaves
// them alone keeps it.
var shared = caddy.NewUsagePool()

// runtime is what one configuration holds of the shared resources. Requests
// lease it: Caddy cleans a configuration up while its requests still run.
type runtime struct {
	cfg   databaseConfig
	db    *database
	lease *lease.Lease

	redis     *redisPool // nil: none is configured
	redisKey  string     // of its settings
	announcer *announcer // through redis
	limiter   *limiterPool
	cache     *cachePool // nil: no handler has one

	mu         sync.Mutex
	keys       []string // to give back, once each
	transports map[string]*transport
}

// transport is a connection pool that configurations share.
type transport struct{ *http.Transport }

// Destruct implements [caddy.Destructor].
func (t *transport) Destruct() error {
	t.CloseIdleConnections()
	return nil
}

// memory is how the process collects garbage while there is a configuration.
type memory struct{ *heap.Pacer }

// Destruct implements [caddy.Destructor].
func (m memory) Destruct() error {
	m.Stop()
	return nil
}

func newRuntime(cfg databaseConfig, logger *slog.Logger) (*runtime, error) {
	r := &runtime{cfg: cfg, transports: make(map[string]*transport), keys: []string{"memory"}}
	if _, _, err := shared.LoadOrNew("memory", func() (caddy.Destructor, error) { return memory{heap.Pace()}, nil }); err != nil {
		return nil, err
	}
	key := cfg.key()
	value, _, err := shared.LoadOrNew(key, func() (caddy.Destructor, error) { return newDatabase(cfg, logger), nil })
	if err != nil {
		r.close()
		return nil, err
	}
	r.db = value.(*database)
	r.keys = append(r.keys, key)
	r.lease = lease.New(r.close)
	return r, nil
}

// transport returns the pool of connections to a provider's host.
func (r *runtime) transport(p *provider.Provider) (http.RoundTripper, error) {
	settings := upstream.SettingsFor(p)
	key := "upstream:" + settings.Key()
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.transports[key]; t != nil {
		return t, nil
	}
	value, _, err := shared.LoadOrNew(key, func() (caddy.Destructor, error) {
		return &transport{upstream.NewTransport(settings)}, nil
	})
	if err != nil {
		return nil, err
	}
	t := value.(*transport)
	r.transports[key] = t
	r.keys = append(r.keys, key)
	return t, nil
}

// acquire holds the shared resources for one request. A configuration that is
// gone may still get requests, on connections that it had accepted: they are served
// as long as its successor uses the same database.
func (r *runtime) acquire() (release func(), ok bool) {
	for _, l := range []*lease.Lease{r.lease, r.db.lease} {
		if l.Acquire() {
			return l.Release, true
		}
	}
	return nil, false
}

// release lets go on the configuration's behalf.
func (r *runtime) release() {
	r.db.abandon(r)
	r.lease.Doom()
}

// close gives every resource back, when the last request is done: first what
// uses others.
func (r *runtime) close() {
	for _, key := range slices.Backward(r.keys) {
		_, _ = shared.Delete(key) // what Destruct reports, it has logged
	}
}
