package main

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// missTarget is how much faster than reverse_proxy a governed request must be.
const missTarget = 1.35

// takeMiss: a governed request that goes to the provider, against a
// reverse_proxy that only swaps the key.
func takeMiss(ctx context.Context, l *lab) (section, error) {
	targets, err := l.targets(ctx, whole, reversePlain, governedPlain, reverseTLS, governedTLS)
	if err != nil {
		return section{}, err
	}
	all, err := l.interleave(ctx, targets, l.opts.conns, l.opts.throughput(), false)
	if err != nil {
		return section{}, err
	}
	ratios := table{columns: ratioColumns}
	ratios.compare("llm_proxy ÷ reverse_proxy, provider with HTTP/1.1", all[1], all[0], missTarget)
	ratios.compare("llm_proxy ÷ reverse_proxy, provider with TLS HTTP/2", all[3], all[2], missTarget)
	return section{
		title:  "(a) Governed request ÷ reverse_proxy",
		text:   fmt.Sprintf("%d connections, each a chat completion after the other; windows of %s.", l.opts.conns, l.opts.throughput()),
		tables: []table{ratios, throughputTable("request", all)},
		notes:  saturation(all),
	}, nil
}

// takeRefused: requests that are refused for their token, against a respond
// that refuses everything.
func takeRefused(ctx context.Context, l *lab) (section, error) {
	targets, err := l.targets(ctx, whole, respondAnswer, respondRefusal)
	if err != nil {
		return section{}, err
	}
	targets[1].status, targets[1].length = http.StatusUnauthorized, len(refusalBody)
	ours, err := l.server(ctx, governedPlain)
	if err != nil {
		return section{}, err
	}
	unknownText, err := unknownToken()
	if err != nil {
		return section{}, err
	}
	wrongText, err := wrongSecret(ours.token)
	if err != nil {
		return section{}, err
	}
	for _, refused := range []struct{ name, token string }{
		{"malformed token", malformedToken(ours.token)}, {"unknown token", unknownText}, {"known token, wrong secret", wrongText},
	} {
		targets = append(targets, &target{
			name: "llm_proxy 401, " + refused.name, addr: ours.addr, process: ours.process,
			request: chatRequest(ours.addr, refused.token, whole), status: http.StatusUnauthorized,
		})
	}
	all, err := l.interleave(ctx, targets, l.opts.conns, l.opts.half(), false)
	if err != nil {
		return section{}, err
	}
	ratios := table{columns: ratioColumns}
	for _, base := range all[:2] {
		for _, s := range all[2:] {
			ratios.compare(s.target.name+" ÷ "+base.target.name, s, base, 0)
		}
	}
	return section{
		title: "(c) Refused request ÷ respond",
		text: "`respond 401` is a fixed error of about the same size; `respond 200` is the provider's whole answer, " +
			fmt.Sprintf("%d bytes with its headers. %d connections, windows of %s.", len(answerBody), l.opts.conns, l.opts.half()),
		tables: []table{ratios, throughputTable("request", all)},
		notes:  saturation(all),
	}, nil
}

var latencyColumns = []string{"Microseconds", "p50: min", "median", "max", "p99: min", "median", "max"}

// addPercentiles adds what was measured, and addDifference what one target adds to another.
func (t *table) addPercentiles(s *series, pick func(*window) []time.Duration) {
	p50, p99 := percentiles(s, pick)
	t.addLatency(s.target.name, spreadOf(p50), spreadOf(p99), decimal)
}

func (t *table) addDifference(name string, s, base *series, pick func(*window) []time.Duration) {
	p50, p99 := percentiles(s, pick)
	base50, base99 := percentiles(base, pick)
	t.addLatency(name, over(p50, base50, difference), over(p99, base99, difference), signed)
}

func (t *table) addLatency(name string, p50, p99 spread, format func(float64) string) {
	t.add(name, format(p50.min), bold(format(p50.median)), format(p50.max), format(p99.min), bold(format(p99.median)), format(p99.max))
}

