package main

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"
)

// measurement is one question that can be asked alone.
type measurement struct {
	name    string
	planned func(o options) time.Duration
	take    func(ctx context.Context, l *lab) (section, error)
}

var measurements = []measurement{
	{"miss", func(o options) time.Duration { return o.plan(4, o.throughput()) }, takeMiss},
	{"hit", func(o options) time.Duration { return o.plan(3, o.half()) + o.plan(3, o.latency()) }, takeHit},
	{"refused", func(o options) time.Duration { return o.plan(5, o.half()) }, takeRefused},
	{"latency", func(o options) time.Duration { return o.plan(3, o.latency()) }, takeLatency},
	{"stream", func(o options) time.Duration { return o.plan(4, o.half()) + o.plan(3, o.latency()) }, takeStream},
	{"limits", func(o options) time.Duration { return o.plan(4, o.half()) + o.plan(4, o.latency()) }, takeLimits},
	{"lookup", options.planFilling, takeLookup},
	{"pages", func(options) time.Duration { return 10 * time.Second }, takePages},
	{"storm", func(o options) time.Duration { return o.plan(6, o.half()) }, takeStorm},
	{"sink", func(o options) time.Duration { return o.plan(4, o.half()) }, takeDeadSink},
	{"events", func(o options) time.Duration { return o.plan(2, 2*time.Second) }, takeEventLog},
	{"pieces", options.planPieces, takePieces},
}

func measurementNames() []string {
	return []string{"miss", "hit", "refused", "latency", "stream", "limits", "lookup", "pages", "storm", "sink", "events", "pieces"}
}

func (o options) throughput() time.Duration { return time.Duration(o.seconds * float64(time.Second)) }
func (o options) half() time.Duration       { return o.throughput() / 2 }
func (o options) latency() time.Duration    { return o.throughput() / 4 }

// warmUp is what precedes each window: connections are made, pools and caches
// are filled.
func warmUp(window time.Duration) time.Duration {
	return min(max(window/16, 50*time.Millisecond), time.Second)
}

func (o options) plan(variants int, window time.Duration) time.Duration {
	return time.Duration(o.rounds*variants) * (window + warmUp(window))
}

// planFilling is for making the databases with many tokens, besides asking for some.
func (o options) planFilling() time.Duration {
	return 20*time.Second + time.Duration(o.tokens)*40*time.Microsecond
}

// series is what one target gave, round by round.
type series struct {
	target  *target
	windows []window
}

// each picks one number of every window.
func (s *series) each(pick func(*window) float64) []float64 {
	values := make([]float64, len(s.windows))
	for i := range s.windows {
		values[i] = pick(&s.windows[i])
	}
	return values
}

// interleave measures the targets in turn, round after round, so that what
// changes on the machine meanwhile meets all of them.
func (l *lab) interleave(ctx context.Context, targets []*target, conns int, length time.Duration, sample bool) ([]*series, error) {
	all := make([]*series, len(targets))
	for i, t := range targets {
		all[i] = &series{target: t}
		// Once before the first round: the first requests of a process are unlike all others.
		if _, err := l.drive(ctx, t, conns, 0, 100*time.Millisecond, false); err != nil {
			return nil, t.process.explain(err)
		}
	}
	for range l.opts.rounds {
		for _, s := range all {
			w, err := l.drive(ctx, s.target, conns, warmUp(length), length, sample)
			if err != nil {
				return nil, s.target.process.explain(err)
			}
			s.windows = append(s.windows, w)
		}
	}
	return all, nil
}

// target makes a variant ready to be loaded with chat requests.
func (l *lab) target(ctx context.Context, v variant, k kind) (*target, error) {
	s, err := l.server(ctx, v)
	if err != nil {
		return nil, err
	}
	credential := s.token
	if credential == "" {
		credential = "sk-client"
	}
	t := &target{name: v.name, addr: s.addr, process: s.process, request: chatRequest(s.addr, credential, k), status: http.StatusOK, length: k.bodyLength()}
	if k == stream || k == paced {
		t.unit = len(frame)
	}
	return t, nil
}

func (l *lab) targets(ctx context.Context, k kind, variants ...variant) ([]*target, error) {
	var all []*target
	for _, v := range variants {
		t, err := l.target(ctx, v, k)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// direct is the provider without a proxy.
func (l *lab) direct(k kind) *target {
	return &target{name: "provider, no proxy", addr: l.info.Plain, process: l.upstream, request: chatRequest(l.info.Plain, providerKey, k), status: http.StatusOK, length: k.bodyLength()}
}

// throughputTable shows what each target did per unit.
func throughputTable(unit string, all []*series) table {
	t := table{columns: []string{
		"Variant", unit + "/s: min", "median", "max", "CPU of the proxy, µs/" + unit, "its core: by the proxy", "by others", "load core",
	}}
	for _, s := range all {
		rate := spreadOf(s.each((*window).rate))
		t.add(s.target.name, thousands(rate.min), thousands(rate.median), thousands(rate.max),
			measured(spreadOf(s.each((*window).cpu)).median, decimal),
			measured(spreadOf(s.each(func(w *window) float64 { return w.share(w.proxy) })).median, percent),
			others(s), measured(spreadOf(s.each(func(w *window) float64 { return w.share(w.load) })).median, percent))
	}
	return t
}

// others is what others took from the proxy's core; nothing is a share as well.
func others(s *series) string {
	if spreadOf(s.each((*window).cpu)).median == 0 {
		return measured(0, percent)
	}
	return percent(spreadOf(s.each(func(w *window) float64 { return w.share(w.others) })).median)
}

var ratioColumns = []string{"Ratio", "Throughput: min", "median", "max", "By CPU time: min", "median", "max", "Target"}

// compare adds a ratio, taken inside each round, to a table with ratioColumns.
func (t *table) compare(name string, ours, base *series, target float64) {
	rate := over(ours.each((*window).rate), base.each((*window).rate), ratio)
	// How many requests one gets for the CPU time of the other: the same direction.
	cpu := over(base.each((*window).cpu), ours.each((*window).cpu), ratio)
	verdict := ""
	if target > 0 {
		verdict = fmt.Sprintf("≥ %.2f: %s", target, map[bool]string{true: "met", false: "missed"}[rate.median >= target])
	}
	t.add(name, twoDigits(rate.min), bold(twoDigits(rate.median)), twoDigits(rate.max),
		measured(cpu.min, twoDigits), measured(cpu.median, twoDigits), measured(cpu.max, twoDigits), verdict)
}

// saturation warns of windows in which the load side was the limit.
func saturation(all []*series) []string {
	var names []string
	for _, s := range all {
		load := spreadOf(s.each(func(w *window) float64 { return w.share(w.load) })).median
		proxy := spreadOf(s.each(func(w *window) float64 { return w.share(w.proxy + w.others) })).median
		if load > 0.9 && proxy < 0.95 && !math.IsNaN(load) {
			names = append(names, s.target.name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return []string{"The load core was full and the proxy's was not, so that throughput is too low for: " + strings.Join(names, "; ") + ". CPU time is not concerned."}
}
