package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/metrics"
	"github.com/sofatutor/caddy-llm-proxy/internal/price"
)

// scrapeTimeout is how long the database may take to say what is pending.
const scrapeTimeout = 2 * time.Second

// counted is the process's metrics. Every configuration has a registry of its
// own; the counters are the same, so that a reload does not set them back.
var counted = metrics.New()

func registerMetrics(ctx caddy.Context) error {
	var already prometheus.AlreadyRegisteredError
	if err := ctx.GetMetricsRegistry().Register(counted); err != nil && !errors.As(err, &already) {
		return fmt.Errorf("llm_proxy: registering metrics: %w", err)
	}
	return nil
}

// observer counts requests. Models have a label of their own if they have a
// price: clients can make up any number of others.
func observer(prices *price.Table) func(*gateway.Record) {
	return func(rec *gateway.Record) {
		counted.Observe(&metrics.Request{
			Provider: rec.Provider, Model: modelLabel(prices, rec), Answered: rec.Attempts > 0 && rec.Status > 0 && rec.Status < 300,
			Status: rec.Status, Outcome: rec.Outcome, Attempts: rec.Attempts,
			Duration: rec.Latency, Overhead: rec.Overhead, FirstByte: rec.FirstByte, Limit: rec.Limit, Cache: rec.Cache, OvershootNanoUSD: rec.Overshoot,
			Input: rec.InputTokens.N, Cached: rec.CachedTokens.N, CacheWrite: rec.CacheWriteTokens.N,
			Output: rec.OutputTokens.N, Reasoning: rec.ReasoningTokens.N, CostNanoUSD: rec.CostNanoUSD.N,
		})
	}
}

// modelLabel prefers the name asked for. A deployment of Azure's may have any,
// but the answer names a model.
func modelLabel(prices *price.Table, rec *gateway.Record) string {
	if rec.Model == "" {
		return ""
	}
	for _, model := range [...]string{rec.Model, rec.ResponseModel} {
		if model == "" {
			continue
		}
		if _, ok := prices.Lookup(rec.Provider, rec.ProviderType, model, rec.Time); ok {
			return model
		}
	}
	return metrics.Other
}

// State implements [metrics.Source].
func (d *database) State() metrics.State {
	events := d.eventStats()
	return metrics.State{
		Inflight:    d.inflight.Count(),
		Uncommitted: events.Pending + events.SpillEvents,
		Published:   events.Published, Dropped: events.Dropped,
		AuditDropped: d.audit.recorder.Dropped(),
		Sinks:        d.sinks.state(),
	}
}

// state asks the database what is pending, for as long as a scrape has patience.
func (s *sinks) state() []metrics.SinkState {
	engine := s.engine.Load()
	if engine == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.d.ctx, scrapeTimeout)
	defer cancel()
	all, err := engine.Snapshot(ctx)
	states := make([]metrics.SinkState, len(all))
	for i, status := range all {
		states[i] = metrics.SinkState{
			Name: status.Name, Delivered: status.Delivered, Failed: status.Discarded,
			Known: err == nil, Pending: status.Pending, Lag: status.Lag,
		}
	}
	return states
}
