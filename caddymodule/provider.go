package caddymodule

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
)

// Provider describes one LLM API.
type Provider struct {
	// The preset to start from: openai, anthropic, gemini, azure_openai, openrouter,
	// mistral, groq, deepseek, xai, ollama or vllm. Default: the provider's name.
	Type string `json:"type,omitempty"`

	// Where the API is, with its path, such as https://api.example.com/v1.
	// Default: the preset's. azure_openai has none: it needs the resource's URL.
	BaseURL string `json:"base_url,omitempty"`

	// A key for projects that have none of their own for this provider and may use
	// shared keys. Default: none.
	APIKey string `json:"api_key,omitempty"`

	// How the API wants its credential: "bearer", "header <Name>" or "query <name>".
	// Default: the preset's.
	Auth string `json:"auth,omitempty"`

	// The endpoints that may be called, exact or ending in /*. Default: the preset's.
	AllowEndpoints []string `json:"allow_endpoints,omitempty"`

	// The methods that may be used. Default: the preset's, GET, HEAD, POST and DELETE for most.
	AllowMethods []string `json:"allow_methods,omitempty"`

	// Values that members of a JSON body may have, as globs by member. A rule for
	// "model" also makes naming a model a must. Default: no rules.
	AllowParams map[string][]string `json:"allow_params,omitempty"`

	// The Origin values that browsers may send. Requests without Origin are not
	// concerned, unless require_headers names it. Default: any.
	AllowOrigins []string `json:"allow_origins,omitempty"`

	// Headers that requests must have. Default: none.
	RequireHeaders []string `json:"require_headers,omitempty"`

	// How long connecting may take. Default: 10s.
	DialTimeout caddy.Duration `json:"dial_timeout,omitempty"`

	// How long an answer may take to begin. Default: 0, without limit: reasoning
	// models take minutes.
	ResponseHeaderTimeout caddy.Duration `json:"response_header_timeout,omitempty"`

	// The longest silence within an answer, after which it is given up. 0 means
	// without limit. Default: 5m.
	IdleTimeout *caddy.Duration `json:"idle_timeout,omitempty"`

	// How many unused connections are kept. Default: 256.
	MaxIdleConnsPerHost int `json:"max_idle_conns_per_host,omitempty"`
}

// buildProvider resolves placeholders and makes the provider. Errors begin
// with the option.
func (a *App) buildProvider(name string) (*provider.Provider, error) {
	p := a.Providers[name]
	if p == nil {
		p = new(Provider)
	}
	cfg := provider.Config{
		Name: name, DialTimeout: duration(p.DialTimeout), ResponseHeaderTimeout: duration(p.ResponseHeaderTimeout),
		MaxIdleConnsPerHost: p.MaxIdleConnsPerHost,
	}
	if p.IdleTimeout != nil {
		cfg.IdleTimeout = duration(*p.IdleTimeout)
		if cfg.IdleTimeout == 0 {
			cfg.IdleTimeout = -1
		}
	}
	if err := p.checkNumbers(); err != nil {
		return nil, err
	}
	var err error
	if p.APIKey != "" {
		if cfg.APIKey, err = a.resolveSecret("api_key", p.APIKey); err != nil {
			return nil, err
		}
		if strings.ContainsFunc(cfg.APIKey.Reveal(), func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, fmt.Errorf("api_key: holds spaces, line breaks or characters beyond ASCII, which no header can carry")
		}
	}
	if p.Auth != "" {
		auth, err := parseAuth(strings.Fields(p.Auth))
		if err != nil {
			return nil, fmt.Errorf("auth: %w", err)
		}
		cfg.Auth = &auth
	}
	for _, v := range []struct {
		option string
		from   string
		to     *string
	}{{"type", p.Type, &cfg.Type}, {"base_url", p.BaseURL, &cfg.BaseURL}} {
		if v.from == "" {
			continue
		}
		if *v.to, err = resolve(v.from); err != nil {
			return nil, fmt.Errorf("%s: %w", v.option, err)
		}
	}
	for _, v := range []struct {
		option string
		from   []string
		to     *[]string
	}{
		{"allow_endpoints", p.AllowEndpoints, &cfg.Endpoints},
		{"allow_methods", p.AllowMethods, &cfg.Methods},
		{"allow_origins", p.AllowOrigins, &cfg.Origins},
		{"require_headers", p.RequireHeaders, &cfg.RequiredHeaders},
	} {
		if *v.to, err = resolveAll(v.from); err != nil {
			return nil, fmt.Errorf("%s: %w", v.option, err)
		}
	}
	for _, param := range slices.Sorted(maps.Keys(p.AllowParams)) {
		globs, err := resolveAll(p.AllowParams[param])
		if err != nil {
			return nil, fmt.Errorf("allow_param %s: %w", param, err)
		}
		if len(globs) == 0 || param == "" {
			return nil, fmt.Errorf("allow_param %s: expected a member name and at least one glob, such as: allow_param model gpt-4o*", param)
		}
		if cfg.Params == nil {
			cfg.Params = make(map[string][]string)
		}
		cfg.Params[param] = globs
	}
	built, err := provider.New(cfg)
	if err != nil {
		return nil, withoutValues(err, p, &cfg)
	}
	return built, nil
}

// withoutValues names placeholders where an error repeats what they stand for:
// whoever reads it knows the configuration, and need not know the environment.
func withoutValues(err error, p *Provider, cfg *provider.Config) error {
	from := slices.Concat([]string{p.Type}, p.AllowEndpoints, p.AllowMethods, p.AllowOrigins, p.RequireHeaders)
	to := slices.Concat([]string{cfg.Type}, cfg.Endpoints, cfg.Methods, cfg.Origins, cfg.RequiredHeaders)
	var pairs []string
	for i := range min(len(from), len(to)) {
		if from[i] != to[i] {
			pairs = append(pairs, strconv.Quote(to[i]), strconv.Quote(from[i]))
		}
	}
	if len(pairs) == 0 {
		return err
	}
	return errors.New(strings.NewReplacer(pairs...).Replace(err.Error()))
}

func (p *Provider) checkNumbers() error {
	for _, v := range []struct {
		option string
		value  int64
	}{
		{"dial_timeout", int64(p.DialTimeout)},
		{"response_header_timeout", int64(p.ResponseHeaderTimeout)},
		{"max_idle_conns_per_host", int64(p.MaxIdleConnsPerHost)},
	} {
		if v.value < 0 {
			return fmt.Errorf("%s: must not be negative", v.option)
		}
	}
	if p.IdleTimeout != nil && *p.IdleTimeout < 0 {
		return fmt.Errorf("idle_timeout: must not be negative; 0 means without limit")
	}
	return nil
}

// parseAuth reads "bearer", "header <Name>" or "query <name>".
func parseAuth(words []string) (provider.Auth, error) {
	switch {
	case len(words) == 1 && words[0] == "bearer":
		return provider.Auth{Scheme: provider.AuthBearer}, nil
	case len(words) == 2 && words[0] == "header" && validHeaderName(words[1]):
		return provider.Auth{Scheme: provider.AuthHeader, Name: canonicalHeader(words[1])}, nil
	case len(words) == 2 && words[0] == "query":
		return provider.Auth{Scheme: provider.AuthQuery, Name: words[1]}, nil
	}
	return provider.Auth{}, fmt.Errorf("expected one of: bearer, header <Name>, query <name>")
}

func resolveAll(list []string) ([]string, error) {
	var out []string
	for _, text := range list {
		value, err := resolve(text)
		if err != nil {
			return nil, err
		}
		out = append(out, value)
	}
	return out, nil
}
