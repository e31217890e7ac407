package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/migrations"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// Database is where a configuration keeps its data.
type Database struct {
	Driver string
	DSN    string // for sqlite the file's absolute path
}

// String is the database as it may be shown.
func (d Database) String() string {
	if d.Driver == "sqlite" {
		return d.DSN
	}
	return d.Driver + " database"
}

type migrationView struct {
	Version   int64      `json:"version"`
	Name      string     `json:"name"`
	Applied   bool       `json:"applied"`
	AppliedAt *time.Time `json:"applied_at,omitempty"`
}

// schema is the state of a database as far as it can be known without opening
// it for work.
type schema struct {
	Database   string          `json:"database"`
	Exists     bool            `json:"exists"`
	Migrations []migrationView `json:"migrations"`

	pending, unknown int
	version          int64
}

// readSchema looks at a database. It makes and changes nothing.
func readSchema(ctx context.Context, d Database) (*schema, error) {
	s := &schema{Database: d.String(), Exists: true}
	if d.Driver == "sqlite" {
		info, err := os.Stat(d.DSN)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			s.Exists = false
		case err != nil:
			return nil, fmt.Errorf("looking for the database: %w", err)
		case info.IsDir():
			return nil, fmt.Errorf("the database %s is a directory: give the path of a file", d.DSN)
		}
	}
	db, err := schemaOnly(d)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	list, err := db.MigrationStatus(ctx)
	if err != nil {
		return nil, err
	}
	newest := int64(0) // of this binary
	for _, m := range list {
		if m.Name != migrations.Unknown {
			newest = max(newest, m.Version)
		}
	}
	for _, m := range list {
		view := migrationView{Version: m.Version, Name: m.Name, Applied: m.Applied}
		switch {
		case !m.Applied:
			s.pending++
		case m.Version > newest:
			s.unknown++
		}
		if m.Applied {
			at := m.AppliedAt
			view.AppliedAt, s.version = &at, max(s.version, m.Version)
		}
		s.Migrations = append(s.Migrations, view)
	}
	return s, nil
}

// problem says why the database is not ready for this binary, or nil.
func (s *schema) problem() error {
	switch {
	case !s.Exists:
		return fmt.Errorf("the database %s does not exist: the first start makes it; if there should be one, check the path and the working directory", s.Database)
	case s.unknown > 0:
		return fmt.Errorf("the database is at version %d, newer than this binary: run the newer binary, or restore a backup made before the upgrade", s.version)
	case s.pending > 0:
		return fmt.Errorf("%s pending: start the proxy, which applies what is pending, or run migrate up", plural(s.pending, "migration is", "migrations are"))
	}
	return nil
}

// MigrateStatus lists the migrations of a database. Pending ones, and a database
// that does not exist, are errors.
func MigrateStatus(ctx context.Context, out Output, d Database) error {
	s, err := readSchema(ctx, d)
	if err != nil {
		return err
	}
	if out.JSON {
		err = out.value(s)
	} else {
		rows := make([][]string, 0, len(s.Migrations))
		for _, m := range s.Migrations {
			state := "pending"
			if m.Applied {
				state = "applied"
			}
			rows = append(rows, []string{strconv.FormatInt(m.Version, 10), m.Name, state, timeText(m.AppliedAt, "")})
		}
		err = out.table([]string{"VERSION", "NAME", "STATE", "APPLIED"}, rows)
	}
	if err != nil {
		return err
	}
	return s.problem()
}

// schemaOnly is a database whose schema is looked at or changed, but none of
// its secrets: that needs no key of its own.
func schemaOnly(d Database) (*storage.DB, error) {
	ring, err := anyKeyring()
	if err != nil {
		return nil, err
	}
	return storage.New(storage.Config{Driver: d.Driver, DSN: d.DSN, Keyring: ring})
}

// anyKeyring is for work that opens no secret.
func anyKeyring() (*secret.Keyring, error) {
	key, err := secret.ParseKey(secret.NewKey())
	if err != nil {
		return nil, err
	}
	return secret.NewKeyring(key)
}

// Latest stands for the newest version in [MigrateTo], Previous for the one
// before the database's own.
const (
	Latest   = -1
	Previous = -2
)

// MigrateTo migrates a database to a version. What goes down loses data, and so
// needs consent.
func MigrateTo(ctx context.Context, out Output, d Database, target int64, consent bool) error {
	s, err := readSchema(ctx, d)
	if err != nil {
		return err
	}
	db, err := schemaOnly(d)
	if err != nil {
		return err
	}
	defer db.Close()
	switch target {
	case Latest:
		if target, err = db.LatestVersion(); err != nil {
			return err
		}
	case Previous:
		target = max(s.version-1, 0)
	}
	if target < s.version && !consent {
		return Usagef("going from version %d down to %d loses what the newer schema holds: make a backup, stop the proxy, and say --yes", s.version, target)
	}
	before, after, err := db.MigrateTo(ctx, target)
	if err != nil {
		return err
	}
	if out.JSON {
		return out.value(map[string]int64{"before": before, "after": after})
	}
	return out.details("before", strconv.FormatInt(before, 10), "after", strconv.FormatInt(after, 10))
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}
