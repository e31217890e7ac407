package project_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
)

func TestValidate(t *testing.T) {
	many := make([]string, 257)
	metadata := make(map[string]string)
	for i := range many {
		many[i] = "m" + fmt.Sprint(i)
		if i < 65 {
			metadata[many[i]] = ""
		}
	}
	for _, tc := range []struct {
		name   string
		policy project.Policy
		want   string // how the error begins; "": valid
	}{
		{"empty", project.Policy{}, ""},
		{"everything", project.Policy{
			AllowedModels: []string{"gpt-4o*", "meta-llama/*", "?"}, AllowedProviders: []string{"openai"},
			AllowedEndpoints: []string{"/v1/models", "/v1/files/*", "/*"}, AllowedIPs: []string{"10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1", "::ffff:192.0.2.1"},
			Metadata: map[string]string{"team": "search", "note": "", "müll": "ok"},
		}, ""},
		{"256 models", project.Policy{AllowedModels: many[:256]}, ""},
		{"257 models", project.Policy{AllowedModels: many}, "allowed_models has 257 entries, at most 256"},
		{"257 addresses", project.Policy{AllowedIPs: many}, "allowed_ips has 257 entries"},
		{"empty model", project.Policy{AllowedModels: []string{"a", ""}}, "allowed_models[1]: is empty"},
		{"long model", project.Policy{AllowedModels: []string{strings.Repeat("m", 257)}}, "allowed_models[0]: has 257 bytes"},
		{"NUL in a model", project.Policy{AllowedModels: []string{"a\x00b"}}, "allowed_models[0]: holds control characters"},
		{"line break in a provider", project.Policy{AllowedProviders: []string{"a\r\nb"}}, "allowed_providers[0]: holds control characters"},
		{"invalid UTF-8", project.Policy{AllowedProviders: []string{"\xff"}}, "allowed_providers[0]: holds control characters or invalid UTF-8"},
		{"relative endpoint", project.Policy{AllowedEndpoints: []string{"v1/models"}}, `allowed_endpoints[0]: "v1/models" is not an endpoint`},
		{"empty endpoint", project.Policy{AllowedEndpoints: []string{""}}, "allowed_endpoints[0]: is empty"},
		{"not an address", project.Policy{AllowedIPs: []string{"10.0.0.1", "localhost"}}, `allowed_ips[1]: "localhost" is not an IP address`},
		{"octet with a leading zero", project.Policy{AllowedIPs: []string{"010.0.0.1"}}, `allowed_ips[0]: "010.0.0.1" is not an IP address`},
		{"prefix too long", project.Policy{AllowedIPs: []string{"10.0.0.0/33"}}, `allowed_ips[0]: "10.0.0.0/33" is not a CIDR prefix`},
		{"address with a port", project.Policy{AllowedIPs: []string{"10.0.0.1:80"}}, `allowed_ips[0]: "10.0.0.1:80" is not an IP address`},
		{"address with a zone", project.Policy{AllowedIPs: []string{"fe80::1%eth0"}}, `allowed_ips[0]: "fe80::1%eth0" is not an IP address`},
		{"prefix with a zone", project.Policy{AllowedIPs: []string{"fe80::1%eth0/64"}}, `allowed_ips[0]: "fe80::1%eth0/64" is not a CIDR prefix`},
		{"65 members", project.Policy{Metadata: metadata}, "metadata has 65 members, at most 64"},
		{"empty member name", project.Policy{Metadata: map[string]string{"": "x"}}, "metadata: name: is empty"},
		{"control characters in a member name", project.Policy{Metadata: map[string]string{"a\x01": "x"}}, "metadata: name: holds control characters"},
		{"long value", project.Policy{Metadata: map[string]string{"k": strings.Repeat("v", 1025)}}, "metadata.k: expected at most 1024 bytes"},
		{"value that is not UTF-8", project.Policy{Metadata: map[string]string{"k": "\xff"}}, "metadata.k: expected at most 1024 bytes of UTF-8"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.policy.Validate()
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.want)) {
				t.Fatalf("Validate: %v, want %q", err, tc.want)
			}
		})
	}
}

