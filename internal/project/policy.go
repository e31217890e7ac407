package project

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sofatutor/caddy-llm-proxy/internal/glob"
	"github.com/sofatutor/caddy-llm-proxy/internal/price"
)

// Bounds of a policy's lists, so that one row cannot slow every request.
const (
	maxListEntries    = 256
	maxEntryBytes     = 256
	maxMetadataKeys   = 64
	maxMetadataValues = 1024
)

// Policy restricts what requests may do. Empty lists do not restrict. A request
// must satisfy the policies of its token and of its project.
type Policy struct {
	AllowedModels    []string          `json:"allowed_models,omitempty"`    // globs: * matches any run of characters, ? one byte
	AllowedProviders []string          `json:"allowed_providers,omitempty"` // provider names
	AllowedEndpoints []string          `json:"allowed_endpoints,omitempty"` // /v1/models, or /v1/files/* for a subtree
	AllowedIPs       []string          `json:"allowed_ips,omitempty"`       // addresses or CIDR prefixes
	Metadata         map[string]string `json:"metadata,omitempty"`          // carried into events; no effect on requests
	Prices           *price.Overrides  `json:"prices,omitempty"`            // of a project alone: over those of the installation
	Limits
}

// Validate reports the first entry that cannot work, naming field and value.
func (p *Policy) Validate() error {
	if err := p.Limits.Validate(); err != nil {
		return err
	}
	for _, list := range []struct {
		name    string
		entries []string
		check   func(string) error
	}{
		{"allowed_models", p.AllowedModels, checkText},
		{"allowed_providers", p.AllowedProviders, checkText},
		{"allowed_endpoints", p.AllowedEndpoints, checkEndpointEntry},
		{"allowed_ips", p.AllowedIPs, checkIPEntry},
	} {
		if len(list.entries) > maxListEntries {
			return fmt.Errorf("%s has %d entries, at most %d are allowed", list.name, len(list.entries), maxListEntries)
		}
		for i, entry := range list.entries {
			if err := list.check(entry); err != nil {
				return fmt.Errorf("%s[%d]: %w", list.name, i, err)
			}
		}
	}
	if len(p.Metadata) > maxMetadataKeys {
		return fmt.Errorf("metadata has %d members, at most %d are allowed", len(p.Metadata), maxMetadataKeys)
	}
	for _, key := range slices.Sorted(maps.Keys(p.Metadata)) {
		value := p.Metadata[key]
		if err := checkText(key); err != nil {
			return fmt.Errorf("metadata: name: %w", err)
		}
		if len(value) > maxMetadataValues || !utf8.ValidString(value) {
			return fmt.Errorf("metadata.%s: expected at most %d bytes of UTF-8", key, maxMetadataValues)
		}
	}
	return nil
}

// CheckEndpoint reports why an endpoint pattern is not a canonical path,
// optionally ending in /*.
func CheckEndpoint(pattern string) error {
	path := strings.TrimSuffix(pattern, "/*")
	if !strings.HasPrefix(pattern, "/") || strings.ContainsAny(path, "*?#%;\\\"<>[]^`{|}") ||
		strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r >= 0x7f }) ||
		strings.Contains(pattern, "//") || strings.Contains(pattern+"/", "/../") || strings.Contains(pattern+"/", "/./") {
		return fmt.Errorf("%q is not an endpoint: write a plain path such as /v1/models, or /v1/files/* for everything below it", pattern)
	}
	return nil
}

func checkEndpointEntry(s string) error {
	if err := checkText(s); err != nil {
		return err
	}
	return CheckEndpoint(s)
}

func checkIPEntry(s string) error {
	if err := checkText(s); err != nil {
		return err
	}
	_, err := parsePrefix(s)
	return err
}

func checkText(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("is empty")
	case len(s) > maxEntryBytes:
		return fmt.Errorf("has %d bytes, at most %d are allowed", len(s), maxEntryBytes)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("holds control characters or invalid UTF-8")
	}
	return nil
}

// Rules is a [Policy] made ready for the request path. Its lists are nil where
// nothing is restricted; one that is empty allows nothing.
type Rules struct {
	models    []string
	providers []string
	endpoints []string
	prefixes  []netip.Prefix
}

// Compile makes the policy ready for requests. Entries that [Policy.Validate]
// refuses match nothing, so that a damaged row never widens access.
func (p *Policy) Compile() Rules {
	r := Rules{
		models:    sound(p.AllowedModels, checkText),
		providers: sound(p.AllowedProviders, checkText),
		endpoints: sound(p.AllowedEndpoints, checkEndpointEntry),
	}
	for _, s := range p.AllowedIPs {
		prefix, _ := parsePrefix(s) // the zero Prefix contains nothing
		r.prefixes = append(r.prefixes, prefix)
	}
	return r
}

// sound returns the entries that pass check: nil only if there are none at all,
// since a list of nothing but damaged entries still restricts.
func sound(entries []string, check func(string) error) []string {
	if len(entries) == 0 {
		return nil
	}
	kept := make([]string, 0, len(entries))
	for _, entry := range entries {
		if check(entry) == nil {
			kept = append(kept, entry)
		}
	}
	return kept
}

// RestrictsModels reports whether requests must name a model.
func (r *Rules) RestrictsModels() bool { return r.models != nil }

// AllowsModel reports whether the model may be asked for.
func (r *Rules) AllowsModel(model string) bool {
	return r.models == nil || slices.ContainsFunc(r.models, func(g string) bool { return glob.Match(g, model) })
}

// AllowsProvider reports whether the provider may be used.
func (r *Rules) AllowsProvider(name string) bool {
	return r.providers == nil || slices.Contains(r.providers, name)
}

// AllowsEndpoint reports whether the canonical endpoint may be called.
func (r *Rules) AllowsEndpoint(endpoint string) bool {
	return r.endpoints == nil || MatchEndpoint(r.endpoints, endpoint)
}

// AllowsIP reports whether the client may call from addr.
func (r *Rules) AllowsIP(addr netip.Addr) bool {
	if len(r.prefixes) == 0 {
		return true
	}
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(r.prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// RestrictsIPs reports whether the client's address matters.
func (r *Rules) RestrictsIPs() bool { return len(r.prefixes) > 0 }

// MatchEndpoint reports whether one of the patterns, exact or ending in /*,
// matches the path. "/v1/files/*" does not match "/v1/files" itself.
func MatchEndpoint(patterns []string, path string) bool {
	for _, p := range patterns {
		if n := len(p) - 1; n >= 1 && p[n] == '*' && p[n-1] == '/' {
			if len(path) > n && path[:n] == p[:n] {
				return true
			}
		} else if p == path {
			return true
		}
	}
	return false
}

func parsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("%q is not a CIDR prefix such as 10.0.0.0/8", s)
		}
		if p.Addr().Is4In6() && p.Bits() >= 96 { // ::ffff:10.0.0.0/104 is 10.0.0.0/8
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		return p.Masked(), nil
	}
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q is not an IP address or CIDR prefix such as 10.0.0.0/8", s)
	}
	addr = addr.Unmap()
	return netip.PrefixFrom(addr, addr.BitLen()), nil
}
