package caddymodule

import (
	"github.com/spf13/cobra"

	"github.com/sofatutor/caddy-llm-proxy/internal/cli"
)

func cacheCommand() *cobra.Command {
	return group(&cobra.Command{Use: "cache", Short: "Looks after the response cache"}, cachePurge(), cacheStats())
}

func cachePurge() *cobra.Command {
	cmd := leaf("purge (--path PATH [--method METHOD] | --prefix PATH | --pattern GLOB | --project PROJECT | --model MODEL | --key KEY | --all)",
		"Forgets stored answers, on all nodes", 0, 0, managed(func(i *invocation, m *cli.Manager) error {
			return m.PurgeCache(i.cmd.Context(), cli.Purge{
				Key: i.text("key"), Path: i.text("path"), Method: i.text("method"), Prefix: i.text("prefix"), Pattern: i.text("pattern"),
				Project: i.text("project"), Model: i.text("model"), All: i.on("all"),
			})
		}))
	f := cmd.Flags()
	f.String("path", "", "a path with its query, such as '/v1/models?limit=2', or a whole URL")
	f.String("method", "", "with --path: only what was asked with this method")
	f.String("prefix", "", "paths that begin so, such as /v1/files/")
	f.String("pattern", "", "paths that match a glob, such as '/v1/*/content'")
	f.String("project", "", "what this project has asked, by id or name")
	f.String("model", "", "what was asked of this model")
	f.String("key", "", "a key of the cache, in hexadecimal")
	f.Bool("all", false, "everything")
	return cmd
}

func cacheStats() *cobra.Command {
	return leaf("stats", "Shows what is cached, and what of it was used", 0, 0, managed(func(i *invocation, m *cli.Manager) error {
		return m.CacheStats(i.cmd.Context())
	}))
}
