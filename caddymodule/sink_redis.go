package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/sofatutor/caddy-llm-proxy/caddymodule/guest"
	"github.com/sofatutor/caddy-llm-proxy/internal/redisconn"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/sink"
)

// RedisStreamSink is the sink `redis_stream`: events are added to a Redis stream in
// the form that consumers of sofatutor/llm-proxy read.
type RedisStreamSink struct {
	// Where Redis is, as in the option redis of the app. Default: that of the app.
	URL string `json:"url,omitempty"`

	// The key of the stream. Default: llm-proxy-events.
	Stream string `json:"stream,omitempty"`

	// About how many entries the stream keeps (MAXLEN ~): what nobody has read by
	// then is lost to readers. Default: all.
	MaxLen int64 `json:"max_len,omitempty"`

	logger *slog.Logger
	stream *sink.RedisStream
}

// CaddyModule returns the Caddy module information.
func (*RedisStreamSink) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "llm_proxy.sinks.redis_stream", New: func() caddy.Module { return new(RedisStreamSink) }}
}

// Provision checks the options. Nothing is connected.
func (s *RedisStreamSink) Provision(ctx caddy.Context) error {
	s.logger = ctx.Slogger()
	if s.URL == "" {
		return nil // useRedis follows
	}
	url, err := resolve(s.URL)
	if err != nil {
		return fmt.Errorf("url: %w", err)
	}
	if url == s.URL && holdsPassword(url) {
		(sinkSecrets{s.logger}).warn("url")
	}
	return s.connect(redisAt(url))
}

// useRedis gives the sink the app's Redis, if it has none of its own.
func (s *RedisStreamSink) useRedis(settings *redisconn.Settings) error {
	switch {
	case s.stream != nil:
		return nil
	case settings == nil:
		return errors.New("url: expected where Redis is, such as redis://127.0.0.1:6379/0, as the app has no redis option")
	}
	return s.connect(*settings)
}

func (s *RedisStreamSink) connect(settings redisconn.Settings) error {
	cfg := sink.RedisStreamConfig{Redis: settings, MaxLen: s.MaxLen, Logger: s.logger}
	var err error
	if s.Stream != "" {
		if cfg.Stream, err = resolve(s.Stream); err != nil {
			return fmt.Errorf("stream: %w", err)
		}
	}
	s.stream, err = sink.NewRedisStream(cfg)
	return err
}

// Deliver implements [guest.Sink].
func (s *RedisStreamSink) Deliver(ctx context.Context, events []guest.Event) error {
	return s.stream.Deliver(ctx, events)
}

// Cleanup closes connections.
func (s *RedisStreamSink) Cleanup() error {
	if s.stream == nil {
		return nil
	}
	return s.stream.Close()
}

// UnmarshalCaddyfile reads the block:
//
//	sink <name> {
//		type redis_stream
//		url <url>
//		stream <key>
//		max_len <number>
//	}
func (s *RedisStreamSink) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return sinkBlock(d, func(option string) (err error) {
		switch option {
		case "url":
			s.URL, err = parseRedisURL(d)
		case "stream":
			s.Stream, err = oneArg(d)
		case "max_len":
			var n int
			n, err = parseCount(d)
			s.MaxLen = int64(n)
		default:
			err = unknownSinkOption(d, "url, stream, max_len")
		}
		return err
	})
}

func parseRedisURL(d *caddyfile.Dispenser) (string, error) {
	text, err := oneArg(d)
	if err == nil && isLiteral(text) {
		if bad := redisAt(text).Check(); bad != nil {
			err = d.Errf("url: %v", bad)
		}
	}
	return text, err
}

func redisAt(url string) redisconn.Settings {
	return redisconn.Settings{URLs: []secret.Value{secret.NewValue(url)}}
}

// redisUser is a sink that can use the app's Redis.
type redisUser interface {
	useRedis(settings *redisconn.Settings) error // nil: the app has none
}

// Interface guards
var (
	_ guest.Sink            = (*RedisStreamSink)(nil)
	_ caddy.Provisioner     = (*RedisStreamSink)(nil)
	_ caddy.CleanerUpper    = (*RedisStreamSink)(nil)
	_ caddyfile.Unmarshaler = (*RedisStreamSink)(nil)
	_ redisUser             = (*RedisStreamSink)(nil)
)
