package caddymodule

import (
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/provider"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

// parseGlobalOption reads the `llm_proxy` global option.
func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	d.Next()
	if existing != nil {
		return nil, d.Err("llm_proxy is configured twice; put everything into one block")
	}
	app := new(App)
	if err := app.unmarshal(d); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "llm_proxy", Value: caddyconfig.JSON(app, nil)}, nil
}

// unmarshal reads the block:
//
//	llm_proxy {
//		database sqlite [<path>] | postgres <dsn> {
//			store_outage_grace <duration>
//			migrate on|off
//			max_conns <number>
//			statement_timeout <duration>
//		}
//		redis <url> | {
//			url <urls...>
//			cluster
//			sentinel <master name>
//		}
//		encryption_key <key> [<older keys...>]
//		management_token <secret>
//		audit { … }
//		prices <file>
//		cache {
//			memory <size>
//			max_object <size>
//			redis on|off
//		}
//		events { … }
//		provider <name> {
//			type <preset>
//			base_url <url>
//			api_key <secret>
//			auth bearer | header <Name> | query <name>
//			allow_endpoints <paths...>
//			allow_methods <methods...>
//			allow_param <member> <globs...>
//			allow_origins <origins...>
//			require_headers <names...>
//			dial_timeout <duration>
//			response_header_timeout <duration>
//			idle_timeout <duration>
//			max_idle_conns_per_host <number>
//		}
//	}
func (a *App) unmarshal(d *caddyfile.Dispenser) error {
	if err := noArg(d, "options belong in the block of llm_proxy, one a line"); err != nil {
		return err
	}
	seen := make(once)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if option != "provider" {
			if err := seen.add(d, option); err != nil {
				return err
			}
		}
		var err error
		switch option {
		case "database":
			a.Database, err = parseDatabase(d)
		case "redis":
			a.Redis, err = parseRedis(d)
		case "encryption_key":
			a.EncryptionKeys, err = parseEncryptionKeys(d)
		case "management_token":
			a.ManagementToken, err = oneArg(d)
		case "audit":
			a.Audit, err = parseAudit(d)
		case "prices":
			if a.Prices, err = oneArg(d); err == nil {
				err = noBlock(d)
			}
		case "cache":
			a.Cache, err = parseCache(d)
		case "events":
			a.Events, err = parseEvents(d)
		case "provider":
			err = a.parseProvider(d)
		default:
			err = unknownOption(d, "database, redis, encryption_key, management_token, provider, audit, prices, cache, events")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func parseEncryptionKeys(d *caddyfile.Dispenser) ([]string, error) {
	keys := d.RemainingArgs()
	if len(keys) == 0 {
		return nil, d.Err("expected a key: base64 of 32 random bytes, from `caddy llm-proxy keygen`")
	}
	for i, key := range keys {
		if isLiteral(key) {
			if _, err := secret.ParseKey(key); err != nil {
				return nil, d.Errf("key %d %v", i+1, err)
			}
		}
	}
	return keys, noBlock(d)
}

func (a *App) parseProvider(d *caddyfile.Dispenser) error {
	name, err := oneArg(d)
	if err != nil {
		return err
	}
	if err := provider.CheckName(name); err != nil {
		return d.Err(err.Error())
	}
	if a.Providers[name] != nil {
		return d.Errf("provider %s is configured twice", name)
	}
	p := new(Provider)
	seen := make(once)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		if option != "allow_param" {
			if err := seen.add(d, option); err != nil {
				return err
			}
		}
		if err := p.parseOption(d, option); err != nil {
			return err
		}
	}
	if _, ok := provider.PresetFor(name); !ok && p.Type == "" {
		return d.Errf("provider %s: %q is not a preset, so it needs a type; expected type <one of: %s>", name, name, presetNames())
	}
	kind := p.Type
	if kind == "" {
		kind = name
	}
	if preset, ok := provider.PresetFor(kind); ok && preset.BaseURL == "" && p.BaseURL == "" {
		return d.Errf("provider %s: type %s needs a base_url, such as https://<resource>.openai.azure.com/openai", name, kind)
	}
	if a.Providers == nil {
		a.Providers = make(map[string]*Provider)
	}
	a.Providers[name] = p
	return nil
}

func (p *Provider) parseOption(d *caddyfile.Dispenser, option string) (err error) {
	switch option {
	case "type":
		if p.Type, err = oneArg(d); err != nil {
			return err
		}
		if _, ok := provider.PresetFor(p.Type); !ok && isLiteral(p.Type) {
			return d.Errf("unknown type %q; expected one of: %s", p.Type, presetNames())
		}
	case "base_url":
		if p.BaseURL, err = oneArg(d); err != nil {
			return err
		}
		if isLiteral(p.BaseURL) {
			if err := provider.CheckBaseURL(p.BaseURL); err != nil {
				return d.Errf("base_url: %v", err)
			}
		}
	case "api_key":
		p.APIKey, err = oneArg(d)
	case "auth":
		words := d.RemainingArgs()
		if _, err := parseAuth(words); err != nil {
			return d.Errf("auth: %v", err)
		}
		p.Auth = strings.Join(words, " ")
		err = noBlock(d)
	case "allow_endpoints":
		p.AllowEndpoints, err = args(d, project.CheckEndpoint)
	case "allow_methods":
		p.AllowMethods, err = args(d, provider.CheckMethod)
	case "allow_origins":
		p.AllowOrigins, err = args(d, provider.CheckOrigin)
	case "require_headers":
		p.RequireHeaders, err = args(d, checkHeaderName)
	case "allow_param":
		err = p.parseParam(d)
	case "dial_timeout":
		p.DialTimeout, err = parseDuration(d)
	case "response_header_timeout":
		p.ResponseHeaderTimeout, err = parseDuration(d)
	case "idle_timeout":
		var idle caddy.Duration
		idle, err = parseDuration(d)
		p.IdleTimeout = &idle
	case "max_idle_conns_per_host":
		p.MaxIdleConnsPerHost, err = parseCount(d)
	default:
		err = unknownOption(d, "type, base_url, api_key, auth, allow_endpoints, allow_methods, allow_param, allow_origins, require_headers, dial_timeout, response_header_timeout, idle_timeout, max_idle_conns_per_host")
	}
	return err
}

func (p *Provider) parseParam(d *caddyfile.Dispenser) error {
	words := d.RemainingArgs()
	if len(words) < 2 {
		return d.Err("expected a member of the JSON body and the globs that its value may match, such as: allow_param model gpt-4o* gpt-4.1-*")
	}
	if p.AllowParams[words[0]] != nil {
		return d.Errf("allow_param %s appears twice; put all its globs on one line", words[0])
	}
	if p.AllowParams == nil {
		p.AllowParams = make(map[string][]string)
	}
	p.AllowParams[words[0]] = words[1:]
	return noBlock(d)
}

func presetNames() string {
	var names []string
	for _, p := range provider.Presets() {
		names = append(names, p.Type)
	}
	return strings.Join(names, ", ")
}
