package caddymodule

import (
	"github.com/spf13/cobra"

	"github.com/sofatutor/caddy-llm-proxy/internal/cli"
)

func usageCommand() *cobra.Command {
	cmd := leaf("usage", "Sums up what requests have used, with a bar for each day", 0, 0, managed(func(i *invocation, m *cli.Manager) error {
		by, _ := i.cmd.Flags().GetStringSlice("by") // the flag is ours
		return m.ShowUsage(i.cmd.Context(), cli.UsageQuery{
			From: i.text("from"), To: i.text("to"), By: by, Project: i.text("project"), Token: i.text("token"),
			Provider: i.text("provider"), Model: i.text("model"), EndUser: i.text("end-user"), CSV: i.on("csv"),
		})
	}))
	f := cmd.Flags()
	f.StringSlice("by", []string{"model"}, "what the rows are for: project, token, provider, model, end_user, and hour or day; '' for one row")
	f.String("from", "", "a day, a time, or how long ago: 2030-01-31, 2030-01-31T18:00:00Z, 12h, 7d (default: 30 days ago)")
	f.String("to", "", "likewise; a day is shown to its end (default: now)")
	ownerFlags(cmd)
	f.String("end-user", "", "only of this end user")
	f.Bool("csv", false, "print CSV")
	return cmd
}

// ownerFlags narrow what is shown to some requests.
func ownerFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.String("project", "", "only of this project, by id or name")
	f.String("token", "", "only of this token, or of its id")
	f.String("provider", "", "only of this provider")
	f.String("model", "", "only of this model, as it was asked for")
}
