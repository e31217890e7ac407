package caddymodule

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func command() caddycmd.Command {
	return caddycmd.Command{
		Name:  "llm-proxy",
		Usage: "<command>",
		Short: "Manages the LLM proxy",
		CobraFunc: func(cmd *cobra.Command) {
			addCommands(cmd)
		},
	}
}

func addCommands(*cobra.Command) {}
