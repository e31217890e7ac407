package caddymodule

import (
	"fmt"
	"log/slog"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/sofatutor/caddy-llm-proxy/internal/redisconn"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

// Redis says which Redis the nodes share. While it is away requests are served
// without it.
type Redis struct {
	// Where Redis is: redis://[user:password@]host[:port][/database], rediss://… with
	// TLS, or unix://…/path, with the parameters that go-redis knows. Write it as
	// {env.NAME} or {file./path} when it holds a password. With cluster or sentinel
	// further URLs name further addresses to begin with.
	URLs []string `json:"urls,omitempty"`

	// Whether it is a Redis Cluster. Default: false.
	Cluster bool `json:"cluster,omitempty"`

	// The name of the master, when the URLs are those of sentinels: their user and
	// password are for the sentinels, the parameters username and password for Redis.
	Sentinel string `json:"sentinel,omitempty"`
}

// redisSettings resolves the redis option; nil: there is none.
func (a *App) redisSettings() (*redisconn.Settings, error) {
	if a.Redis == nil {
		return nil, nil
	}
	s := &redisconn.Settings{Cluster: a.Redis.Cluster}
	for i, text := range a.Redis.URLs {
		value, err := resolve(text)
		if err != nil {
			return nil, fmt.Errorf("llm_proxy > redis > url %d: %w", i+1, err)
		}
		if value == text && holdsPassword(value) && a.logger != nil {
			a.logger.Warn("a password is written into the configuration, where GET /config/ and the autosave file show it: use {env.NAME} or {file./path} instead of a literal or {$NAME}", "option", "llm_proxy > redis")
		}
		s.URLs = append(s.URLs, secret.NewValue(value))
	}
	if a.Redis.Sentinel != "" {
		name, err := resolve(a.Redis.Sentinel)
		if err != nil {
			return nil, fmt.Errorf("llm_proxy > redis > sentinel: %w", err)
		}
		s.Sentinel = name
	}
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("llm_proxy > redis: %w", err)
	}
	return s, nil
}

// parseRedis reads `redis <url>`, or
//
//	redis {
//		url <urls...>
//		cluster
//		sentinel <master name>
//	}
func parseRedis(d *caddyfile.Dispenser) (*Redis, error) {
	r := new(Redis)
	if d.NextArg() {
		r.URLs = []string{d.Val()}
		if d.NextArg() {
			return nil, d.Err("redis takes one URL; several are for a block, with cluster or sentinel")
		}
	}
	seen := make(once)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		err := seen.add(d, option)
		if err != nil {
			return nil, err
		}
		switch {
		case option == "url" && len(r.URLs) > 0:
			err = d.Err("url is given twice: behind redis and in its block")
		case option == "url":
			r.URLs, err = args(d, nil)
		case option == "cluster":
			r.Cluster = true
			err = noArg(d, "cluster takes no value")
		case option == "sentinel":
			r.Sentinel, err = oneArg(d)
		default:
			err = unknownOption(d, "url, cluster, sentinel")
		}
		if err != nil {
			return nil, err
		}
	}
	return r, r.checkLiterals(d)
}

// checkLiterals checks what holds no placeholder.
func (r *Redis) checkLiterals(d *caddyfile.Dispenser) error {
	s := redisconn.Settings{Cluster: r.Cluster, Sentinel: r.Sentinel}
	for _, text := range r.URLs {
		if !isLiteral(text) {
			return nil
		}
		s.URLs = append(s.URLs, secret.NewValue(text))
	}
	if err := s.Check(); err != nil {
		return d.Errf("redis: %v", err)
	}
	return nil
}

// redisPool is a Redis that configurations share.
type redisPool struct {
	*redisconn.Conn
	logger *slog.Logger
}

// Destruct implements [caddy.Destructor].
func (p *redisPool) Destruct() error {
	err := p.Close()
	if err != nil {
		p.logger.Error("closing the connections to Redis", "error", err)
	}
	return err
}

// useRedis takes Redis, and the relay of changes through it, for a configuration.
func (r *runtime) useRedis(s *redisconn.Settings, logger *slog.Logger) error {
	key := "redis:" + s.Key()
	value, _, err := shared.LoadOrNew(key, func() (caddy.Destructor, error) {
		conn, err := redisconn.New(*s, logger)
		if err != nil {
			return nil, err
		}
		return &redisPool{conn, logger}, nil
	})
	if err != nil {
		return fmt.Errorf("llm_proxy > redis: %w", err)
	}
	r.redis, r.redisKey = value.(*redisPool), key
	r.keys = append(r.keys, key)
	db := r.db
	relayKey := "relay:" + key + ":" + r.cfg.key()
	value, _, err = shared.LoadOrNew(relayKey, func() (caddy.Destructor, error) {
		return newAnnouncer(db, r.redis, logger), nil
	})
	if err != nil {
		return err
	}
	r.announcer = value.(*announcer)
	r.keys = append(r.keys, relayKey)
	return nil
}

// startRedis begins to use Redis, if there is one, and waits for nothing.
func (r *runtime) startRedis() {
	if r.redis != nil {
		r.redis.Start()
		r.announcer.start()
	}
	r.limiter.start()
}

// redisAnswers is what /ready says of Redis; nil: none is configured.
func (r *runtime) redisAnswers() func() bool {
	if r.redis == nil {
		return nil
	}
	return func() bool { return !r.redis.State().Degraded }
}
