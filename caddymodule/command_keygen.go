package caddymodule

import (
	"github.com/spf13/cobra"

	"github.com/sofatutor/caddy-llm-proxy/internal/cli"
)

func keygenCommand() *cobra.Command {
	return leaf("keygen", "Prints a new key for encryption_key", 0, 0, func(i *invocation) error {
		return cli.Keygen(i.out)
	})
}