func TestCheckEndpoint(t *testing.T) {
	for pattern, want := range map[string]bool{
		"/":                                 true,
		"/*":                                true,
		"/v1/models":                        true,
		"/v1/models/":                       true,
		"/v1/files/*":                       true,
		"/v1beta/models/gemini:countTokens": true,
		"/v1/...":                           true,
		"":                                  false,
		"*":                                 false,
		"v1":                                false,
		"/v1/*/files":                       false,
		"/v1/files*":                        false,
		"/v1/**":                            false,
		"/*/*":                              false,
		"/v1/../admin":                      false,
		"/v1/..":                            false,
		"/v1/../*":                          false,
		"/./v1":                             false,
		"//v1":                              false,
		"/v1//*":                            false,
		"/v1/%2e":                           false,
		"/v1?x":                             false,
		"/v1#x":                             false,
		"/v1;x":                             false,
		`/v1\x`:                             false,
		"/v1 x":                             false,
		"/v1\x00":                           false,
		"/v1\n":                             false,
		"/v1/é":                             false,
		"/v1/{id}":                          false,
		"/v1/[id]":                          false,
		"https://api.openai.com/v1/models":  false,
	} {
		if err := project.CheckEndpoint(pattern); (err == nil) != want {
			t.Errorf("CheckEndpoint(%q) = %v, want valid: %v", pattern, err, want)
		}
	}
}

func TestRulesOfAnEmptyPolicyAllowEverything(t *testing.T) {
	for name, policy := range map[string]project.Policy{
		"nil lists":   {},
		"empty lists": {AllowedModels: []string{}, AllowedProviders: []string{}, AllowedEndpoints: []string{}, AllowedIPs: []string{}},
	} {
		r := policy.Compile()
		if r.RestrictsModels() || r.RestrictsIPs() || !r.AllowsModel("x") || !r.AllowsProvider("x") || !r.AllowsEndpoint("/x") ||
			!r.AllowsIP(netip.MustParseAddr("192.0.2.1")) || !r.AllowsIP(netip.Addr{}) {
			t.Errorf("%s restrict something", name)
		}
	}
}

func TestRulesRestrict(t *testing.T) {
	policy := project.Policy{AllowedModels: []string{"gpt-4o*"}, AllowedProviders: []string{"openai"}, AllowedEndpoints: []string{"/v1/files/*"}, AllowedIPs: []string{"::1"}}
	r := policy.Compile()
	if !r.RestrictsModels() || !r.RestrictsIPs() {
		t.Error("nothing is restricted")
	}
	if !r.AllowsModel("gpt-4o-mini") || r.AllowsModel("o3") || r.AllowsModel("") {
		t.Error("models")
	}
	if !r.AllowsProvider("openai") || r.AllowsProvider("open") || r.AllowsProvider("OpenAI") || r.AllowsProvider("") {
		t.Error("providers")
	}
	if !r.AllowsEndpoint("/v1/files/f1") || r.AllowsEndpoint("/v1/files") || r.AllowsEndpoint("") {
		t.Error("endpoints")
	}
}

