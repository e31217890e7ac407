package caddymodule

import (
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sofatutor/caddy-llm-proxy/internal/cli"
)

// maxDSNFile bounds what is read for a DSN: a wrong file is not read in whole.
const maxDSNFile = 64 << 10

func copyCommand() *cobra.Command {
	cmd := leaf("copy", "Copies one database into another, of the same or another kind", 0, 0, func(i *invocation) error {
		var databases [2]cli.Database
		for n, flag := range []string{"from", "to"} {
			text, err := i.dsn(flag)
			if err != nil {
				return err
			}
			if databases[n], err = cli.ParseDSN(flag, text); err != nil {
				return err
			}
		}
		return cli.CopyDatabase(i.cmd.Context(), i.out, databases[0], databases[1], i.on("replace"))
	})
	cmd.Long = `Copies projects, keys, tokens, the audit trail, secrets and what storage llm_proxy
keeps, as they are at one moment, and compares both sides. The source may be in
use; the target cannot be started until the copy is whole. When the command was
interrupted, run it again: what is there already is not written once more.

Databases are given as sqlite:///path/to/file.db, a path, postgres://user@host/db,
or key=value pairs. Other users of the machine see arguments: write @FILE for a
file that holds it, or leave the password to PGPASSWORD or a password file.`
	f := cmd.Flags()
	f.String("from", "", "database to copy")
	f.String("to", "", "database that is made or continued")
	f.Bool("replace", false, "lose whatever else the target holds")
	return cmd
}

// dsn is the flag's text, or that of the file that it names.
func (i *invocation) dsn(flag string) (string, error) {
	path, isFile := strings.CutPrefix(i.text(flag), "@")
	if !isFile {
		return path, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > maxDSNFile {
		return "", cli.Usagef("--%s: %s is not a file with a DSN", flag, path)
	}
	text, err := os.ReadFile(path)
	return strings.TrimSpace(string(text)), err
}
