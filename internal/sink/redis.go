package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/redisconn"
)

// DefaultStream is the key of the stream.
const DefaultStream = "llm-proxy-events"

// RedisStreamConfig says which stream events are added to. Redis is required.
type RedisStreamConfig struct {
	Redis  redisconn.Settings
	Stream string // "": DefaultStream
	MaxLen int64  // of the stream, about; 0: no limit
	Logger *slog.Logger
}

// RedisStream adds events to a Redis stream, each as one entry with the field
// data, in the form of the dispatcher's EventPayload of sofatutor/llm-proxy. That has
// none for alerts, and its consumers take every entry for a request: alerts are left out.
type RedisStream struct {
	cfg  RedisStreamConfig
	conn *redisconn.Conn
}

// NewRedisStream makes a stream sink. It connects with the first batch.
func NewRedisStream(cfg RedisStreamConfig) (*RedisStream, error) {
	if cfg.Stream == "" {
		cfg.Stream = DefaultStream
	}
	if cfg.MaxLen < 0 {
		return nil, errors.New("max_len must not be negative")
	}
	conn, err := redisconn.New(cfg.Redis, cfg.Logger)
	if err != nil {
		return nil, err
	}
	return &RedisStream{cfg: cfg, conn: conn}, nil
}

// Deliver implements [delivery.Sink]. A batch is added as a whole, or not at all.
func (s *RedisStream) Deliver(ctx context.Context, events []delivery.Event) error {
	s.conn.Start()
	refused := make(map[int]error)
	_, err := s.conn.Client().TxPipelined(ctx, func(p redis.Pipeliner) error {
		for i := range events {
			if events[i].Alert != nil {
				continue
			}
			data, err := payload(&events[i])
			if err != nil {
				refused[i] = err
				continue
			}
			p.XAdd(ctx, &redis.XAddArgs{Stream: s.cfg.Stream, MaxLen: s.cfg.MaxLen, Approx: s.cfg.MaxLen > 0, Values: []any{"data", data}})
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("adding to the stream: %w", s.conn.Explain(err))
	}
	return delivery.Reject(refused)
}

// Close closes the connections.
func (s *RedisStream) Close() error { return s.conn.Close() }
