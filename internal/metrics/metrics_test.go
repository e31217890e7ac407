package metrics_test

import (
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sofatutor/caddy-llm-proxy/internal/metrics"
)

func ok(model string) *metrics.Request {
	return &metrics.Request{
		Provider: "openai", Model: model, Answered: true, Status: 200, Outcome: "ok", Attempts: 1,
		Duration: 2 * time.Second, Overhead: 60 * time.Microsecond, FirstByte: 300 * time.Millisecond,
		Input: 1000, Cached: 200, Output: 50, Reasoning: 20, CostNanoUSD: 1_500_000,
	}
}

func TestObserve(t *testing.T) {
	s := metrics.New()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(s)
	s.Observe(ok("gpt-4o"))
	s.Observe(ok("gpt-4o"))
	s.Observe(&metrics.Request{Provider: "openai", Status: 401, Outcome: "refused", Duration: time.Millisecond})
	err := testutil.GatherAndCompare(r, strings.NewReader(`
# HELP llm_proxy_cost_usd_total Cost of the requests whose model has a price.
# TYPE llm_proxy_cost_usd_total counter
llm_proxy_cost_usd_total{model="",provider="openai"} 0
llm_proxy_cost_usd_total{model="gpt-4o",provider="openai"} 0.003
# HELP llm_proxy_requests_total Requests that have ended.
# TYPE llm_proxy_requests_total counter
llm_proxy_requests_total{model="",outcome="refused",provider="openai",status="401"} 1
llm_proxy_requests_total{model="gpt-4o",outcome="ok",provider="openai",status="200"} 2
# HELP llm_proxy_tokens_total Tokens by type: input holds cached and cache_write, output holds reasoning.
# TYPE llm_proxy_tokens_total counter
llm_proxy_tokens_total{model="",provider="openai",type="cache_write"} 0
llm_proxy_tokens_total{model="",provider="openai",type="cached"} 0
llm_proxy_tokens_total{model="",provider="openai",type="input"} 0
llm_proxy_tokens_total{model="",provider="openai",type="output"} 0
llm_proxy_tokens_total{model="",provider="openai",type="reasoning"} 0
llm_proxy_tokens_total{model="gpt-4o",provider="openai",type="cache_write"} 0
llm_proxy_tokens_total{model="gpt-4o",provider="openai",type="cached"} 400
llm_proxy_tokens_total{model="gpt-4o",provider="openai",type="input"} 2000
llm_proxy_tokens_total{model="gpt-4o",provider="openai",type="output"} 100
llm_proxy_tokens_total{model="gpt-4o",provider="openai",type="reasoning"} 40
# HELP llm_proxy_upstream_attempts_total Requests sent to providers.
# TYPE llm_proxy_upstream_attempts_total counter
llm_proxy_upstream_attempts_total{outcome="ok",provider="openai"} 2
llm_proxy_upstream_attempts_total{outcome="refused",provider="openai"} 0
`), "llm_proxy_requests_total", "llm_proxy_tokens_total", "llm_proxy_cost_usd_total", "llm_proxy_upstream_attempts_total")
	if err != nil {
		t.Error(err)
	}
}

// TestNextConfiguration registers the set with the registry of another
// configuration, as a reload does: the counters go on.
func TestNextConfiguration(t *testing.T) {
	s := metrics.New()
	for n := range 2 {
		r := prometheus.NewPedanticRegistry()
		r.MustRegister(s)
		s.Observe(ok("gpt-4o"))
		want := fmt.Sprintf("# HELP llm_proxy_requests_total Requests that have ended.\n# TYPE llm_proxy_requests_total counter\n"+
			"llm_proxy_requests_total{model=\"gpt-4o\",outcome=\"ok\",provider=\"openai\",status=\"200\"} %d\n", n+1)
		if err := testutil.GatherAndCompare(r, strings.NewReader(want), "llm_proxy_requests_total"); err != nil {
			t.Error(err)
		}
	}
}

