package caddymodule

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/sofatutor/caddy-llm-proxy/internal/cli"
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

// command is `caddy llm-proxy`. What its subcommands do is in package cli; here
// are their flags, and Caddy's side of configurations.
func command() caddycmd.Command {
	return caddycmd.Command{
		Name:  "llm-proxy",
		Usage: "<command>",
		Short: "Manages the LLM proxy",
		Long: `Manages projects, provider keys and tokens of a running proxy, and helps to
set one up. Exit codes: 0 done, 1 failed, 2 wrong usage.`,
		CobraFunc: func(cmd *cobra.Command) {
			group(cmd,
				projectCommand(), keyCommand(), tokenCommand(), migrateCommand(), encryptCommand(), importCommand(),
				copyCommand(), backupCommand(), restoreCommand(), auditCommand(), usageCommand(), requestsCommand(), eventsCommand(), cacheCommand(), keygenCommand(), chatCommand(), simulateCommand(), doctorCommand(),
			)
			globalFlags(cmd)
			// Subcommands without one of their own use it too.
			cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return finish(cmd, flagError(err)) })
		},
	}
}

// group makes a command that only has subcommands. Cobra would show the help
// and succeed when there is none of that name.
func group(cmd *cobra.Command, subcommands ...*cobra.Command) *cobra.Command {
	var names []string
	for _, sub := range subcommands {
		names = append(names, sub.Name())
	}
	cmd.AddCommand(subcommands...)
	cmd.FParseErrWhitelist.UnknownFlags = true // those of a command that does not exist
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) > 0 && args[0] == "help":
			return cmd.Help()
		case len(args) > 0:
			return finish(cmd, cli.Usagef("unknown command %s for %s: expected one of %s", word(args[0]), cmd.CommandPath(), strings.Join(names, ", ")))
		}
		return finish(cmd, cli.Usagef("%s needs a command: one of %s", cmd.CommandPath(), strings.Join(names, ", ")))
	}
	return cmd
}

// leaf makes a command that does something with least to most arguments.
func leaf(use, short string, least, most int, run func(*invocation) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short,
		SilenceErrors: true, SilenceUsage: true,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			i, err := newInvocation(cmd, args)
			switch {
			case err != nil:
			case len(args) < least, len(args) > most:
				err = cli.Usagef("wrong number of arguments: expected %s", cmd.UseLine())
			default:
				err = run(i)
			}
			return finish(cmd, err)
		},
	}
}

// finish prints an error and turns it into one that makes Caddy's main exit with
// the right code, in silence.
func finish(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	fmt.Fprintln(cmd.ErrOrStderr(), cli.OneLine(err.Error()))
	if !cli.IsUsage(err) {
		return err // Caddy exits with 1
	}
	exit := func(caddycmd.Flags) (int, error) { return exitUsage, nil }
	return caddycmd.WrapCommandFuncForCobra(exit)(cmd, nil)
}

// flagError says what is wrong with a flag without repeating its value, which
// may be a secret.
func flagError(err error) error {
	var specified interface{ GetSpecifiedName() string }
	var invalid interface{ GetValue() string }
	switch {
	case errors.As(err, &invalid):
		flag := "a flag"
		if found := flagPattern.FindStringSubmatch(strings.ReplaceAll(err.Error(), invalid.GetValue(), "")); found != nil {
			flag = found[1]
		}
		return cli.Usagef("%s: the value is not of the right kind; see --help", flag)
	case errors.As(err, &specified) && strings.HasPrefix(err.Error(), "flag needs"):
		return cli.Usagef("--%s needs a value", word(specified.GetSpecifiedName()))
	case errors.As(err, &specified):
		name := word(specified.GetSpecifiedName())
		return cli.Usagef("unknown flag %s%s; see --help", map[bool]string{true: "-", false: "--"}[len(name) == 1], name)
	}
	return cli.Usagef("a flag is malformed; see --help")
}

var (
	flagPattern = regexp.MustCompile(`(--[a-z-]+)" flag`)
	wordPattern = regexp.MustCompile(`^[a-z][a-z-]{0,30}$`)
)

// word repeats what may be a mistyped name, but nothing that may be a secret.
func word(text string) string {
	if wordPattern.MatchString(text) {
		return text
	}
	return "(not shown)"
}
