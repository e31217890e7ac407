package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// plentyOf are limits that are checked and never reached. A budget's holds are
// the upper bound of what a request may cost.
var (
	plentyOfRates = map[string]any{"rpm": 1_000_000_000, "tpm": 1_000_000_000_000, "concurrency": 1_000_000}
	plentyOfMoney = map[string]any{"max_requests": 1_000_000_000_000, "budget_usd": "1000000", "budget_period": "month"}
)

// withLimits is the proxy with limits of the project and of the token, and with
// further global options.
func withLimits(name string, limits map[string]any, options ...string) variant {
	v := governedPlain
	v.name, v.limits = "llm_proxy, "+name, limits
	v.global = func(l *lab, dir string) string {
		return governedApp(strings.Join(append([]string{sqliteIn(dir)}, options...), "\n\t\t"), "http://"+l.info.Plain)
	}
	return v
}

// takeLimits: what limits of each kind add to a governed request.
func takeLimits(ctx context.Context, l *lab) (found section, err error) {
	redis, err := l.redis("--appendonly", "yes")
	if err != nil {
		return section{}, err
	}
	targets, err := l.targets(ctx, whole, withLimits("no limits", nil), withLimits("rates, in memory", plentyOfRates),
		withLimits("rates, in Redis", plentyOfRates, "redis "+redis.url), withLimits("budget and quota", plentyOfMoney))
	if err != nil {
		return section{}, err
	}
	for _, t := range targets {
		if err := t.settle(ctx); err != nil {
			return section{}, err
		}
	}
	all, err := l.interleave(ctx, targets, l.opts.conns, l.opts.half(), false)
	if err != nil {
		return section{}, err
	}
	single, err := l.interleave(ctx, targets, 1, l.opts.latency(), true)
	if err != nil {
		return section{}, err
	}
	trips, given, err := l.roundTrips(ctx, redis, targets[2])
	if err != nil {
		return section{}, err
	}
	ratios, latencies := table{columns: ratioColumns}, table{columns: latencyColumns}
	for i := range targets[1:] {
		name := strings.TrimPrefix(all[i+1].target.name, "llm_proxy, ")
		ratios.compare(name+" ÷ no limits", all[i+1], all[0], 0)
		latencies.addDifference(name+" − no limits", single[i+1], single[0], tookOf)
	}
	for _, s := range single {
		latencies.addPercentiles(s, tookOf)
	}
	return section{
		title: "(f) Limits",
		text: fmt.Sprintf("A governed request whose token and project both have a limit of requests a minute, of tokens a minute, and of concurrency: six, of which none is ever reached; "+
			"or both have a strict budget and a strict quota, four accounts whose leases are warm. %d connections, windows of %s; then one connection, windows of %s. "+
			"Redis (appendonly yes) runs on the load core.", l.opts.conns, l.opts.half(), l.opts.latency()),
		tables: []table{ratios, latencies, throughputTable("request", all), trips},
		notes:  append(saturation(all), given...),
	}, nil
}

// roundTrips tells what Redis is asked for a request: alone, and among others,
// with whom it may share a round trip.
func (l *lab) roundTrips(ctx context.Context, redis *redisServer, t *target) (trips table, notes []string, err error) {
	requests := 4000
	if l.opts.quick {
		requests = 40
	}
	trips.columns = []string{"Redis, per request", "scripts", "reads of its sockets", "commands, those in scripts included", "CPU of commands, µs"}
	for _, conns := range []int{1, l.opts.conns} {
		each := max(1, requests/conns)
		before, err := redis.count(ctx)
		if err != nil {
			return trips, nil, err
		}
		if err := t.ask(ctx, conns, each); err != nil {
			return trips, nil, t.process.explain(err)
		}
		if err := pause(ctx, 100*time.Millisecond, nil); err != nil { // what is told behind the requests' back
			return trips, nil, err
		}
		after, err := redis.count(ctx)
		if err != nil {
			return trips, nil, err
		}
		n := float64(conns * each)
		scripts := (after.scripts - before.scripts) / n
		name := fmt.Sprintf("%d connections", conns)
		if conns == 1 {
			name = "1 connection"
		}
		trips.add(name, twoDigits(scripts), twoDigits((after.reads-before.reads)/n), twoDigits((after.commands-before.commands)/n), decimal((after.busy-before.busy)/n))
		if scripts < 0.99 {
			notes = append(notes, "With "+name+", Redis was not asked for every request: the proxy had given it up, or what is above is of its own counters.")
		}
	}
	return trips, notes, nil
}
