package caddymodule

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sofatutor/caddy-llm-proxy/internal/cli"
)

func doctorCommand() *cobra.Command {
	return leaf("doctor", "Checks configuration, database, secrets, providers and logs, and changes nothing", 0, 0, func(i *invocation) error {
		patient := cli.Patient{}
		c, err := i.config()
		if err != nil {
			patient.ConfigErr = err
		} else {
			patient = c.patient()
		}
		checks, err := cli.Examine(i.cmd.Context(), patient, cli.Trust{CACert: i.text("cacert")})
		if err != nil {
			return err
		}
		return cli.Report(i.out, checks)
	})
}

// patient takes a configuration apart for the doctor. What is wrong with one
// part does not keep the others from being examined.
func (c *loadedConfig) patient() cli.Patient {
	p := cli.Patient{ConfigName: c.name, Config: c.json, ConfigErr: c.validate()}
	db, err := c.app.databaseConfig()
	switch {
	case db.dsn == "":
		p.DatabaseErr = err
	case err != nil:
		p.Key.Err = err
	}
	if db.dsn != "" {
		p.Database = &cli.Database{Driver: db.driver, DSN: db.dsn}
		dir := filepath.Dir(db.dsn)
		p.Key.File = filepath.Join(dir, encryptionKeyName)
		p.Token.File = filepath.Join(dir, managementTokenName)
	}
	if len(c.app.EncryptionKeys) > 0 {
		p.Key.Given = "encryption_key"
	}
	p.Redis, p.RedisErr = c.app.redisSettings()
	c.examineToken(&p.Token)
	p.Providers = c.endpoints()
	return p
}

func (c *loadedConfig) examineToken(s *cli.SecretSource) {
	token, err := c.app.resolveManagementToken()
	switch {
	case err != nil:
		s.Err = err
	case token.IsZero(): // the file's
	case strings.HasPrefix(token.Reveal(), "sk-wt-"):
		s.Bad = "the management token looks like a client token, so every call is refused: give another one"
	case c.app.ManagementToken != "":
		s.Given = "management_token"
	default:
		s.Given = "MANAGEMENT_TOKEN"
	}
}

// endpoints are the configured providers and the presets that handlers name.
func (c *loadedConfig) endpoints() []cli.Endpoint {
	names := slices.AppendSeq(cli.HandlerProviders(c.json), maps.Keys(c.app.Providers))
	slices.Sort(names)
	var list []cli.Endpoint
	for _, name := range slices.Compact(names) {
		e := cli.Endpoint{Name: name}
		p, err := c.app.buildProvider(name)
		if err != nil {
			e.Err = fmt.Errorf("llm_proxy > provider %s > %w", name, err)
		} else {
			e.BaseURL = p.BaseURL()
		}
		list = append(list, e)
	}
	return list
}