// TestModelsAreBounded has clients make models up.
func TestModelsAreBounded(t *testing.T) {
	s := metrics.New()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(s)
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for n := range 2 * metrics.MaxModels {
				s.Observe(ok(fmt.Sprint("model-", n)))
			}
		})
	}
	load.Wait()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "llm_proxy_requests_total" {
			continue
		}
		if n := len(f.Metric); n != metrics.MaxModels+1 {
			t.Errorf("%d series", n)
		}
		sum := 0.0
		for _, m := range f.Metric {
			sum += m.GetCounter().GetValue()
		}
		if sum != 4*2*metrics.MaxModels {
			t.Errorf("%v requests", sum)
		}
	}
}

// TestOnlyServedModels: what clients make up has no label of its own until a
// provider has served it, nor has what could not be a label.
func TestOnlyServedModels(t *testing.T) {
	s := metrics.New()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(s)
	madeUp := ok("claude-2-sk-wt-secret")
	madeUp.Answered, madeUp.Status, madeUp.Outcome = false, 404, "upstream_error"
	s.Observe(madeUp)
	s.Observe(ok("claude-2\xff"))
	late := ok("claude-2")
	late.Answered, late.Status, late.Outcome = false, 502, "upstream_error"
	s.Observe(late)
	s.Observe(ok("claude-2"))
	s.Observe(late)
	err := testutil.GatherAndCompare(r, strings.NewReader(`
# HELP llm_proxy_requests_total Requests that have ended.
# TYPE llm_proxy_requests_total counter
llm_proxy_requests_total{model="claude-2",outcome="ok",provider="openai",status="200"} 1
llm_proxy_requests_total{model="claude-2",outcome="upstream_error",provider="openai",status="502"} 1
llm_proxy_requests_total{model="other",outcome="ok",provider="openai",status="200"} 1
llm_proxy_requests_total{model="other",outcome="upstream_error",provider="openai",status="404"} 1
llm_proxy_requests_total{model="other",outcome="upstream_error",provider="openai",status="502"} 1
`), "llm_proxy_requests_total")
	if err != nil {
		t.Error(err)
	}
}

type source metrics.State

func (s *source) State() metrics.State { return metrics.State(*s) }

func TestSources(t *testing.T) {
	s := metrics.New()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(s)
	one := &source{Inflight: 2, Uncommitted: 4, Published: 10, Sinks: []metrics.SinkState{{Name: "log", Delivered: 8, Known: true, Pending: 2, Lag: time.Second}}}
	two := &source{Inflight: 1, Published: 5, Dropped: 1, AuditDropped: 3, Sinks: []metrics.SinkState{{Name: "log", Delivered: 1, Failed: 1, Known: true, Lag: 3 * time.Second}}}
	s.Add(one)
	s.Add(two)
	compare := func(want string) {
		t.Helper()
		err := testutil.GatherAndCompare(r, strings.NewReader(want), "llm_proxy_inflight_requests", "llm_proxy_events_published", "llm_proxy_events_dropped", "llm_proxy_events_uncommitted",
			"llm_proxy_events_delivered", "llm_proxy_events_failed", "llm_proxy_events_pending", "llm_proxy_event_lag_seconds", "llm_proxy_audit_dropped_total")
		if err != nil {
			t.Error(err)
		}
	}
	compare(`
# HELP llm_proxy_audit_dropped_total Audit records of refusals lost since the process began, because there were too many at once or the database was away.
# TYPE llm_proxy_audit_dropped_total counter
llm_proxy_audit_dropped_total 3
# HELP llm_proxy_event_lag_seconds Age of the oldest event that the sink has still to get.
# TYPE llm_proxy_event_lag_seconds gauge
llm_proxy_event_lag_seconds{sink="log"} 3
# HELP llm_proxy_events_delivered Events that the sink has accepted from this process.
# TYPE llm_proxy_events_delivered untyped
llm_proxy_events_delivered{sink="log"} 9
# HELP llm_proxy_events_dropped Events lost since the process began, because neither database nor spill file took them.
# TYPE llm_proxy_events_dropped untyped
llm_proxy_events_dropped 1
# HELP llm_proxy_events_failed Events given up on, which are dead letters now.
# TYPE llm_proxy_events_failed untyped
llm_proxy_events_failed{sink="log"} 1
# HELP llm_proxy_events_pending Events of the log that the sink has still to get.
# TYPE llm_proxy_events_pending gauge
llm_proxy_events_pending{sink="log"} 2
# HELP llm_proxy_events_published Events that the log has taken since the process began.
# TYPE llm_proxy_events_published untyped
llm_proxy_events_published 15
# HELP llm_proxy_events_uncommitted Events that wait for the database, in memory or on disk.
# TYPE llm_proxy_events_uncommitted gauge
llm_proxy_events_uncommitted 4
# HELP llm_proxy_inflight_requests Requests that are being served.
# TYPE llm_proxy_inflight_requests gauge
llm_proxy_inflight_requests 3
`)
	s.Remove(one)
	s.Remove(two)
	s.Remove(two) // counts nothing twice
	compare(`
# HELP llm_proxy_audit_dropped_total Audit records of refusals lost since the process began, because there were too many at once or the database was away.
# TYPE llm_proxy_audit_dropped_total counter
llm_proxy_audit_dropped_total 3
# HELP llm_proxy_events_dropped Events lost since the process began, because neither database nor spill file took them.
# TYPE llm_proxy_events_dropped untyped
llm_proxy_events_dropped 1
# HELP llm_proxy_events_published Events that the log has taken since the process began.
# TYPE llm_proxy_events_published untyped
llm_proxy_events_published 15
# HELP llm_proxy_events_uncommitted Events that wait for the database, in memory or on disk.
# TYPE llm_proxy_events_uncommitted gauge
llm_proxy_events_uncommitted 0
# HELP llm_proxy_inflight_requests Requests that are being served.
# TYPE llm_proxy_inflight_requests gauge
llm_proxy_inflight_requests 0
`)
}

