package predecessor

import (
	"strings"
	"testing"
)

const shipped = `
default_api: openai
apis:
  openai:
    base_url: https://api.openai.com
    allowed_endpoints: [/v1/chat/completions, /v1/files/, /v1/models, /v1/models]
    allowed_methods: [GET, post, OPTIONS]
    timeouts: {request: 120s, response_header: 30s, idle_connection: 90s, flush_interval: 10ms}
    connection: {max_idle_conns: 100, max_idle_conns_per_host: 20}
    param_whitelist:
      model: [gpt-4o, gpt-4o-*]
      voice: ["a b"]
    allowed_origins: [https://www.example.com, http://localhost:4000]
    required_headers: [origin, x-team]
  anthropic:
    base_url: https://api.anthropic.com/
    allowed_endpoints: [/v1/messages]
    allowed_methods: [POST]
  google:
    base_url: https://generativelanguage.googleapis.com
    allowed_endpoints: ["/v1/models", "/v1/models/gemini-pro:generateContent"]
    allowed_methods: [GET, POST]
  cohere:
    base_url: https://api.cohere.example/compat
    allowed_endpoints: [/, /api/embed]
    allowed_methods: [POST]
`

const converted = `# provider blocks for the global option llm_proxy, made from api_providers.yaml
provider anthropic {
	base_url https://api.anthropic.com/v1
	allow_endpoints /v1/messages /v1/messages/*
	allow_methods POST
}
provider cohere {
	type openai
	base_url https://api.cohere.example/compat
	allow_endpoints /* /api/embed /api/embed/*
	allow_methods POST
}
provider google {
	type gemini
	base_url https://generativelanguage.googleapis.com
	allow_endpoints /v1/models /v1/models/* /v1/models/gemini-pro:generateContent
	allow_methods GET POST
}
provider openai {
	base_url https://api.openai.com/v1
	allow_endpoints /v1/chat/completions /v1/chat/completions/* /v1/files/* /v1/models /v1/models/*
	allow_methods GET POST
	allow_param model gpt-4o gpt-4o-*
	allow_param voice "a b"
	allow_origins https://www.example.com http://localhost:4000
	require_headers Origin X-Team
	response_header_timeout 30s
	max_idle_conns_per_host 20
}
`

func TestProviders(t *testing.T) {
	p, err := ReadProviders(strings.NewReader(shipped))
	if err != nil {
		t.Fatal(err)
	}
	if p.Default != "openai" || len(p.APIs) != 4 {
		t.Errorf("default %q, %d providers", p.Default, len(p.APIs))
	}
	text, notes, err := p.Caddyfile()
	if err != nil || text != converted {
		t.Errorf("%v\n%s\nwant\n%s", err, text, converted)
	}
	all := strings.Join(notes, "\n")
	for _, words := range []string{
		"apis.openai.allowed_methods: OPTIONS", "apis.openai.timeouts.request:", "timeouts.idle_connection:", "timeouts.flush_interval:",
		"connection.max_idle_conns:", "apis.cohere.base_url: its path is kept",
	} {
		if !strings.Contains(all, words) {
			t.Errorf("notes do not say %q:\n%s", words, all)
		}
	}
	p.Default = "cohere"
	if text, _, _ := p.Caddyfile(); !strings.Contains(text, "`provider cohere`") {
		t.Errorf("does not name the default:\n%s", text)
	}
}

func TestProvidersThatAreRefused(t *testing.T) {
	api := func(lines ...string) string {
		return "apis:\n  openai:\n    base_url: https://api.openai.com\n    allowed_endpoints: [/v1/models]\n    allowed_methods: [GET]\n    " + strings.Join(lines, "\n    ") + "\n"
	}
	for text, words := range map[string]string{
		"":                         "empty",
		"apis: {}":                 "no provider",
		"- a":                      "cannot unmarshal",
		"apis:\n\t- a":             "line 2",
		"default_api: x\n" + api(): "default_api",
		"apis: {a: {}}":            "apis.a.base_url: is required",
		"apis: {a: {base_url: x}}": "apis.a.allowed_endpoints: is required",
		"apis: {a: {base_url: x, allowed_endpoints: [/]}}": "apis.a.allowed_methods: is required",
		api("allowed_origin: [https://a]"):                 "line 6: field allowed_origin is not known: correct or remove it",
		"api: {}\n" + api():                                "line 1: field api is not known",
		api("timeouts: {total: 1s}"):                       "field total is not known",
		api("base_url: https://b"):                         "already",
		api() + "---\n" + api():                            "more than one document",
		strings.Repeat("#", maxProviders+1):                "larger",
	} {
		if _, err := ReadProviders(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "predecessor.") {
			t.Errorf("%.60q: %v, want %q", text, err, words)
		}
	}
	for text, words := range map[string]string{
		api("allowed_origins: ['*']"):                             "apis.openai.allowed_origins",
		api("param_whitelist: {model: []}"):                       "apis.openai.param_whitelist.model: it allows nothing",
		api("param_whitelist: {model: ['{env.SECRET}']}"):         "meaning in a Caddyfile",
		api("param_whitelist: {model: ['a`b']}"):                  "meaning in a Caddyfile",
		api("param_whitelist: {\"a\\nb\": [x]}"):                  "meaning in a Caddyfile",
		api("required_headers: ['a b']"):                          "apis.openai.required_headers",
		api("timeouts: {response_header: 30}"):                    "apis.openai.timeouts.response_header",
		api("timeouts: {response_header: -1s}"):                   "apis.openai.timeouts.response_header",
		api("connection: {max_idle_conns_per_host: -1}"):          "negative",
		strings.Replace(api(), "/v1/models", "v1/models", 1):      "apis.openai.allowed_endpoints",
		strings.Replace(api(), "/v1/models", "'/v1/models?x'", 1): "apis.openai.allowed_endpoints",
		strings.Replace(api(), "GET", "OPTIONS", 1):               "none left",
		strings.Replace(api(), "GET", "TRACE", 1):                 "apis.openai.allowed_methods",
		strings.Replace(api(), "https://", "https://u:p@", 1):     "apis.openai.base_url",
		strings.Replace(api(), "openai:", "admin:", 1):            "apis.admin",
		strings.Replace(api(), "openai:", "'a b':", 1):            "apis.a b",
	} {
		p, err := ReadProviders(strings.NewReader(text))
		if err != nil {
			t.Errorf("%.200q does not parse: %v", text, err)
			continue
		}
		if _, _, err := p.Caddyfile(); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%.200q: %v, want %q", text, err, words)
		}
	}
}

// Whatever is written, no line of it is anything but an option that we meant.
func FuzzProviders(f *testing.F) {
	f.Add([]byte(shipped))
	f.Add([]byte("apis: {a: {base_url: 'http://x', allowed_endpoints: ['/a #'], allowed_methods: [GET], param_whitelist: {'import': ['<<E', '']}}}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ReadProviders(strings.NewReader(string(data)))
		if err != nil {
			return
		}
		text, _, err := p.Caddyfile()
		if err != nil {
			return
		}
		depth := 0
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			switch {
			case strings.HasPrefix(line, "# "):
			case strings.HasPrefix(line, "provider ") && strings.HasSuffix(line, " {"):
				depth++
			case line == "}":
				depth--
			case !strings.HasPrefix(line, "\t") || strings.ContainsAny(line, "{}`\\\r"):
				t.Fatalf("%q is written as\n%s", data, text)
			}
		}
		if depth != 0 {
			t.Fatalf("%q is written as\n%s", data, text)
		}
	})
}
