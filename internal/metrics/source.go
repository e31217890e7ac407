package metrics

import (
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Source is asked for its state whenever the metrics are read: a database's
// event log with the requests that it is for. Several are added up.
type Source interface {
	State() State
}

// State is what a [Source] says of itself.
type State struct {
	Inflight     int64
	Uncommitted  int64 // events that the database has still to take
	Published    int64 // events that the log has taken
	Dropped      int64 // events lost
	AuditDropped int64
	Sinks        []SinkState
}

// SinkState is how far a sink is behind.
type SinkState struct {
	Name      string
	Delivered int64
	Failed    int64 // dead letters

	Known   bool // what follows is known
	Pending int64
	Lag     time.Duration // age of the oldest pending event
}

// Add has a source asked from now on.
func (s *Set) Add(source Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sources[source] = struct{}{}
}

// Remove is the opposite of [Set.Add]. What the source has counted stays counted.
func (s *Set) Remove(source Source) {
	last := source.State()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.sources[source]; !ok {
		return
	}
	delete(s.sources, source)
	s.gone.Published += last.Published
	s.gone.Dropped += last.Dropped
	s.gone.AuditDropped += last.AuditDropped
}

// Limiter counts limits that nodes share.
type Limiter interface {
	// Shared reports whether they are shared at the moment.
	Shared() bool
}

// AddLimiter has a limiter asked from now on.
func (s *Set) AddLimiter(l Limiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limiters[l] = struct{}{}
}

// RemoveLimiter is the opposite of [Set.AddLimiter].
func (s *Set) RemoveLimiter(l Limiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.limiters, l)
}

// collectLimiters tells whether every limiter is shared that should be.
func (s *Set) collectLimiters(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	limiters := slices.Collect(maps.Keys(s.limiters))
	s.mu.Unlock()
	up := 1.0
	for _, l := range limiters {
		if !l.Shared() {
			up = 0
		}
	}
	ch <- prometheus.MustNewConstMetric(s.shared, prometheus.GaugeValue, up)
}

func (s *Set) collectSources(ch chan<- prometheus.Metric) {
	s.mu.Lock()
	sources := slices.Collect(maps.Keys(s.sources))
	sum := s.gone
	s.mu.Unlock()

	sinks := make(map[string]SinkState) // a sink of two databases is still one series
	for _, source := range sources {
		state := source.State()
		sum.Inflight += state.Inflight
		sum.Uncommitted += state.Uncommitted
		sum.Published += state.Published
		sum.Dropped += state.Dropped
		sum.AuditDropped += state.AuditDropped
		for _, sink := range state.Sinks {
			sinks[sink.Name] = sinks[sink.Name].plus(sink)
		}
	}
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	// As counters, the names that do not end in _total would get that ending from
	// OpenMetrics, and only from it: untyped ones have one name in every format.
	send(s.inflight, prometheus.GaugeValue, float64(sum.Inflight))
	send(s.waiting, prometheus.GaugeValue, float64(sum.Uncommitted))
	send(s.published, prometheus.UntypedValue, float64(sum.Published))
	send(s.dropped, prometheus.UntypedValue, float64(sum.Dropped))
	send(s.denials, prometheus.CounterValue, float64(sum.AuditDropped))
	for name, sink := range sinks {
		send(s.delivered, prometheus.UntypedValue, float64(sink.Delivered), name)
		send(s.failed, prometheus.UntypedValue, float64(sink.Failed), name)
		if sink.Known {
			send(s.pending, prometheus.GaugeValue, float64(sink.Pending), name)
			send(s.lag, prometheus.GaugeValue, sink.Lag.Seconds(), name)
		}
	}
}

// plus adds a sink of the same name.
func (s SinkState) plus(other SinkState) SinkState {
	return SinkState{
		Delivered: s.Delivered + other.Delivered,
		Failed:    s.Failed + other.Failed,
		Known:     s.Known || other.Known,
		Pending:   s.Pending + other.Pending,
		Lag:       max(s.Lag, other.Lag),
	}
}
