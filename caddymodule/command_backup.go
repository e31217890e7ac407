package caddymodule

import (
	"github.com/spf13/cobra"

	"github.com/sofatutor/caddy-llm-proxy/internal/cli"
)

func backupCommand() *cobra.Command {
	cmd := leaf("backup FILE", "Writes the configured database into a new file, while it is served", 1, 1, func(i *invocation) error {
		c, err := i.config()
		if err != nil {
			return err
		}
		// Secrets stay sealed, so the keys are not looked at.
		app, err := c.sealing()
		if err != nil {
			return err
		}
		db, err := app.place()
		if err != nil {
			return err
		}
		return cli.Backup(i.cmd.Context(), i.out, cli.Database{Driver: db.driver, DSN: db.dsn}, i.arg(0))
	})
	cmd.Long = `Writes the configured database, as it is at one moment, into a new SQLite file,
whatever kind of database it is. The proxy may be running. The file is there when
it is whole. Keep the encryption key too, in another place.`
	return cmd
}

func restoreCommand() *cobra.Command {
	cmd := leaf("restore FILE", "Puts a backup in place of what the configured database holds", 1, 1, func(i *invocation) error {
		e, err := i.encryption()
		if err != nil {
			return err
		}
		return cli.Restore(i.cmd.Context(), i.out, e, i.arg(0), i.on("yes"))
	})
	cmd.Long = `Puts a backup in place of everything that the configured database holds, in one
transaction: whatever happens, it is all of the backup or all as before. The
configuration's encryption_key must hold the keys that the backup is sealed under.
The proxy may be running; it asks for everything again within a second or two.`
	cmd.Flags().Bool("yes", false, "lose what the database holds")
	return cmd
}