// TestBacklogUnknown: a database that does not answer has no backlog to show, which is
// not one of zero.
func TestBacklogUnknown(t *testing.T) {
	s := metrics.New()
	s.Add(&source{Sinks: []metrics.SinkState{{Name: "log", Delivered: 8}}})
	for name, want := range map[string]int{
		"llm_proxy_events_delivered": 1, "llm_proxy_events_failed": 1, "llm_proxy_events_pending": 0, "llm_proxy_event_lag_seconds": 0,
	} {
		if n := testutil.CollectAndCount(s, name); n != want {
			t.Errorf("%s: %d series, want %d", name, n, want)
		}
	}
}

// TestFormats: OpenMetrics, which Prometheus asks for, and the older format agree on
// every name.
func TestFormats(t *testing.T) {
	s := metrics.New()
	s.Observe(ok("gpt-4o"))
	s.Add(&source{Sinks: []metrics.SinkState{{Name: "log", Known: true}}})
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(s)
	names := func(accept string) []string {
		req := httptest.NewRequest("GET", "/metrics", nil)
		req.Header.Set("Accept", accept)
		rec := httptest.NewRecorder()
		promhttp.HandlerFor(r, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP(rec, req)
		found := make(map[string]struct{})
		for line := range strings.Lines(rec.Body.String()) {
			if name, _, _ := strings.Cut(strings.TrimSpace(line), " "); name != "#" {
				name, _, _ = strings.Cut(name, "{")
				found[name] = struct{}{}
			}
		}
		return slices.Sorted(maps.Keys(found))
	}
	open, text := names("application/openmetrics-text; version=1.0.0"), names("text/plain")
	if !slices.Equal(open, text) || len(text) < 15 {
		t.Errorf("OpenMetrics has %v, the text format %v", open, text)
	}
}

func BenchmarkObserve(b *testing.B) {
	s := metrics.New()
	r := ok("gpt-4o")
	b.ReportAllocs()
	for b.Loop() {
		s.Observe(r)
	}
}

func TestObserveAllocates(t *testing.T) {
	s := metrics.New()
	r := ok("gpt-4o")
	if n := testing.AllocsPerRun(100, func() { s.Observe(r) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
