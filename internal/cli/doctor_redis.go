package cli

import (
	"context"
	"net/url"

	"github.com/sofatutor/caddy-llm-proxy/internal/redisconn"
)

// checkRedis asks Redis for a sign of life, and whether changes may be heard.
func checkRedis(ctx context.Context, p Patient) []Check {
	const name = "redis"
	if p.RedisErr != nil {
		return []Check{{Fail, name, p.RedisErr.Error()}}
	}
	if p.Redis == nil {
		return nil
	}
	address, err := redisconn.Diagnose(ctx, *p.Redis)
	if err != nil {
		return []Check{{Fail, name, err.Error()}}
	}
	return []Check{{OK, name, address + " answers"}}
}

// isLiteralWithPassword is isLiteral for URLs, which need not be secret.
func isLiteralWithPassword(value string) bool {
	u, err := url.Parse(value)
	if err != nil || !isLiteral(value) {
		return false
	}
	_, has := u.User.Password()
	return has || u.Query().Has("password")
}
