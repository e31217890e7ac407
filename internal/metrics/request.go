package metrics

import (
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

// Other is the label of models that no provider has served yet, and of all further
// ones once there are [MaxModels].
const Other = "other"

// MaxModels bounds the model label.
const MaxModels = 500

// Request is what is counted of a request that has ended.
type Request struct {
	Provider  string // "" for paths without one
	Model     string // "" when none was named
	Answered  bool   // the provider took the request, and so knows the model
	Status    int
	Outcome   string
	Attempts  int
	Duration  time.Duration
	Overhead  time.Duration // 0: nothing was answered
	FirstByte time.Duration // 0: no body
	Limit     string        // that refused it; "": none did
	Cache     string        // what the cache did; "": there is none

	Input, Cached, CacheWrite, Output, Reasoning int64
	CostNanoUSD                                  int64
	OvershootNanoUSD                             int64 // of the cost, beyond what was held for it
}

// labels select the series of a request.
type labels struct {
	provider, model, outcome string
	status                   int
}

// children are the series of one combination of labels, so that counting a
// request builds no strings and hashes once.
type children struct {
	requests                                     prometheus.Counter
	duration, overhead, firstByte                prometheus.Observer
	input, cached, cacheWrite, output, reasoning prometheus.Counter
	cost, attempts                               prometheus.Counter
}

// series remembers children.
type series struct {
	mu     sync.RWMutex
	known  map[labels]*children
	models map[string]struct{}
}

// Observe counts a request.
func (s *Set) Observe(r *Request) {
	c := s.children(labels{r.Provider, r.Model, r.Outcome, r.Status}, r.Answered)
	c.requests.Inc()
	c.duration.Observe(r.Duration.Seconds())
	if r.Overhead > 0 {
		c.overhead.Observe(r.Overhead.Seconds())
	}
	if r.FirstByte > 0 {
		c.firstByte.Observe(r.FirstByte.Seconds())
	}
	if r.Limit != "" {
		s.refusals.WithLabelValues(r.Limit).Inc()
	}
	if r.Cache != "" {
		s.cached.WithLabelValues(r.Cache).Inc()
	}
	if r.OvershootNanoUSD > 0 {
		s.overshoot.Add(float64(r.OvershootNanoUSD) / 1e9)
	}
	add(c.attempts, int64(r.Attempts))
	add(c.input, r.Input)
	add(c.cached, r.Cached)
	add(c.cacheWrite, r.CacheWrite)
	add(c.output, r.Output)
	add(c.reasoning, r.Reasoning)
	if r.CostNanoUSD > 0 {
		c.cost.Add(float64(r.CostNanoUSD) / 1e9)
	}
}

func add(c prometheus.Counter, n int64) {
	if n > 0 {
		c.Add(float64(n))
	}
}

func (s *Set) children(l labels, answered bool) *children {
	s.series.mu.RLock()
	c := s.series.known[l]
	s.series.mu.RUnlock()
	if c != nil {
		return c
	}
	return s.makeChildren(l, answered)
}

func (s *Set) makeChildren(l labels, answered bool) *children {
	s.series.mu.Lock()
	defer s.series.mu.Unlock()
	if c := s.series.known[l]; c != nil {
		return c
	}
	model := s.series.model(l.model, answered)
	if model != l.model {
		// Not remembered under the name asked for, or the map would grow with them.
		other := labels{l.provider, model, l.outcome, l.status}
		if c := s.series.known[other]; c != nil {
			return c
		}
		l = other
	}
	c := &children{
		requests:   s.requests.WithLabelValues(l.provider, model, strconv.Itoa(l.status), l.outcome),
		duration:   s.duration.WithLabelValues(l.provider, model),
		overhead:   s.overhead.WithLabelValues(l.provider),
		firstByte:  s.firstByte.WithLabelValues(l.provider, model),
		input:      s.tokens.WithLabelValues(l.provider, model, "input"),
		cached:     s.tokens.WithLabelValues(l.provider, model, "cached"),
		cacheWrite: s.tokens.WithLabelValues(l.provider, model, "cache_write"),
		output:     s.tokens.WithLabelValues(l.provider, model, "output"),
		reasoning:  s.tokens.WithLabelValues(l.provider, model, "reasoning"),
		cost:       s.cost.WithLabelValues(l.provider, model),
		attempts:   s.attempts.WithLabelValues(l.provider, l.outcome),
	}
	s.series.known[l] = c
	return c
}

// model bounds the models that get a series of their own, to those that a provider
// has served: clients can make up names, and put into them what they like.
func (s *series) model(name string, answered bool) string {
	if name == "" || name == Other {
		return name
	}
	if _, ok := s.models[name]; ok {
		return name
	}
	if !answered || len(s.models) >= MaxModels || !utf8.ValidString(name) { // which a label must be
		return Other
	}
	if s.models == nil {
		s.models = make(map[string]struct{})
	}
	s.models[name] = struct{}{}
	return name
}