func TestAllowsIP(t *testing.T) {
	for _, tc := range []struct {
		entry, addr string
		want        bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"::ffff:192.0.2.1", "192.0.2.1", true},
		{"::ffff:192.0.2.1", "::ffff:192.0.2.1", true},
		{"::ffff:10.0.0.0/104", "10.1.2.3", true},
		{"::ffff:10.0.0.0/104", "::ffff:10.1.2.3", true},
		{"::ffff:10.0.0.0/104", "11.1.2.3", false},
		{"10.0.0.0/8", "10.255.255.255", true},
		{"10.0.0.0/8", "::ffff:10.0.0.1", true},
		{"10.0.0.0/8", "11.0.0.0", false},
		{"10.1.2.3/8", "10.9.9.9", true}, // host bits are ignored
		{"0.0.0.0/0", "203.0.113.9", true},
		{"0.0.0.0/0", "2001:db8::1", false},
		{"::/0", "2001:db8::1", true},
		{"::/0", "203.0.113.9", false},
		{"::/0", "::ffff:203.0.113.9", false}, // an IPv4 client, however it is written
		{"fe80::/10", "fe80::1%eth0", true},
		{"2001:db8::/32", "2001:db8:1::1", true},
		{"2001:db8::1", "2001:db9::1", false},
		{"10.0.0.0/32", "10.0.0.1", false},
	} {
		policy := project.Policy{AllowedIPs: []string{tc.entry}}
		if err := policy.Validate(); err != nil {
			t.Errorf("%s: %v", tc.entry, err)
		}
		r := policy.Compile()
		if got := r.AllowsIP(netip.MustParseAddr(tc.addr)); got != tc.want {
			t.Errorf("%s with %s allowed: %v, want %v", tc.addr, tc.entry, got, tc.want)
		}
		if r.AllowsIP(netip.Addr{}) {
			t.Errorf("%s allows a client without address", tc.entry)
		}
	}
}

// An entry that Validate refuses matches nothing, and still restricts: nothing
// that a damaged row says may let in more.
func TestDamagedRowNeverWidensAccess(t *testing.T) {
	probes := []string{"", "*", "gpt-4o", "openai", "/v1/models", "/v1/files/f1", "a\x00b", "\xff"}
	damaged := rapid.OneOf(
		rapid.SampledFrom([]string{"", "a\x00b", "\xff*", "*\n", "*\x7f", strings.Repeat("*", 257), "v1/*", "/v1/**", "//*", "/v1/../*", "10.0.0.0/99", "0.0.0.0/", "/0", "::%x", "%"}),
		rapid.String(),
	)
	rapid.Check(t, func(t *rapid.T) {
		entry := damaged.Draw(t, "entry")
		for name, tc := range map[string]struct {
			policy project.Policy
			allows func(*project.Rules, string) bool
		}{
			"model":    {project.Policy{AllowedModels: []string{entry}}, (*project.Rules).AllowsModel},
			"provider": {project.Policy{AllowedProviders: []string{entry}}, (*project.Rules).AllowsProvider},
			"endpoint": {project.Policy{AllowedEndpoints: []string{entry}}, (*project.Rules).AllowsEndpoint},
			"address": {project.Policy{AllowedIPs: []string{entry}}, func(r *project.Rules, _ string) bool {
				return r.AllowsIP(netip.MustParseAddr("192.0.2.1")) || r.AllowsIP(netip.MustParseAddr("2001:db8::1")) || r.AllowsIP(netip.Addr{})
			}},
		} {
			if tc.policy.Validate() == nil {
				continue
			}
			r := tc.policy.Compile()
			for _, probe := range append(probes, entry) {
				if tc.allows(&r, probe) {
					t.Fatalf("the damaged %s entry %q allows %q", name, entry, probe)
				}
			}
		}
	})
}

func TestDamagedEntryDoesNotSpoilTheOthers(t *testing.T) {
	policy := project.Policy{AllowedModels: []string{"", "gpt-4o"}, AllowedIPs: []string{"x", "192.0.2.1"}, AllowedEndpoints: []string{"x", "/v1/models"}}
	r := policy.Compile()
	if !r.AllowsModel("gpt-4o") || r.AllowsModel("") || !r.AllowsIP(netip.MustParseAddr("192.0.2.1")) || !r.AllowsEndpoint("/v1/models") || r.AllowsEndpoint("x") {
		t.Error("the sound entries do not count, or the damaged ones do")
	}
}
