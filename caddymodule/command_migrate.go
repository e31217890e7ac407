package caddymodule

import (
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/sofatutor/caddy-llm-proxy/internal/cli"
)

// defaultConfig is used when --config is not given and it is there, as Caddy does.
const defaultConfig = "Caddyfile"

func migrateCommand() *cobra.Command {
	return group(&cobra.Command{Use: "migrate", Short: "Looks after the database schema"}, migrateStatus())
}

func migrateStatus() *cobra.Command {
	return leaf("status", "Lists the migrations of the configured database, and changes nothing", 0, 0, func(i *invocation) error {
		c, err := i.config()
		if err != nil {
			return err
		}
		// Without a look at the encryption keys, which this does not need.
		db, err := (&App{logger: c.app.logger, Database: c.app.Database}).databaseConfig()
		if err != nil {
			return err
		}
		return cli.MigrateStatus(i.cmd.Context(), i.out, cli.Database{Driver: db.driver, DSN: db.dsn})
	})
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
