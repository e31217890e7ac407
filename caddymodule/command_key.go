package caddymodule

import (
	"github.com/spf13/cobra"

	"github.com/sofatutor/caddy-llm-proxy/internal/cli"
)

func keyCommand() *cobra.Command {
	return group(&cobra.Command{Use: "key", Short: "Manages the provider keys of projects", Aliases: []string{"keys"}},
		keyList(), keyAdd(), keyUpdate(), keyRemove())
}

// keyLeaf makes a command on a project's keys. The project is the first
// argument, or --project; run gets the arguments after it.
func keyLeaf(use, short string, rest int, run func(i *invocation, project string) error) *cobra.Command {
	cmd := leaf(use, short, 0, rest+1, func(i *invocation) error {
		project := i.text("project")
		if project == "" && len(i.args) > 0 {
			project, i.args = i.args[0], i.args[1:]
		}
		if project == "" || len(i.args) != rest {
			return cli.Usagef("wrong number of arguments: expected %s", i.cmd.UseLine())
		}
		return run(i, project)
	})
	cmd.Flags().String("project", "", "the project, by id or name, instead of the first argument")
	return cmd
}

func keyList() *cobra.Command {
	return keyLeaf("list PROJECT", "Lists a project's keys", 0, func(i *invocation, project string) error {
		m, err := i.manager()
		if err != nil {
			return err
		}
		return m.ListKeys(i.cmd.Context(), project)
	})
}

func keyAdd() *cobra.Command {
	cmd := keyLeaf("add PROJECT", "Gives a project a key", 0, func(i *invocation, project string) error {
		fields, err := i.keyFields("provider", "label", "weight", "priority", "is-active")
		if err != nil {
			return err
		}
		m, err := i.manager()
		if err != nil {
			return err
		}
		return m.AddKey(i.cmd.Context(), project, fields)
	})
	cmd.Flags().String("provider", "", "the provider that the key is for, such as openai")
	keyFlags(cmd)
	return cmd
}

func keyUpdate() *cobra.Command {
	cmd := keyLeaf("update PROJECT KEY", "Changes or replaces a key, by id or provider", 1, func(i *invocation, project string) error {
		fields, err := i.keyFields("label", "weight", "priority", "is-active")
		if err != nil {
			return err
		}
		m, err := i.manager()
		if err != nil {
			return err
		}
		return m.UpdateKey(i.cmd.Context(), project, i.arg(0), fields)
	})
	keyFlags(cmd)
	return cmd
}

func keyRemove() *cobra.Command {
	return keyLeaf("remove PROJECT KEY", "Takes a key from a project, by id or provider", 1, func(i *invocation, project string) error {
		m, err := i.manager()
		if err != nil {
			return err
		}
		return m.RemoveKey(i.cmd.Context(), project, i.arg(0))
	})
}

// keyFlags are those of add and update.
func keyFlags(cmd *cobra.Command) {
	apiKeyFlags(cmd, "the provider's key")
	f := cmd.Flags()
	f.String("label", "", "a name for people")
	f.Int("weight", 1, "share among the project's keys of this provider")
	f.Int("priority", 0, "lower is tried first")
	f.Bool("is-active", true, "whether it is used")
}

func (i *invocation) keyFields(flags ...string) (cli.Fields, error) {
	fields, err := i.fields(flags...)
	if err != nil {
		return nil, err
	}
	return fields, i.apiKey(fields)
}
