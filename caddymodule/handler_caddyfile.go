package caddymodule

import (
	"math"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dustin/go-humanize"
)

func parseHandler(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	return handler, handler.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile reads the directive:
//
//	llm_proxy [<matcher>] {
//		provider <name>
//		max_body <size>
//		max_upload <size>
//		rate_limit <scope> <n>/<window>
//		token_limit <scope> <n>/<window>
//		concurrency <scope> <n>
//		on_limiter_failure local|deny
//		cache { … }
//		forward_headers <globs...>
//		expose_headers on|off
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if err := noArg(d, "llm_proxy takes nothing but a matcher; write its options in a block, one a line, such as provider openai"); err != nil {
		return err
	}
	seen := make(once)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		var err error
		switch option {
		case "rate_limit", "token_limit", "concurrency": // one for each scope and window
		default:
			if err = seen.add(d, option); err != nil {
				return err
			}
		}
		switch option {
		case "rate_limit":
			h.RateLimits, err = parseRate(d, h.RateLimits)
		case "token_limit":
			h.TokenLimits, err = parseRate(d, h.TokenLimits)
		case "concurrency":
			h.Concurrency, err = parseConcurrency(d, h.Concurrency)
		case "on_limiter_failure":
			if h.OnLimiterFailure, err = oneArg(d); err == nil && h.OnLimiterFailure != failLocal && h.OnLimiterFailure != failDeny {
				err = d.Errf("%q is neither local nor deny", h.OnLimiterFailure)
			}
		case "cache":
			h.Cache, err = parseHandlerCache(d)
		case "provider":
			h.Provider, err = oneArg(d)
		case "max_body":
			h.MaxBody, err = parseSize(d)
		case "max_upload":
			h.MaxUpload, err = parseSize(d)
		case "forward_headers":
			h.ForwardHeaders, err = args(d, nil)
		case "expose_headers":
			h.ExposeHeaders, err = parseSwitch(d)
		default:
			err = unknownOption(d, "provider, max_body, max_upload, rate_limit, token_limit, concurrency, on_limiter_failure, cache, forward_headers, expose_headers")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func parseSize(d *caddyfile.Dispenser) (int64, error) {
	text, err := oneArg(d)
	if err != nil {
		return 0, err
	}
	size, err := humanize.ParseBytes(text)
	if err != nil || size == 0 || size > math.MaxInt64 {
		return 0, d.Errf("%q is not a size; expected a positive one such as 32MiB", text)
	}
	return int64(size), nil
}

func parseAdmin(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	admin := new(Admin)
	return admin, admin.UnmarshalCaddyfile(h.Dispenser)
}

// UnmarshalCaddyfile reads the directive, which has no options:
//
//	llm_proxy_admin [<matcher>]
func (h *Admin) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if err := noArg(d, "llm_proxy_admin takes nothing but a matcher, once"); err != nil {
		return err
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		return d.Errf("unknown option %q; llm_proxy_admin has none", d.Val())
	}
	return nil
}

// Interface guards
var (
	_ caddyfile.Unmarshaler = (*Handler)(nil)
	_ caddyfile.Unmarshaler = (*Admin)(nil)
)
