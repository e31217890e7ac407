package adminapi

import (
	"slices"
	"strings"
)

// listProviders answers what keys can be stored for, in the order of names.
func (a *API) listProviders(*call) (answer, error) {
	infos := slices.Clone(a.providers())
	slices.SortFunc(infos, func(x, y ProviderInfo) int { return strings.Compare(x.Name, y.Name) })
	return ok(infos)
}

// checkProvider refuses a name that no provider has. The name is not repeated:
// it may be a key in the wrong member.
func (a *API) checkProvider(name string) error {
	var known []string
	for _, info := range a.providers() {
		if info.Name == name {
			return nil
		}
		known = append(known, info.Name)
	}
	slices.Sort(known)
	return invalid("provider", "expected one of %s", strings.Join(known, ", "))
}
