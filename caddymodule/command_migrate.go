package caddymodule

import (
	"errors"
	"io/fs"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sofatutor/caddy-llm-proxy/internal/cli"
)

// defaultConfig is used when --config is not given and it is there, as Caddy does.
const defaultConfig = "Caddyfile"

func migrateCommand() *cobra.Command {
	return group(&cobra.Command{Use: "migrate", Short: "Looks after the database schema"},
		migrateStatus(),
		migrateTo("up", "Applies every pending migration", 0, func(string) (int64, error) { return cli.Latest, nil }),
		migrateTo("down", "Takes the last migration back, with the data that it holds", 0, func(string) (int64, error) { return cli.Previous, nil }),
		migrateTo("to VERSION", "Migrates up or down to a version", 1, func(arg string) (int64, error) {
			version, err := strconv.ParseInt(arg, 10, 64)
			if err != nil || version < 0 {
				return 0, cli.Usagef("%q is not a version; migrate status lists them", arg)
			}
			return version, nil
		}))
}

func migrateStatus() *cobra.Command {
	return leaf("status", "Lists the migrations of the configured database, and changes nothing", 0, 0, func(i *invocation) error {
		c, err := i.config()
		if err != nil {
			return err
		}
		// Without a look at the encryption keys, which this does not need.
		db, err := c.app.place()
		if err != nil {
			return err
		}
		return cli.MigrateStatus(i.cmd.Context(), i.out, cli.Database{Driver: db.driver, DSN: db.dsn})
	})
}

func migrateTo(use, short string, args int, target func(string) (int64, error)) *cobra.Command {
	cmd := leaf(use, short, args, args, func(i *invocation) error {
		version, err := target(i.arg(0))
		if err != nil {
			return err
		}
		c, err := i.config()
		if err != nil {
			return err
		}
		db, err := c.app.place()
		if err != nil {
			return err
		}
		return cli.MigrateTo(i.cmd.Context(), i.out, cli.Database{Driver: db.driver, DSN: db.dsn}, version, i.on("yes"))
	})
	cmd.Flags().Bool("yes", false, "go down although data is lost")
	return cmd
}

// config is the configuration that --config names, else the Caddyfile of the
// working directory, else defaults.
func (i *invocation) config() (*loadedConfig, error) {
	name := i.text("config")
	if name == "" {
		if _, err := os.Stat(defaultConfig); err == nil {
			name = defaultConfig
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return loadConfig(name, i.text("adapter"))
}
