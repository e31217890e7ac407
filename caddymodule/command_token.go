package caddymodule

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/sofatutor/caddy-llm-proxy/internal/cli"
)

func tokenCommand() *cobra.Command {
	return group(&cobra.Command{Use: "token", Short: "Manages the tokens that clients send", Aliases: []string{"tokens"}},
		tokenList(), tokenGet(), tokenCreate(), tokenUpdate(), tokenRevoke(), tokenRotate(), tokenInspect())
}

// tokenProject adds --project and the predecessor's name for it.
func tokenProject(cmd *cobra.Command) {
	cmd.Flags().String("project", "", "the project, by id or name")
	cmd.Flags().String("project-id", "", "the same as --project")
	_ = cmd.Flags().MarkHidden("project-id") // the flag exists
}

func (i *invocation) tokenProject() (string, error) {
	project, old := i.text("project"), i.text("project-id")
	if project != "" && old != "" {
		return "", cli.Usagef("give one of --project and --project-id")
	}
	return project + old, nil
}

func tokenList() *cobra.Command {
	cmd := leaf("list", "Lists tokens", 0, 0, func(i *invocation) error {
		filter := i.filter()
		var err error
		if filter.Project, err = i.tokenProject(); err != nil {
			return err
		}
		m, err := i.manager()
		if err != nil {
			return err
		}
		return m.ListTokens(i.cmd.Context(), filter)
	})
	tokenProject(cmd)
	filterFlags(cmd)
	return cmd
}

func tokenGet() *cobra.Command {
	return leaf("get ID", "Shows a token, without its secret", 1, 1, managed(func(i *invocation, m *cli.Manager) error {
		return m.GetToken(i.cmd.Context(), i.arg(0))
	}))
}

func tokenCreate() *cobra.Command {
	cmd := leaf("create --project PROJECT", "Creates a token and prints it, this once", 0, 0, func(i *invocation) error {
		fields, err := i.fields(append(policyNames, "name")...)
		if err != nil {
			return err
		}
		project, err := i.tokenProject()
		if err != nil {
			return err
		}
		m, err := i.manager()
		if err != nil {
			return err
		}
		return m.CreateToken(i.cmd.Context(), project, i.expiry(), fields)
	})
	cmd.Aliases = []string{"generate"}
	tokenProject(cmd)
	tokenFlags(cmd, "30 days")
	return cmd
}

func tokenUpdate() *cobra.Command {
	cmd := leaf("update ID", "Changes a token", 1, 1, func(i *invocation) error {
		fields, err := i.fields(append(policyNames, "name", "is-active")...)
		if err != nil {
			return err
		}
		m, err := i.manager()
		if err != nil {
			return err
		}
		return m.UpdateToken(i.cmd.Context(), i.arg(0), i.expiry(), fields)
	})
	cmd.Flags().Bool("is-active", true, "false revokes, true undoes a revocation")
	tokenFlags(cmd, "as it is")
	return cmd
}

// tokenFlags are those of create and update.
func tokenFlags(cmd *cobra.Command, otherwise string) {
	f := cmd.Flags()
	f.String("name", "", "a name for people")
	f.String("duration", "", "how long from now it works: 30d, 12h, 90m, or a number of minutes (default "+otherwise+")")
	f.String("expires-at", "", "until when it works, such as 2030-01-31T18:00:00Z")
	f.Bool("never", false, "it never expires")
	policyFlags(cmd)
}

func (i *invocation) expiry() cli.Expiry {
	return cli.Expiry{Duration: i.text("duration"), At: i.text("expires-at"), Never: i.on("never")}
}

func tokenRevoke() *cobra.Command {
	cmd := leaf("revoke ID", "Ends a token", 1, 1, managed(func(i *invocation, m *cli.Manager) error {
		return m.RevokeToken(i.cmd.Context(), i.arg(0), i.text("reason"))
	}))
	cmd.Flags().String("reason", "", "why, for the audit record")
	return cmd
}

func tokenRotate() *cobra.Command {
	cmd := leaf("rotate ID", "Creates a token with the same policy and prints it, this once", 1, 1, managed(func(i *invocation, m *cli.Manager) error {
		return m.RotateToken(i.cmd.Context(), i.arg(0), i.text("overlap"))
	}))
	cmd.Flags().String("overlap", "", "how long the old token works beside it, such as 10m (default not at all)")
	return cmd
}

func tokenInspect() *cobra.Command {
	return leaf("inspect [TOKEN|-]", "Tells id and time of issue of a token; needs no proxy", 0, 1, func(i *invocation) error {
		text := i.arg(0)
		if text == "" || text == "-" {
			var err error
			if text, err = cli.ReadToken(i.cmd.InOrStdin()); err != nil {
				return err
			}
		}
		return cli.Inspect(i.out, text, time.Now())
	})
}
