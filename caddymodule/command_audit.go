package caddymodule

import (
	"github.com/spf13/cobra"

	"github.com/sofatutor/caddy-llm-proxy/internal/cli"
)

// auditCommand lists the audit; with an id it shows that record.
func auditCommand() *cobra.Command {
	cmd := leaf("audit [ID]", "Lists what was done and what was refused, newest first, or shows one record", 0, 1, managed(func(i *invocation, m *cli.Manager) error {
		if i.arg(0) != "" {
			return m.GetAudit(i.cmd.Context(), i.arg(0))
		}
		filter := cli.AuditFilter{
			Action: i.text("action"), Actor: i.text("actor"), Outcome: i.text("outcome"), ClientIP: i.text("client-ip"),
			RequestID: i.text("request-id"), Method: i.text("method"), Path: i.text("path"), Search: i.text("search"),
			Project: i.text("project"), Token: i.text("token"), Target: i.text("target"),
			Since: i.text("since"), Until: i.text("until"),
		}
		filter.Limit, _ = i.cmd.Flags().GetInt("limit") // the flag is ours
		return m.ListAudit(i.cmd.Context(), filter)
	}))
	f := cmd.Flags()
	f.String("action", "", "such as token.create, management.login or proxy.denied")
	f.String("actor", "", "such as management_token")
	f.String("outcome", "", "success, denied or failure")
	f.String("client-ip", "", "address of the client")
	f.String("request-id", "", "X-Request-Id of the call")
	f.String("method", "", "HTTP method of the call")
	f.String("path", "", "whole path of the call")
	f.String("search", "", "part of any text or id")
	f.String("project", "", "project, by id or name")
	f.String("token", "", "token, or its id")
	f.String("target", "", "id of what was changed")
	f.String("since", "", "a time, or how long ago: 2030-01-31T18:00:00Z, 12h, 7d")
	f.String("until", "", "likewise")
	f.Int("limit", 100, "how many at most; 0: all")
	return cmd
}
