package caddymodule

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

// init is the only one: what Caddy learns of us, it learns here.
func init() {
	caddy.RegisterModule(new(App))
	caddy.RegisterModule(new(Handler))
	caddy.RegisterModule(new(Admin))
	caddy.RegisterModule(new(LocalAPI))
	caddy.RegisterModule(new(CertStorage))
	caddy.RegisterModule(new(FileSink))
	caddy.RegisterModule(new(WebhookSink))
	caddy.RegisterModule(new(OTLPSink))
	caddy.RegisterModule(new(RedisStreamSink))

	httpcaddyfile.RegisterGlobalOption("llm_proxy", parseGlobalOption)
	httpcaddyfile.RegisterHandlerDirective("llm_proxy", parseHandler)
	httpcaddyfile.RegisterHandlerDirective("llm_proxy_admin", parseAdmin)
	// Both before reverse_proxy, and the admin side first, so that a site needs no
	// route and no order, in whichever order it names them.
	httpcaddyfile.RegisterDirectiveOrder("llm_proxy_admin", httpcaddyfile.Before, "reverse_proxy")
	httpcaddyfile.RegisterDirectiveOrder("llm_proxy", httpcaddyfile.Before, "reverse_proxy")

	caddycmd.RegisterCommand(command())
}
