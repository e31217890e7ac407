package caddymodule

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/gateway"
	"github.com/sofatutor/caddy-llm-proxy/internal/price"
)

// registry is the running configuration's.
func registry() *prometheus.Registry {
	ctx := caddy.ActiveContext()
	return ctx.GetMetricsRegistry()
}

// gather asks the running configuration's registry, which is a pedantic one: what is
// collected must be what was described, and consistent.
func gather(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	list, err := registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	families := make(map[string]*dto.MetricFamily)
	for _, f := range list {
		families[f.GetName()] = f
	}
	return families
}

// TestMetricsRegistry: every configuration has the same counters in a registry of its
// own, however often one is provisioned or validated.
func TestMetricsRegistry(t *testing.T) {
	cfg := site(sqliteApp(t.TempDir()), object{"handler": "llm_proxy"})
	load(t, cfg)
	observe := observer(activeApp(t).prices)
	series := func(outcome string) (n float64) {
		for _, m := range gather(t)["llm_proxy_requests_total"].GetMetric() {
			for _, l := range m.Label {
				if l.GetName() == "outcome" && l.GetValue() == outcome {
					n += m.Counter.GetValue()
				}
			}
		}
		return n
	}
	const outcome = "of TestMetricsRegistry"
	observe(&gateway.Record{Event: event.Event{Outcome: outcome}})
	if err := registerMetrics(caddy.ActiveContext()); err != nil {
		t.Errorf("registering again: %v", err)
	}
	first := registry()
	for range 2 {
		text, err := json.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var again caddy.Config
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatal(err)
		}
		if err := caddy.Validate(&again); err != nil {
			t.Errorf("validating: %v", err)
		}
		if err := reload(cfg); err != nil {
			t.Fatal(err)
		}
		observe(&gateway.Record{Event: event.Event{Outcome: outcome}})
	}
	if registry() == first {
		t.Error("the registry is still the first configuration's")
	}
	if n := series(outcome); n != 3 {
		t.Errorf("%v requests, want 3", n)
	}
	if n := len(gather(t)["llm_proxy_inflight_requests"].GetMetric()); n != 1 {
		t.Errorf("%d series of requests under way", n)
	}
}

func TestModelLabel(t *testing.T) {
	overrides, err := price.ParseOverrides(strings.NewReader(`{"azure": {"gpt-4o": {"input": "1", "output": "2"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	prices, err := price.New(overrides)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ provider, kind, model, answered, want string }{
		{"openai", "openai", "gpt-4o", "gpt-4o-2024-08-06", "gpt-4o"},
		{"openai", "openai", "made-up", "", "other"},
		{"openai", "openai", "made-up", "made-up-2", "other"},
		{"azure", "azure_openai", "our-deployment", "gpt-4o", "gpt-4o"},
		{"openai", "openai", "", "", ""},
		{"nobody", "vllm", "gpt-4o", "", "other"},
	} {
		rec := &gateway.Record{Event: event.Event{Provider: c.provider, Model: c.model, ResponseModel: c.answered, Time: time.Now()}, ProviderType: c.kind}
		if got := modelLabel(prices, rec); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

// TestObserverAllocates: counting is on every request's path.
func TestObserverAllocates(t *testing.T) {
	prices, err := price.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	observe := observer(prices)
	for name, rec := range map[string]*gateway.Record{
		"priced":  {Event: event.Event{Provider: "openai", Model: "gpt-4o", Status: 200, Attempts: 1, Outcome: "ok", Time: time.Now()}, ProviderType: "openai"},
		"unknown": {Event: event.Event{Provider: "openai", Model: "made-up", Status: 404, Attempts: 1, Outcome: "upstream_error", Time: time.Now()}, ProviderType: "openai"},
		"refused": {Event: event.Event{Provider: "openai", Status: 401, Outcome: "refused"}, ProviderType: "openai"},
	} {
		if n := testing.AllocsPerRun(100, func() { observe(rec) }); n > 0 && !raceEnabled {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
