package provider

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Table finds the provider of a path: the handler's default one for /v1/…, and
// every configured one below its own name.
type Table struct {
	byName   map[string]*Provider
	fallback *Provider
}

// NewTable makes a table. fallback is the name of the provider that serves
// /v1/*; it must be among the providers.
func NewTable(providers []*Provider, fallback string) (*Table, error) {
	t := &Table{byName: make(map[string]*Provider, len(providers))}
	var names []string
	for _, p := range providers {
		t.byName[p.Name] = p
		names = append(names, p.Name)
	}
	if t.fallback = t.byName[fallback]; t.fallback == nil {
		slices.Sort(names)
		return nil, fmt.Errorf("provider %q is not configured; configure it in the llm_proxy global option or use one of: %s", fallback, strings.Join(names, ", "))
	}
	return t, nil
}

// Owns reports whether the first segment of a path belongs to us.
func (t *Table) Owns(segment string) bool {
	return segment == "v1" || t.byName[segment] != nil
}

// Match finds the route of an escaped URL path. ours is false when the path is
// another handler's. ours without ok: the path is refused, as it has no
// canonical form.
func (t *Table) Match(escaped string) (route Route, ours, ok bool) {
	path, ok := CanonicalPath(escaped)
	if !ok {
		return Route{}, t.Owns(FirstSegment(escaped)), false
	}
	segment, _, _ := strings.Cut(path[1:], "/")
	if segment == "v1" {
		if len(path) == len("/v1") {
			return Route{}, false, false
		}
		return t.fallback.RouteDefault(path), true, true
	}
	p := t.byName[segment]
	if p == nil {
		return Route{}, false, false // names are unreserved characters, so none hides in an escape
	}
	return p.RouteNamed(path[1+len(segment):]), true, true
}

// All are the providers, in no order.
func (t *Table) All() []*Provider { return slices.Collect(maps.Values(t.byName)) }

// Fallback is the provider of /v1/*.
func (t *Table) Fallback() *Provider { return t.fallback }

// Names are the names of all providers, sorted.
func (t *Table) Names() []string {
	var names []string
	for name := range t.byName {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
