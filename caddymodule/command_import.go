package caddymodule

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/sofatutor/caddy-llm-proxy/internal/cli"
	"github.com/sofatutor/caddy-llm-proxy/internal/predecessor"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

func importCommand() *cobra.Command {
	return group(&cobra.Command{Use: "import", Short: "Takes over what another program left"}, importPredecessor())
}

const predecessorKeyEnv = "PREDECESSOR_ENCRYPTION_KEY"

func importPredecessor() *cobra.Command {
	cmd := leaf("predecessor", "Takes over projects, keys, tokens and audit of sofatutor/llm-proxy", 0, 0, func(i *invocation) error {
		in, err := i.predecessor()
		if err != nil {
			return err
		}
		if in.From == "" { // only --providers
			return cli.ShowCaddyfile(i.out, in.Caddyfile)
		}
		return cli.ImportPredecessor(i.cmd.Context(), i.out, *in)
	})
	cmd.Long = `Adds the projects, provider keys, tokens and audit events of sofatutor/llm-proxy to
the configured database. Its tokens go on working. The proxy may be running; the
predecessor's database is only read. What is there already stays as it is, so a
second run adds what is new. Rows that cannot be imported are named, and do not
keep others from being imported; the exit code is 1 then.

--providers writes the predecessor's api_providers.yaml as provider blocks, which
the option llm_proxy of a Caddyfile can import.`
	f := cmd.Flags()
	f.String("database", "", "the predecessor's database: SQLite file, PostgreSQL DSN, or @FILE that holds one of them")
	f.String("encryption-key-file", "", "file with the predecessor's ENCRYPTION_KEY (env "+predecessorKeyEnv+")")
	f.String("providers", "", "the predecessor's api_providers.yaml")
	f.String("providers-out", "", "file for the provider blocks (default: standard output)")
	f.Bool("dry-run", false, "tell what would be imported, and write nothing")
	return cmd
}

// predecessor reads the flags, and everything that can be wrong before a database
// is touched.
func (i *invocation) predecessor() (*cli.Import, error) {
	in := &cli.Import{Provider: cli.DefaultImportProvider, DryRun: i.on("dry-run")}
	if !i.given("database") && !i.given("providers") {
		return nil, cli.Usagef("give --database, --providers, or both; see --help")
	}
	if i.given("providers-out") && !i.given("providers") {
		return nil, cli.Usagef("--providers-out needs --providers")
	}
	var err error
	if i.given("database") {
		if err = i.predecessorDatabase(in); err != nil {
			return nil, err
		}
	}
	if !i.given("providers") {
		return in, nil
	}
	if in.Caddyfile, in.Provider, err = cli.ConvertProviders(i.out, i.text("providers")); err != nil {
		return nil, err
	}
	if path := i.text("providers-out"); path != "" && !in.DryRun {
		if err := cli.KeepCaddyfile(path, in.Caddyfile); err != nil {
			return nil, err
		}
		in.Caddyfile = ""
	}
	return in, nil
}

func (i *invocation) predecessorDatabase(in *cli.Import) (err error) {
	if in.From, err = cli.ReadPredecessorDSN(i.text("database")); err != nil {
		return err
	}
	if in.From == "" {
		return cli.Usagef("--database is empty: give a SQLite file or a PostgreSQL DSN")
	}
	var key secret.Value
	switch {
	case i.given("encryption-key-file"):
		key, err = cli.ReadSecret("--encryption-key-file", "@"+i.text("encryption-key-file"), nil)
	case os.Getenv(predecessorKeyEnv) != "":
		key, err = cli.SecretFromEnv(predecessorKeyEnv, predecessorKeyEnv)
	}
	if err != nil {
		return err
	}
	if !key.IsZero() {
		if in.Opener, err = predecessor.NewOpener(key); err != nil {
			return fmt.Errorf("the predecessor's encryption key %w", err)
		}
	}
	in.To, err = i.encryption()
	return err
}
