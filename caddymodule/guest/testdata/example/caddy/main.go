// Command caddy is Caddy with the proxy and the example sink, as xcaddy makes it.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "example.com/printer"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	_ "github.com/sofatutor/caddy-llm-proxy/caddymodule"
)

func main() { caddycmd.Main() }
