package caddymodule

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/sofatutor/caddy-llm-proxy/internal/cli"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

func encryptCommand() *cobra.Command {
	rotate := encryptLeaf("rotate", "Seals all secrets of the configured database under the first encryption key", cli.EncryptRotate)
	rotate.Long = `Seals all secrets of the configured database under the first of the keys that
encryption_key names. The proxy may be running, and must have been reloaded with
the same keys before. When the command was interrupted, run it again.`
	return group(&cobra.Command{Use: "encrypt", Short: "Looks after the keys that seal the database's secrets"},
		encryptLeaf("status", "Lists the encryption keys and how many rows need each of them", cli.EncryptStatus), rotate)
}

type encryptRun func(context.Context, cli.Output, cli.Encryption) error

// encryptLeaf makes a command that opens the configured database with the
// configured keys.
func encryptLeaf(use, short string, run encryptRun) *cobra.Command {
	return leaf(use, short, 0, 0, func(i *invocation) error {
		e, err := i.encryption()
		if err != nil {
			return err
		}
		return run(i.cmd.Context(), i.out, e)
	})
}

// encryption is the configured database with the configured keys.
func (i *invocation) encryption() (cli.Encryption, error) {
	c, err := i.config()
	if err != nil {
		return cli.Encryption{}, err
	}
	app, err := c.sealing()
	if err != nil {
		return cli.Encryption{}, err
	}
	cfg, err := app.databaseConfig()
	if err != nil {
		return cli.Encryption{}, err
	}
	return cli.Encryption{
		Database: cli.Database{Driver: cfg.driver, DSN: cfg.dsn},
		Keyring: func() (*secret.Keyring, error) {
			return (&database{cfg: cfg, logger: slog.New(slog.DiscardHandler)}).keyring()
		},
	}, nil
}

// sealing is the app, or what the storage option has in its place when there is
// no app: a database and keys.
func (c *loadedConfig) sealing() (*App, error) {
	var cfg struct {
		Storage struct {
			Module string `json:"module"`
			CertStorage
		} `json:"storage"`
		Apps struct {
			Proxy json.RawMessage `json:"llm_proxy"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(c.json, &cfg); err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if len(cfg.Apps.Proxy) > 0 || cfg.Storage.Module != "llm_proxy" || cfg.Storage.Database == nil {
		return c.app, nil
	}
	return &App{Database: cfg.Storage.Database, EncryptionKeys: cfg.Storage.EncryptionKeys, logger: c.app.logger}, nil
}
