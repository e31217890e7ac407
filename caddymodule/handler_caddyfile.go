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
//		forward_headers <globs...>
//		expose_headers on|off
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.ArgErr()
	}
	seen := make(once)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		err := seen.add(d, option)
		if err != nil {
			return err
		}
		switch option {
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
			err = unknownOption(d, "provider, max_body, max_upload, forward_headers, expose_headers")
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
	if d.NextArg() {
		return d.ArgErr()
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
