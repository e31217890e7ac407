package caddymodule

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sofatutor/caddy-llm-proxy/internal/cli"
)

// requestsCommand lists requests; its subcommand shows one.
func requestsCommand() *cobra.Command {
	cmd := leaf("requests", "Lists requests, newest first", 0, 0, managed(func(i *invocation, m *cli.Manager) error {
		filter := i.requestFilter()
		if i.on("follow") {
			return i.follow(m.FollowRequests)
		}
		if !i.given("limit") {
			filter.Limit = 100
		}
		return m.ListRequests(i.cmd.Context(), filter)
	}))
	requestFlags(cmd)
	cmd.Flags().String("from", "", "a day, a time, or how long ago: 2030-01-31, 2030-01-31T18:00:00Z, 12h, 7d")
	cmd.Flags().String("to", "", "likewise; a day is shown to its end")
	cmd.Flags().Int("limit", 0, "how many at most; 0: all (default 100)")
	cmd.Flags().Bool("follow", false, "go on with those to come, as events tail does with alerts too")
	cmd.AddCommand(leaf("get ID", "Shows a request, by the X-LLM-Proxy-Request-Id that its client got", 1, 1, managed(func(i *invocation, m *cli.Manager) error {
		return m.GetRequest(i.cmd.Context(), i.arg(0))
	})))
	return cmd
}

func requestFlags(cmd *cobra.Command) {
	ownerFlags(cmd)
	cmd.Flags().String("status", "", "such as 429, or a class such as 5xx")
	cmd.Flags().String("outcome", "", "such as ok, refused, client_cancelled, upstream_error or cut")
}

func (i *invocation) requestFilter() cli.RequestFilter {
	filter := cli.RequestFilter{
		Project: i.text("project"), Token: i.text("token"), Provider: i.text("provider"), Model: i.text("model"),
		Status: i.text("status"), Outcome: i.text("outcome"), From: i.text("from"), To: i.text("to"),
	}
	filter.Limit, _ = i.cmd.Flags().GetInt("limit") // zero where there is none
	return filter
}

// follow shows what is to come until it is interrupted.
func (i *invocation) follow(show func(context.Context, cli.RequestFilter) error) error {
	ctx, stop := signal.NotifyContext(i.cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return show(ctx, i.requestFilter())
}
