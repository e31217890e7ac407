// Command llm-proxy is Caddy with the LLM proxy modules built in: the binary
// that `make build` writes to bin/caddy.
package main

import (
	_ "time/tzdata" // alert and log times work on images without zoneinfo

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/sofatutor/caddy-llm-proxy/caddymodule"
)

func main() {
	caddycmd.Main()
}
