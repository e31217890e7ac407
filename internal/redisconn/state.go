package redisconn

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	// probeEvery is how often Redis is asked for a sign of life, and probeTimeout how
	// long it may take over one.
	probeEvery   = time.Second
	probeTimeout = 500 * time.Millisecond
	// maxSlow is how many answers in a row may be late before Redis counts as away:
	// one that is late now and then is none to report.
	maxSlow = 2
)

// State says whether Redis answers.
type State struct {
	Degraded bool      // Redis is away, or has not answered yet
	Since    time.Time // of being so
	Err      error     // why it is degraded; nil: not asked yet
}

// State is what the last sign of life says.
func (c *Conn) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// watch asks again and again until ctx ends.
func (c *Conn) watch(ctx context.Context) {
	slow := 0
	for {
		err := c.ping(ctx)
		if ctx.Err() != nil {
			return
		}
		if slow++; err == nil || !errors.Is(err, context.DeadlineExceeded) {
			slow = 0
		}
		if err == nil || slow == 0 || slow >= maxSlow || c.State().Degraded {
			c.change(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(probeEvery*9/10 + rand.N(probeEvery/5)):
		}
	}
}

func (c *Conn) ping(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	err := c.client.Ping(bounded).Err()
	if err != nil && bounded.Err() != nil {
		return bounded.Err()
	}
	return err
}

// change takes note of an answer and logs it if it changes the state.
func (c *Conn) change(err error) {
	now := time.Now()
	c.mu.Lock()
	old := c.state
	first := old.Degraded && old.Err == nil
	if old.Degraded == (err != nil) && !first {
		c.mu.Unlock()
		return
	}
	err = c.Explain(err)
	c.state = State{Degraded: err != nil, Since: now, Err: err}
	if first && err != nil {
		c.state.Since = old.Since
	}
	c.mu.Unlock()
	ctx := context.Background()
	switch {
	case err != nil:
		c.logger.LogAttrs(ctx, slog.LevelError, "Redis is away; requests are served without it", slog.Any("error", err))
	case first:
		c.logger.LogAttrs(ctx, slog.LevelInfo, "Redis answers", slog.String("address", c.String()))
	default:
		c.logger.LogAttrs(ctx, slog.LevelInfo, "Redis answers again", slog.String("address", c.String()), slog.Duration("away", now.Sub(old.Since)))
	}
}
