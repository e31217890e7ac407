package caddymodule

import (
	"github.com/spf13/cobra"

	"github.com/sofatutor/caddy-llm-proxy/internal/cli"
)

func projectCommand() *cobra.Command {
	return group(&cobra.Command{Use: "project", Short: "Manages projects", Aliases: []string{"projects"}},
		projectList(), projectGet(), projectCreate(), projectUpdate(), projectActivate(), projectDeactivate())
}

func projectList() *cobra.Command {
	cmd := leaf("list", "Lists projects", 0, 0, managed(func(i *invocation, m *cli.Manager) error {
		return m.ListProjects(i.cmd.Context(), i.filter())
	}))
	filterFlags(cmd)
	return cmd
}

func projectGet() *cobra.Command {
	return leaf("get PROJECT", "Shows a project, by id or name", 1, 1, managed(func(i *invocation, m *cli.Manager) error {
		return m.GetProject(i.cmd.Context(), i.arg(0))
	}))
}

func projectCreate() *cobra.Command {
	cmd := leaf("create NAME", "Creates a project", 1, 1, func(i *invocation) error {
		fields, err := i.fields(append(policyNames, "provider", "is-active", "use-shared-keys", "allow-unpriced", "allow-unbounded")...)
		if err != nil {
			return err
		}
		if err := i.apiKey(fields); err != nil {
			return err
		}
		if fields["provider"] != nil && fields["api_key"] == nil {
			return cli.Usagef("--provider says whose key --api-key is: give both or none")
		}
		m, err := i.manager()
		if err != nil {
			return err
		}
		return m.CreateProject(i.cmd.Context(), i.arg(0), fields)
	})
	apiKeyFlags(cmd, "a first provider key")
	cmd.Flags().String("provider", "", "provider of that key (default openai)")
	projectFlags(cmd)
	return cmd
}

// projectFlags are those of create and update.
func projectFlags(cmd *cobra.Command) {
	cmd.Flags().Bool("is-active", true, "whether its tokens work")
	cmd.Flags().Bool("use-shared-keys", true, "whether it may use a provider's configured key when it has none of its own")
	policyFlags(cmd)
	cmd.Flags().Bool("allow-unpriced", false, "whether models without a known price may be used although there is a budget")
	cmd.Flags().Bool("allow-unbounded", false, "whether work without a bound on its cost may be asked for although there is a budget")
}

func projectUpdate() *cobra.Command {
	cmd := leaf("update PROJECT", "Changes a project, by id or name", 1, 1, func(i *invocation) error {
		fields, err := i.fields(append(policyNames, "name", "is-active", "revoke-tokens", "use-shared-keys", "allow-unpriced", "allow-unbounded")...)
		if err != nil {
			return err
		}
		return i.updateProject(fields)
	})
	cmd.Flags().String("name", "", "new name")
	cmd.Flags().Bool("revoke-tokens", false, "revoke all its tokens for good; needs --is-active=false")
	projectFlags(cmd)
	return cmd
}

func projectActivate() *cobra.Command {
	return leaf("activate PROJECT", "Lets a project's tokens work again", 1, 1, func(i *invocation) error {
		return i.updateProject(cli.Fields{"is_active": true})
	})
}

func projectDeactivate() *cobra.Command {
	cmd := leaf("deactivate PROJECT", "Has a project's tokens refused", 1, 1, func(i *invocation) error {
		fields := cli.Fields{"is_active": false}
		if i.on("revoke-tokens") {
			fields["revoke_tokens"] = true
		}
		return i.updateProject(fields)
	})
	cmd.Flags().Bool("revoke-tokens", false, "revoke all its tokens for good")
	return cmd
}

func (i *invocation) updateProject(fields cli.Fields) error {
	m, err := i.manager()
	if err != nil {
		return err
	}
	return m.UpdateProject(i.cmd.Context(), i.arg(0), fields)
}

// apiKeyFlags are the ways to give a provider key.
func apiKeyFlags(cmd *cobra.Command, what string) {
	cmd.Flags().String("api-key", "", what+": - for standard input, @FILE, or the key itself, which other users of this machine can see")
	cmd.Flags().String("api-key-env", "", "environment variable that holds the key")
}

// apiKey sets api_key when one of the flags was given.
func (i *invocation) apiKey(fields cli.Fields) error {
	direct, env := i.given("api-key"), i.given("api-key-env")
	switch {
	case direct && env:
		return cli.Usagef("give one of --api-key and --api-key-env")
	case direct:
		key, err := cli.ReadSecret("--api-key", i.text("api-key"), i.cmd.InOrStdin())
		if err != nil {
			return err
		}
		fields["api_key"] = key.Reveal()
	case env:
		key, err := cli.SecretFromEnv("--api-key-env", i.text("api-key-env"))
		if err != nil {
			return err
		}
		fields["api_key"] = key.Reveal()
	}
	return nil
}
