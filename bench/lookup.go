package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

const (
	// lookupTarget is how much longer a look-up may take in the large database.
	lookupTarget = 3
	// smallPopulation is what it is compared with.
	smallPopulation = 1000
	// pageTarget is how much longer a page in the middle or at the end may take.
	pageTarget = 2
)

func parseID(text string) (uuid.UUID, error) { return uuid.FromString(text) }

// tokenSource is a database as the authority needs it.
type tokenSource struct{ *storage.DB }

// NotFound implements [token.Source].
func (tokenSource) NotFound(err error) bool { return errors.Is(err, storage.ErrNotFound) }

// lookUp recognises tokens that an authority has never seen, one after the other.
func (p *population) lookUp(ctx context.Context, texts []string) (window, error) {
	a := token.NewAuthority(tokenSource{p.db}, token.Options{})
	defer a.Close()
	w := window{units: float64(len(texts))}
	begun := time.Now()
	for _, text := range texts {
		asked := time.Now()
		if _, err := a.Authenticate(ctx, text); err != nil {
			return w, fmt.Errorf("%s: a token that is there: %w", p.name, err)
		}
		w.took = append(w.took, time.Since(asked))
	}
	w.elapsed = time.Since(begun)
	return w, nil
}

// takeLookup: the first use of a token, with many others beside it and with few.
func takeLookup(ctx context.Context, l *lab) (section, error) {
	var all []*series
	var populations []*population
	each := smallPopulation
	if l.opts.quick {
		each /= 10
	}
	for _, e := range engines {
		for _, rows := range []int{smallPopulation, l.opts.tokens} {
			p, err := l.population(ctx, e, rows)
			if err != nil {
				return section{}, err
			}
			populations = append(populations, p)
			all = append(all, &series{target: &target{name: p.name}})
		}
	}
	for _, p := range populations { // once all of them are there
		if err := p.settle(ctx); err != nil {
			return section{}, err
		}
	}
	for round := range l.opts.rounds + 1 {
		for i, p := range populations {
			first := round * each % len(p.probes)
			w, err := p.lookUp(ctx, p.probes[first:first+each])
			if err != nil {
				return section{}, err
			}
			if round > 0 { // the first one is for connections and statements
				all[i].windows = append(all[i].windows, w)
			}
		}
	}
	t := table{columns: ratioOfLatencyColumns}
	for i, e := range engines {
		t.compareLatency(fmt.Sprintf("%s, %s ÷ %s tokens", e, thousands(float64(l.opts.tokens)), thousands(smallPopulation)), all[2*i+1], all[2*i], lookupTarget)
	}
	return section{
		title: "(h) Cold look-up among many tokens",
		text: fmt.Sprintf("A token that the node has never seen: one query for the token, its project and its key, and a comparison. Windows of %d, one after the other and at random, "+
			"none asked for twice among the %s; in process, with the database on the load core. SQLite's file and PostgreSQL's are in the system's memory: "+
			"where they do not fit, a look-up costs reads of the disk besides.", each, thousands(float64(l.opts.tokens))),
		tables: []table{t, plainLatencyTable(all)},
	}, nil
}

// takePages: lists of tokens, at the start, in the middle and at the end.
func takePages(ctx context.Context, l *lab) (section, error) {
	const pages = 50
	places := []struct {
		name string
		part float64 // of the span, from the newest
	}{{"start", 0}, {"middle", 0.5}, {"end", 1}}
	ratios := table{columns: ratioOfLatencyColumns}
	var all []*series
	for _, e := range engines {
		p, err := l.population(ctx, e, l.opts.tokens)
		if err != nil {
			return section{}, err
		}
		ours := make([]*series, len(places))
		for i, place := range places {
			ours[i] = &series{target: &target{name: fmt.Sprintf("%s, %s", p.name, place.name)}}
		}
		for round := range l.opts.rounds + 1 {
			for i, place := range places {
				w, err := p.page(ctx, place.part, pages)
				if err != nil {
					return section{}, err
				}
				if round > 0 {
					ours[i].windows = append(ours[i].windows, w)
				}
			}
		}
		ratios.compareLatency(string(e)+", middle ÷ start", ours[1], ours[0], pageTarget)
		ratios.compareLatency(string(e)+", end ÷ start", ours[2], ours[0], pageTarget)
		all = append(all, ours...)
	}
	return section{
		title: "(i) Pages of a long list",
		text: fmt.Sprintf("The storage's part of `GET /manage/tokens?limit=%d`, which asks for one row more, among %s tokens: without a cursor, with one in the middle, and with one before the last page. Windows of %d pages.",
			pageRows, thousands(float64(l.opts.tokens)), pages),
		tables: []table{ratios, plainLatencyTable(all)},
	}, nil
}

// pageRows is the page size of the management API.
const pageRows = 100

// page reads n pages, each beginning a little further on than the one before.
func (p *population) page(ctx context.Context, part float64, n int) (window, error) {
	w := window{units: float64(n)}
	perRow := populationSpan / time.Duration(p.rows)
	begun := time.Now()
	for i := range n {
		f := storage.TokenFilter{Limit: pageRows + 1}
		if part > 0 {
			left := perRow * time.Duration(2*pageRows+i) // of the oldest
			f.After.CreatedAt = p.to.Add(-min(time.Duration(part*float64(populationSpan)), populationSpan-left)).Add(-perRow * time.Duration(i))
		}
		asked := time.Now()
		list, err := p.db.Tokens(ctx, f)
		if err != nil {
			return w, err
		}
		w.took = append(w.took, time.Since(asked))
		if len(list) != pageRows+1 {
			return w, fmt.Errorf("%s: a page has %d rows", p.name, len(list))
		}
	}
	w.elapsed = time.Since(begun)
	return w, nil
}

var ratioOfLatencyColumns = append(append([]string{"Ratio"}, latencyColumns[1:]...), "Target")

// compareLatency adds a ratio of percentiles, taken inside each round. Here
// less is better.
func (t *table) compareLatency(name string, s, base *series, target float64) {
	p50, p99 := percentiles(s, tookOf)
	base50, base99 := percentiles(base, tookOf)
	r50, r99 := over(p50, base50, ratio), over(p99, base99, ratio)
	verdict := ""
	if target > 0 {
		verdict = fmt.Sprintf("≤ %.1f: %s", target, map[bool]string{true: "met", false: "missed"}[r50.median <= target && r99.median <= target])
	}
	t.add(name, twoDigits(r50.min), bold(twoDigits(r50.median)), twoDigits(r50.max), twoDigits(r99.min), bold(twoDigits(r99.median)), twoDigits(r99.max), verdict)
}

func plainLatencyTable(all []*series) table {
	t := table{columns: latencyColumns}
	for _, s := range all {
		t.addPercentiles(s, tookOf)
	}
	return t
}
