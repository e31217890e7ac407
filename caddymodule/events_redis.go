package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/eventredis"
	"github.com/sofatutor/caddy-llm-proxy/internal/redisconn"
)

// redisCheck bounds the look at Redis's settings at the start.
const redisCheck = 2 * time.Second

// attachRedisLog has events go through the configuration's Redis until it is
// detached, which empties the stream, for some seconds at most. A Redis that is away
// is no reason to wait; one that is set up so that events which count as safe could
// be lost is a reason to refuse.
func (a *App) attachRedisLog() (detach func(), err error) {
	if !a.events.throughRedis {
		return func() {}, nil
	}
	db := a.runtime.db
	if db.isOpen() {
		return a.openRedisLog()
	}
	// The stream's name is made of the database's pepper.
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		select {
		case <-ctx.Done():
			return
		case <-db.ready:
		}
		detach, err := a.openRedisLog()
		if err != nil {
			a.logger.Error("events do not go through Redis", "error", err)
			return
		}
		<-ctx.Done()
		detach()
	})
	return sync.OnceFunc(func() {
		stop()
		work.Wait()
	}), nil
}

// openRedisLog needs the database to be open.
func (a *App) openRedisLog() (detach func(), err error) {
	db, conn := a.runtime.db, a.runtime.redis
	store := db.store.Load()
	cfg := eventredis.Config{
		Client: conn.Client(), Explain: conn.Explain, Key: eventredis.Key(redisconn.ChannelPrefix, db.Pepper()),
		Database: store, Durable: a.events.beforeResponse, Moved: db.sinks.Wake, Logger: a.logger,
	}
	if db.cfg.driver != driverSQLite { // other nodes use it too
		cfg.Leases = store
	}
	stream, err := eventredis.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("llm_proxy > events > log redis: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), redisCheck)
	defer cancel()
	if err := stream.Check(ctx); errors.Is(err, eventredis.ErrVolatile) {
		return nil, fmt.Errorf("llm_proxy > events > log redis: %w", err)
	}
	return db.eventSwitch.Attach(stream), nil
}
