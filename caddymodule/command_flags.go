package caddymodule

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/spf13/cobra"

	"github.com/sofatutor/caddy-llm-proxy/internal/cli"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

// The working directory of `make run` keeps its data here.
const workDir = "data"

// globalFlags are those that all subcommands have.
func globalFlags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.String("url", "", "address of the proxy (env LLM_PROXY_URL; default: the content of data/url, else "+cli.DefaultURL+")")
	f.String("management-token", "", "management token, or @FILE, or - for standard input (env MANAGEMENT_TOKEN; default: data/management-token)")
	f.String("cacert", "", "PEM file of a further root certificate to trust")
	f.Bool("json", false, "print one JSON document")
	f.String("config", "", "configuration of the proxy: a Caddyfile or JSON")
	f.String("adapter", "", "adapter of the configuration, when its name does not tell")
}

// invocation is one run of a command.
type invocation struct {
	cmd  *cobra.Command
	args []string
	out  cli.Output
}

func newInvocation(cmd *cobra.Command, args []string) (*invocation, error) {
	i := &invocation{cmd: cmd, args: args, out: cli.Output{Out: cmd.OutOrStdout(), Err: cmd.ErrOrStderr()}}
	i.out.JSON = i.on("json")
	return i, nil
}

// text is the value of a flag.
func (i *invocation) text(flag string) string {
	value, _ := i.cmd.Flags().GetString(flag) // the flag is ours
	return value
}

func (i *invocation) on(flag string) bool {
	value, _ := i.cmd.Flags().GetBool(flag) // the flag is ours
	return value
}

func (i *invocation) given(flag string) bool { return i.cmd.Flags().Changed(flag) }

// arg is the n-th argument, or "".
func (i *invocation) arg(n int) string {
	if n < len(i.args) {
		return i.args[n]
	}
	return ""
}

// secret is a flag's secret, else that of an environment variable, else zero.
func (i *invocation) secret(flag, env string) (secret.Value, error) {
	if i.given(flag) {
		return cli.ReadSecret("--"+flag, i.text(flag), i.cmd.InOrStdin())
	}
	if env == "" || os.Getenv(env) == "" {
		return secret.Value{}, nil
	}
	return cli.SecretFromEnv(env, env)
}

// address is where the proxy is.
func (i *invocation) address() (string, error) {
	given := i.text("url")
	if given == "" {
		given = os.Getenv("LLM_PROXY_URL")
	}
	return cli.FindURL(given, filepath.Join(workDir, "url"))
}

func (i *invocation) trust() cli.Trust {
	root := filepath.Join("pki", "authorities", "local", "root.crt")
	return cli.Trust{
		CACert:     i.text("cacert"),
		LocalRoots: []string{filepath.Join(workDir, "caddy", root), filepath.Join(caddy.AppDataDir(), root)},
	}
}

// manager is a client of the management API, with the token of this installation.
func (i *invocation) manager() (*cli.Manager, error) {
	address, err := i.address()
	if err != nil {
		return nil, err
	}
	token, err := i.managementToken()
	if err != nil {
		return nil, err
	}
	client, err := cli.NewClient(address, token, i.trust())
	if err != nil {
		return nil, err
	}
	if client.InClear() {
		i.out.Notice("warning: the management token is sent unencrypted; use https")
	}
	return &cli.Manager{Client: client, Out: i.out}, nil
}

// managementToken is the flag's, else the environment's, else that of the
// configuration named by --config, else the working directory's.
func (i *invocation) managementToken() (secret.Value, error) {
	token, err := i.secret("management-token", "MANAGEMENT_TOKEN")
	if err != nil {
		return token, err
	}
	var files []string
	if token.IsZero() && i.given("config") {
		c, err := loadConfig(i.text("config"), i.text("adapter"))
		if err != nil {
			return token, err
		}
		if token, err = c.app.resolveManagementToken(); err != nil {
			return token, err
		}
		if db, err := c.app.databaseConfig(); err == nil {
			files = append(files, filepath.Join(filepath.Dir(db.dsn), managementTokenName))
		}
	}
	return cli.ManagementToken(token, append(files, filepath.Join(workDir, managementTokenName))...)
}

// managed makes the body of a command that calls the management API.
func managed(run func(*invocation, *cli.Manager) error) func(*invocation) error {
	return func(i *invocation) error {
		m, err := i.manager()
		if err != nil {
			return err
		}
		return run(i, m)
	}
}

// policyFlags restrict a project or a token.
func policyFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSlice("allowed-models", nil, "models, as globs; empty: all")
	f.StringSlice("allowed-providers", nil, "providers; empty: all")
	f.StringSlice("allowed-endpoints", nil, "endpoints such as /v1/models or /v1/files/*; empty: all")
	f.StringSlice("allowed-ips", nil, "client addresses or CIDR prefixes; empty: all")
	f.StringArray("metadata", nil, "NAME=VALUE that goes into events; can be repeated; replaces what there is")
	f.String("rpm", "", "requests in any minute, or none for no limit")
	f.String("tpm", "", "tokens in any minute, input and output, or none for no limit")
	f.String("concurrency", "", "requests at a time, or none for no limit")
	f.String("max-requests", "", "requests that reach a provider, ever, or none for no limit")
	f.String("budget-usd", "", "US dollars for each budget period, such as 12.50, or none for no budget")
	f.String("budget-period", "", "how long a budget lasts, in UTC: total, day, week (from Monday) or month; none is total")
}

// limitNames are the flags whose value may be none.
var limitNames = []string{"rpm", "tpm", "concurrency", "max-requests", "budget-usd", "budget-period"}

var policyNames = []string{
	"allowed-models", "allowed-providers", "allowed-endpoints", "allowed-ips", "metadata",
	"rpm", "tpm", "concurrency", "max-requests", "budget-usd", "budget-period",
}

// fields are the members of a call's body: those of the flags that were given,
// under the same name.
func (i *invocation) fields(flags ...string) (cli.Fields, error) {
	fields := cli.Fields{}
	for _, name := range flags {
		if !i.given(name) {
			continue
		}
		flag := i.cmd.Flags().Lookup(name)
		member := strings.ReplaceAll(name, "-", "_")
		var err error
		switch kind := flag.Value.Type(); kind {
		case "bool":
			fields[member], err = i.cmd.Flags().GetBool(name)
		case "int":
			fields[member], err = i.cmd.Flags().GetInt(name)
		case "stringSlice":
			fields[member], err = i.cmd.Flags().GetStringSlice(name)
		case "stringArray":
			var pairs []string
			if pairs, err = i.cmd.Flags().GetStringArray(name); err == nil {
				err = fields.SetMetadata(pairs)
			}
		default:
			if slices.Contains(limitNames, name) {
				err = fields.SetLimit(name, i.text(name))
			} else {
				fields[member] = i.text(name)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return fields, nil
}

// filterFlags narrow a list.
func filterFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.String("query", "", "part of the name")
	f.Bool("active", false, "only active ones; --active=false for the others")
	f.Int("limit", 0, "how many at most; 0: all")
}

func (i *invocation) filter() cli.Filter {
	filter := cli.Filter{Query: i.text("query")}
	filter.Limit, _ = i.cmd.Flags().GetInt("limit") // the flag is ours
	if i.given("active") {
		active := i.on("active")
		filter.Active = &active
	}
	return filter
}
