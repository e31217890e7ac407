package main

import (
	"context"
	"fmt"
	"net/http"
)

const (
	// hitTarget is how many answers of the cache there must be for one of respond.
	hitTarget = 0.85
	// hitLatencyTarget is how much longer one may take.
	hitLatencyTarget = 3
	// hitMark is in every answer that comes from the cache.
	hitMark = "cache-status: llm-proxy; hit"
)

var (
	cachedAnswer = variant{name: "llm_proxy, cache hit", ready: "/ready", governed: true, global: governedPlain.global, site: func(*lab) string {
		return "\tllm_proxy_admin\n\tllm_proxy {\n\t\tcache {\n\t\t\tmode always\n\t\t\tttl 24h\n\t\t}\n\t}\n"
	}}
	respondBody = variant{name: "respond, body alone", site: func(*lab) string { return respond(http.StatusOK, answerBody, nil) }}
)

// takeHit: an answer from the cache, against a respond that has the same body in
// its configuration.
func takeHit(ctx context.Context, l *lab) (section, error) {
	targets, err := l.targets(ctx, whole, cachedAnswer, respondBody, respondAnswer)
	if err != nil {
		return section{}, err
	}
	hit := targets[0]
	hit.mark = hitMark
	targets[2].name = "respond, with the provider's header"
	if err := hit.settle(ctx); err != nil {
		return section{}, err
	}
	all, err := l.interleave(ctx, targets, l.opts.conns, l.opts.half(), false)
	if err != nil {
		return section{}, err
	}
	single, err := l.interleave(ctx, targets, 1, l.opts.latency(), true)
	if err != nil {
		return section{}, err
	}
	ratios, latencies := table{columns: ratioColumns}, table{columns: ratioOfLatencyColumns}
	for i, target := range []struct{ throughput, latency float64 }{1: {hitTarget, hitLatencyTarget}, 2: {}} {
		if i > 0 {
			name := "cache hit ÷ " + all[i].target.name
			ratios.compare(name, all[0], all[i], target.throughput)
			latencies.compareLatency(name, single[0], single[i], target.latency)
		}
	}
	return section{
		title: "(b) Cache hit ÷ respond",
		text: fmt.Sprintf("The same chat completion again and again, from the cache in memory: a request of 2 KB that is authenticated, judged and keyed by its body, an answer of %d bytes, and an event. Every answer was seen to say that it is a hit. "+
			"`respond` has the body in its configuration and neither reads the request nor writes an event; once with two header fields, and once with the %d more that the provider sends, which the cache does not keep. "+
			"%d connections, windows of %s; then one connection, windows of %s, of which the ratios of latency are.",
			len(answerBody), len(answerHeaders), l.opts.conns, l.opts.half(), l.opts.latency()),
		tables: []table{ratios, latencies, throughputTable("request", all), plainLatencyTable(single)},
		notes:  saturation(all),
	}, nil
}
