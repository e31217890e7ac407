package caddymodule

import (
	"log/slog"

	"github.com/caddyserver/caddy/v2"

	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
)

// limiterPool counts rates and concurrency for all configurations that use the
// same Redis, or none: a reload forgets nothing.
type limiterPool struct {
	limit.Limiter
	estimator limit.Estimator
	shared    *limit.Redis // nil: this process counts for itself
	close     func()
}

// Destruct implements [caddy.Destructor].
func (p *limiterPool) Destruct() error {
	if p.shared != nil {
		counted.RemoveLimiter(p)
	}
	p.close()
	return nil
}

// Shared implements [metrics.Limiter].
func (p *limiterPool) Shared() bool { return p.shared.State().Shared }

// useLimiter takes the limiter for a configuration, after its Redis.
func (r *runtime) useLimiter(logger *slog.Logger) error {
	key := "limiter:"
	if r.redis != nil {
		key += r.redisKey
	}
	value, _, err := shared.LoadOrNew(key, func() (caddy.Destructor, error) {
		if r.redis == nil {
			memory := limit.NewMemory()
			return &limiterPool{Limiter: memory, close: memory.Close}, nil
		}
		redis := limit.NewRedis(r.redis, logger)
		p := &limiterPool{Limiter: redis, shared: redis, close: redis.Close}
		counted.AddLimiter(p)
		return p, nil
	})
	if err != nil {
		return err
	}
	r.limiter = value.(*limiterPool)
	r.keys = append(r.keys, key)
	return nil
}

func (p *limiterPool) start() {
	if p.shared != nil {
		p.shared.Start()
	}
}
