package redisconn

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Bounds of the client. Callers bring deadlines of their own, which go-redis
// keeps: these are for what goes on without a caller, such as dialling for the
// next one, and for calls without a deadline.
const (
	dialTimeout = time.Second
	ioTimeout   = time.Second
	poolTimeout = 100 * time.Millisecond
	poolSize    = 64
	idleConns   = 8

	clientName = "llm-proxy"
)

// bound sets what the URL leaves open, and what makes go-redis's defaults wait:
// with them a Redis that is away costs a request up to five seconds.
func (t *target) bound(s Settings) {
	switch {
	case t.single != nil:
		o := t.single
		bound(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout, &o.PoolSize, &o.MaxIdleConns)
		o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled = -1, 1, true
		o.PipelinePoolSize, o.DisableIdentity = -1, true
		o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
		o.ClientName, o.OnConnect = "", nameConn(o.ClientName)
	case t.cluster != nil:
		o := t.cluster
		bound(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout, &o.PoolSize, &o.MaxIdleConns)
		o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled = -1, 1, true
		o.PipelinePoolSize, o.DisableIdentity = -1, true
		o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
		o.ClientName, o.OnConnect = "", nameConn(o.ClientName)
	default:
		o := t.failover
		bound(&o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout, &o.PoolSize, &o.MaxIdleConns)
		o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled = -1, 1, true
		o.PipelinePoolSize, o.DisableIdentity = -1, true
		o.ClientName, o.OnConnect = "", nameConn(o.ClientName)
	}
}

func bound(dial, read, write, pool *time.Duration, size, idle *int) {
	setDefault(dial, dialTimeout)
	setDefault(read, ioTimeout)
	setDefault(write, ioTimeout)
	setDefault(pool, poolTimeout)
	setDefault(size, poolSize)
	setDefault(idle, min(*size, idleConns))
}

func setDefault[T int | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// nameConn gives connections a name that CLIENT LIST shows. go-redis's own way,
// like its announcement of itself, makes a connection fail where a proxy does not
// know the command or a user may not run it.
func nameConn(name string) func(context.Context, *redis.Conn) error {
	if name == "" {
		name = clientName
	}
	return func(ctx context.Context, cn *redis.Conn) error {
		err := cn.ClientSetName(ctx, name).Err()
		if refused := redis.Error(nil); errors.As(err, &refused) {
			return nil
		}
		return err
	}
}

func (t *target) client() redis.UniversalClient {
	switch {
	case t.cluster != nil:
		return redis.NewClusterClient(t.cluster)
	case t.failover != nil:
		return redis.NewFailoverClient(t.failover)
	}
	return redis.NewClient(t.single)
}