func percentiles(s *series, pick func(*window) []time.Duration) (p50, p99 []float64) {
	p50 = s.each(func(w *window) float64 { return percentile(pick(w), 50) })
	p99 = s.each(func(w *window) float64 { return percentile(pick(w), 99) })
	return p50, p99
}

func tookOf(w *window) []time.Duration  { return w.took }
func firstOf(w *window) []time.Duration { return w.first }

// alone measures the provider itself, reverse_proxy and llm_proxy at one connection.
func (l *lab) alone(ctx context.Context, k kind) ([]*series, error) {
	targets, err := l.targets(ctx, k, reversePlain, governedPlain)
	if err != nil {
		return nil, err
	}
	return l.interleave(ctx, append([]*target{l.direct(k)}, targets...), 1, l.opts.latency(), true)
}

func latencyTable(all []*series, pick func(*window) []time.Duration) table {
	t := table{columns: latencyColumns}
	t.addDifference("llm_proxy − reverse_proxy", all[2], all[1], pick)
	t.addDifference("llm_proxy − no proxy", all[2], all[0], pick)
	t.addDifference("reverse_proxy − no proxy", all[1], all[0], pick)
	for _, s := range all {
		t.addPercentiles(s, pick)
	}
	return t
}

// takeLatency: the time that a request takes longer, nothing else going on.
func takeLatency(ctx context.Context, l *lab) (section, error) {
	all, err := l.alone(ctx, whole)
	if err != nil {
		return section{}, err
	}
	return section{
		title:  "(d) Added latency at one connection",
		text:   fmt.Sprintf("One connection, a chat completion after the other, provider with HTTP/1.1; windows of %s. Differences are taken inside each round.", l.opts.latency()),
		tables: []table{latencyTable(all, tookOf)},
	}, nil
}

// takeStream: streams of many small events, as fast as they come, and with
// pauses in which every event is passed on alone.
func takeStream(ctx context.Context, l *lab) (section, error) {
	fast, err := l.streams(ctx, stream)
	if err != nil {
		return section{}, err
	}
	slow, err := l.streams(ctx, paced)
	if err != nil {
		return section{}, err
	}
	single, err := l.alone(ctx, short)
	if err != nil {
		return section{}, err
	}
	ratios := table{columns: ratioColumns}
	ratios.compare("llm_proxy ÷ reverse_proxy, frames without pauses", fast[1], fast[0], 0)
	ratios.compare("llm_proxy ÷ reverse_proxy, paced frames", slow[1], slow[0], 0)
	writes := table{columns: []string{"Frames per write: median", "without pauses", "paced"}}
	for i, s := range fast {
		writes.add(s.target.name, measured(spreadOf(s.each((*window).batch)).median, twoDigits), measured(spreadOf(slow[i].each((*window).batch)).median, twoDigits))
	}
	return section{
		title: "(e) Streams",
		text: fmt.Sprintf("Answers of %d server-sent events of %d bytes, each written by itself, provider with HTTP/1.1; %d connections, windows of %s. "+
			"Without pauses, a proxy that lags behind passes more events on in one write, which makes each cheaper: see frames per write. "+
			"Paced by %s, the provider sets the pace and CPU time per frame is what counts. "+
			"Last, the time to the first byte of a stream's body at one connection, windows of %s.",
			streamFrames, len(frame), l.opts.conns, l.opts.half(), pace, l.opts.latency()),
		tables: []table{ratios, throughputTable("frame", fast), throughputTable("paced frame", slow), writes, latencyTable(single, firstOf)},
		notes:  saturation(fast),
	}, nil
}

func (l *lab) streams(ctx context.Context, k kind) ([]*series, error) {
	targets, err := l.targets(ctx, k, reversePlain, governedPlain)
	if err != nil {
		return nil, err
	}
	return l.interleave(ctx, targets, l.opts.conns, l.opts.half(), false)
}
