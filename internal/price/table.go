package price

import (
	"slices"
	"strings"
	"time"
)

// Table is the embedded table below an operator's overrides. It is immutable and
// safe for concurrent use.
type Table struct {
	snapshot *snapshot
	file     *Overrides // nil: none
	version  string
	memo     memo[entry]
}

// entry is a model's prices by time; none: it has no price.
type entry []period[*Price]

// New returns the embedded table below overrides, which may be nil.
func New(overrides *Overrides) (*Table, error) {
	s, err := loadEmbedded()
	if err != nil {
		return nil, err
	}
	t := &Table{snapshot: s, file: overrides, version: s.name}
	if !overrides.empty() {
		t.version += "+overrides:" + overrides.sum
	}
	return t, nil
}

// Version names the table and its overrides, for the events that were priced
// with them.
func (t *Table) Version() string { return t.version }

// Lookup returns what a model costs at a time: at the provider of that name and
// type, under the name that a client or the provider itself gave it. Not found
// means that the price is not known, never that it is nothing.
//
// Keep the Price for as long as a request takes, so that it is settled at the
// price that it was held at.
func (t *Table) Lookup(provider, kind, model string, at time.Time) (*Price, bool) {
	return t.With(nil).Lookup(provider, kind, model, at)
}

// With puts a project's overrides over the table. It costs nothing, so it may be
// called for each request; overrides may be nil.
func (t *Table) With(project *Overrides) Prices {
	if project.empty() {
		project = nil
	}
	return Prices{t, project}
}

// Prices are a table as a project sees it.
type Prices struct {
	table   *Table
	project *Overrides
}

// Lookup is Table's, with the project's overrides.
func (p Prices) Lookup(provider, kind, model string, at time.Time) (*Price, bool) {
	if len(model) > maxModel {
		return nil, false
	}
	key := memoKey{provider, kind, model}
	var e entry
	if p.project != nil {
		e = p.project.lookup(p.table, key)
	} else {
		e = p.table.lookup(key)
	}
	if len(e) == 0 {
		return nil, false
	}
	return current(e, at), true
}

// Version is Table's, with the project's overrides.
func (p Prices) Version() string {
	if p.project == nil {
		return p.table.version
	}
	return p.project.versionOver(p.table)
}

func (t *Table) lookup(key memoKey) entry {
	if e, ok := t.memo.get(key); ok {
		return e
	}
	key = key.clone()
	e := t.build(key, nil)
	t.memo.put(key, e)
	return e
}

// build makes the prices of a model from all that is said about it.
func (t *Table) build(key memoKey, project *override) entry {
	model := baseModel(key.model)
	var layers []*override
	for _, o := range []*override{t.file.find(key, model), project} {
		if o != nil {
			layers = append(layers, o)
		}
	}
	var periods []period[*rates]
	var known limits
	var media bool
	provider := t.snapshot.provider(key.provider, key.kind)
	if m := t.snapshot.find(provider, model); m != nil {
		periods, known, media = m.periods, m.limits, m.media
	}
	if len(periods) == 0 {
		if !slices.ContainsFunc(layers, func(o *override) bool { return o.priced }) {
			return nil
		}
		periods = []period[*rates]{{value: new(rates)}}
	}
	documented := documentedMaximum(provider, model)
	e := make(entry, len(periods))
	for i, p := range periods {
		price := layered(p.value, known, media, layers)
		price.limits.bound(documented)
		e[i] = period[*Price]{p.when, price}
	}
	return e
}

// layered puts overrides over what is below them.
func layered(base *rates, known limits, media bool, layers []*override) *Price {
	p := &Price{limits: known}
	raw := *base
	var tiers []*overrideTier
	for _, o := range layers {
		raw = raw.over(&o.rates)
		tiers = mergeTiers(tiers, o.tiers)
		p.limits = p.limits.over(o.limits)
		if o.priced {
			p.free = o.free
		}
	}
	p.standard = raw
	p.standard.settle(media)
	for _, t := range tiers {
		p.tiers = append(p.tiers, t.price(&p.standard, media))
	}
	return p
}

func (l limits) over(upper limits) limits {
	for _, x := range []struct{ lower, upper *int64 }{
		{&l.contextWindow, &upper.contextWindow}, {&l.maxInput, &upper.maxInput}, {&l.maxOutput, &upper.maxOutput},
	} {
		if *x.upper != 0 {
			*x.lower = *x.upper
		}
	}
	return l
}

// bound sets the documented maximum of the answer where neither the snapshot nor an
// override has one. An override may have a smaller context window, though, which the answer
// has to fit in.
func (l *limits) bound(documented int64) {
	if l.maxOutput != 0 {
		return
	}
	if l.maxOutput = documented; l.contextWindow != 0 {
		l.maxOutput = min(documented, l.contextWindow)
	}
}

// baseModel is a model's name without what Gemini puts before it.
func baseModel(model string) string { return strings.TrimPrefix(model, "models/") }
