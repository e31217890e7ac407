package caddymodule

import "github.com/caddyserver/caddy/v2"

// version is what the binary calls itself: the version it was branded with, else
// that of its modules.
func version() string {
	simple, _ := caddy.Version()
	return simple
}
