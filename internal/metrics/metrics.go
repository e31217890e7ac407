// Package metrics counts what the proxy does, for Prometheus. No label holds a
// token, a project or a user, and the values of every label are bounded.
package metrics

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

const namespace = "llm_proxy"

// Buckets of the histograms, in seconds.
var (
	// durationBuckets reach from a cached answer to a long reasoning stream.
	durationBuckets = []float64{.01, .02, .04, .08, .16, .32, .64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68, 655.36}
	// firstByteBuckets are those of OpenTelemetry's gen_ai.server.time_to_first_token.
	firstByteBuckets = []float64{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 30, 60}
	// overheadBuckets: what the proxy itself takes is far below a millisecond.
	overheadBuckets = []float64{.00001, .000025, .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1}
)

// Limits are what may refuse a request.
var Limits = []string{"requests", "tokens", "concurrency", "max_requests", "budget_usd", "unavailable"}

// CacheResults are what a cache may do with a request.
var CacheResults = []string{"hit", "stale", "miss", "revalidated", "coalesced", "bypass"}

// Set is all collectors. It is meant to be made once for a process: a set that
// is registered again under a new configuration goes on counting where it was. It
// implements [prometheus.Collector] and is safe for concurrent use.
type Set struct {
	requests  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	overhead  *prometheus.HistogramVec
	firstByte *prometheus.HistogramVec
	tokens    *prometheus.CounterVec
	cost      *prometheus.CounterVec
	attempts  *prometheus.CounterVec
	refusals  *prometheus.CounterVec
	overshoot prometheus.Counter
	cached    *prometheus.CounterVec

	inflight  *prometheus.Desc
	waiting   *prometheus.Desc
	published *prometheus.Desc
	dropped   *prometheus.Desc
	delivered *prometheus.Desc
	failed    *prometheus.Desc
	pending   *prometheus.Desc
	lag       *prometheus.Desc
	denials   *prometheus.Desc
	shared    *prometheus.Desc

	series series

	mu       sync.Mutex
	sources  map[Source]struct{}
	limiters map[Limiter]struct{}
	gone     State // the counts of sources that were removed
}

// New makes a set whose counters are zero.
func New() *Set {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	s := &Set{
		requests:  counter("requests_total", "Requests that have ended.", "provider", "model", "status", "outcome"),
		duration:  histogram("request_duration_seconds", "From the request's header to the last byte of the answer.", durationBuckets, "provider", "model"),
		overhead:  histogram("overhead_seconds", "What the proxy itself took until the answer's header was out.", overheadBuckets, "provider"),
		firstByte: histogram("time_to_first_byte_seconds", "From the request's header to the first byte of the answer's body.", firstByteBuckets, "provider", "model"),
		tokens:    counter("tokens_total", "Tokens by type: input holds cached and cache_write, output holds reasoning.", "provider", "model", "type"),
		cost:      counter("cost_usd_total", "Cost of the requests whose model has a price.", "provider", "model"),
		attempts:  counter("upstream_attempts_total", "Requests sent to providers.", "provider", "outcome"),
		refusals:  counter("limit_refusals_total", "Requests refused by a limit.", "limit"),
		cached:    counter("cache_requests_total", "Requests to handlers with a cache, by what it did.", "result"),
		overshoot: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "overshoot_usd_total", Help: "What providers charged beyond the upper bound that was held for a request.",
		}),

		inflight:  desc("inflight_requests", "Requests that are being served."),
		waiting:   desc("events_uncommitted", "Events that wait for the database, in memory or on disk."),
		published: desc("events_published", "Events that the log has taken since the process began."),
		dropped:   desc("events_dropped", "Events lost since the process began, because neither database nor spill file took them."),
		delivered: desc("events_delivered", "Events that the sink has accepted from this process.", "sink"),
		failed:    desc("events_failed", "Events given up on, which are dead letters now.", "sink"),
		pending:   desc("events_pending", "Events of the log that the sink has still to get.", "sink"),
		lag:       desc("event_lag_seconds", "Age of the oldest event that the sink has still to get.", "sink"),
		denials:   desc("audit_dropped_total", "Audit records of refusals lost since the process began, because there were too many at once or the database was away."),

		shared: desc("limits_shared", "Whether limits are counted as configured: 0 while the Redis that nodes share is away."),

		series:   series{known: make(map[labels]*children)},
		sources:  make(map[Source]struct{}),
		limiters: make(map[Limiter]struct{}),
	}
	for _, limit := range Limits {
		s.refusals.WithLabelValues(limit)
	}
	for _, result := range CacheResults {
		s.cached.WithLabelValues(result)
	}
	return s
}

func (s *Set) vectors() []prometheus.Collector {
	return []prometheus.Collector{s.requests, s.duration, s.overhead, s.firstByte, s.tokens, s.cost, s.attempts, s.refusals, s.overshoot, s.cached}
}

// Describe implements [prometheus.Collector].
func (s *Set) Describe(ch chan<- *prometheus.Desc) {
	for _, v := range s.vectors() {
		v.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{s.inflight, s.waiting, s.published, s.dropped, s.delivered, s.failed, s.pending, s.lag, s.denials, s.shared} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (s *Set) Collect(ch chan<- prometheus.Metric) {
	for _, v := range s.vectors() {
		v.Collect(ch)
	}
	s.collectSources(ch)
	s.collectLimiters(ch)
}
