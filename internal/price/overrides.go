package price

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/sofatutor/caddy-llm-proxy/internal/glob"
)

// Overrides are prices that somebody negotiated, corrected or added: of an
// operator for all (a file), or of a project. They are immutable, can be read
// from and written as JSON, and should live as long as they are in force, since
// they remember what was looked up in them. docs/metering.md describes the
// format.
type Overrides struct {
	text      []byte // compact JSON
	sum       string
	providers map[string]*overrideRules
	memo      memo[overridden]
	version   atomic.Pointer[overriddenVersion]
}

// overridden is a model's prices over a table.
type overridden struct {
	table *Table
	entry entry
}

type overriddenVersion struct {
	table *Table
	text  string
}

// projectMemoHalf is smaller than memoHalf, since there may be many projects.
const projectMemoHalf = 128

// anyProvider is for providers that have no rule for a model.
const anyProvider = "*"

// overrideRules are one provider's.
type overrideRules struct {
	exact map[string]*override
	globs []overrideGlob // the most specific one first
}

type overrideGlob struct {
	glob string
	*override
}

func (o *Overrides) empty() bool { return o == nil || len(o.providers) == 0 }

// Providers are the names and types of providers that are spoken of, without *.
func (o *Overrides) Providers() []string {
	if o.empty() {
		return nil
	}
	names := slices.Sorted(maps.Keys(o.providers))
	return slices.DeleteFunc(names, func(n string) bool { return n == anyProvider })
}

// find returns what is said about a model: by the provider's name, else by its
// type, else for all.
func (o *Overrides) find(key memoKey, model string) *override {
	if o.empty() {
		return nil
	}
	lower := strings.ToLower(model)
	for _, provider := range []string{key.provider, key.kind, anyProvider} {
		if rules := o.providers[provider]; rules != nil {
			if found := rules.find(lower); found != nil {
				return found
			}
		}
	}
	return nil
}

func (r *overrideRules) find(lower string) *override {
	if found := r.exact[lower]; found != nil {
		return found
	}
	for _, g := range r.globs {
		if glob.Match(g.glob, lower) {
			return g.override
		}
	}
	return nil
}

// lookup returns a model's prices with these overrides over a table.
func (o *Overrides) lookup(t *Table, key memoKey) entry {
	if found, ok := o.memo.get(key); ok && found.table == t {
		return found.entry
	}
	key = key.clone()
	found := overridden{t, nil}
	if rule := o.find(key, baseModel(key.model)); rule != nil {
		found.entry = t.build(key, rule)
	} else {
		found.entry = t.lookup(key)
	}
	o.memo.put(key, found)
	return found.entry
}

func (o *Overrides) versionOver(t *Table) string {
	if v := o.version.Load(); v != nil && v.table == t {
		return v.text
	}
	v := &overriddenVersion{t, t.version + "+project:" + o.sum}
	o.version.Store(v)
	return v.text
}

// sort puts globs into the order in which they are tried: the one with the most
// characters that are no wildcards first.
func (r *overrideRules) sort() {
	literal := func(glob string) int {
		return len(glob) - strings.Count(glob, "*") - strings.Count(glob, "?")
	}
	slices.SortFunc(r.globs, func(a, b overrideGlob) int {
		return cmp.Or(cmp.Compare(literal(b.glob), literal(a.glob)), strings.Compare(a.glob, b.glob))
	})
}
