package caddymodule

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

const (
	driverSQLite   = "sqlite"
	driverPostgres = "postgres"
)

// Database says where projects, keys and tokens are kept.
type Database struct {
	// The kind of database: sqlite or postgres. Default: sqlite.
	Driver string `json:"driver,omitempty"`

	// For sqlite the path of the file; its directory is made when it does not exist.
	// For postgres a URL or key=value pairs as libpq has them, TLS parameters
	// included; write it as {env.NAME} or {file./path} when it holds a password.
	DSN string `json:"dsn,omitempty"`

	// How long tokens that are known go on being accepted while the database cannot
	// be asked. 0 means not at all. Default: 5m.
	StoreOutageGrace *caddy.Duration `json:"store_outage_grace,omitempty"`

	// Whether an older schema is migrated at start, rather than refused. Default: true.
	Migrate *bool `json:"migrate,omitempty"`

	// postgres: how many connections this node uses, at least 4. Default: 16.
	MaxConns int `json:"max_conns,omitempty"`

	// postgres: how long one statement may take. Default: 5s.
	StatementTimeout caddy.Duration `json:"statement_timeout,omitempty"`
}

// databaseConfig is a Database with everything resolved.
type databaseConfig struct {
	driver           string
	dsn              string
	keys             [][]byte // encryption keys; none: a file beside the SQLite database
	fixedKeys        [][]byte // keys, when nobody can replace them
	outageGrace      time.Duration
	noMigrate        bool
	maxConns         int
	statementTimeout time.Duration
}

// key names the database in the shared pool without revealing its settings. A
// configuration with other encryption keys shares it, unless they never change.
func (c databaseConfig) key() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %s %v %d %s", c.driver, c.dsn, c.outageGrace, c.noMigrate, c.maxConns, c.statementTimeout)
	for _, k := range c.fixedKeys {
		sum := sha256.Sum256(k)
		h.Write(sum[:])
	}
	return "db:" + hex.EncodeToString(h.Sum(nil)[:16])
}

// place is where the database is, without a look at the encryption keys.
func (a *App) place() (databaseConfig, error) {
	cfg := databaseConfig{driver: driverSQLite}
	db := a.Database
	if db == nil {
		db = new(Database)
	}
	if db.Driver != "" {
		cfg.driver = db.Driver
	}
	if err := db.apply(&cfg); err != nil {
		return cfg, fmt.Errorf("llm_proxy > database: %w", err)
	}
	if cfg.dsn == db.DSN && holdsPassword(cfg.dsn) && a.logger != nil {
		a.logger.Warn("a password is written into the configuration, where GET /config/ and the autosave file show it: use {env.NAME} or {file./path} instead of a literal or {$NAME}", "option", "llm_proxy > database")
	}
	return cfg, nil
}

// holdsPassword reports whether a PostgreSQL URL, or its key=value form, has one.
func holdsPassword(dsn string) bool {
	if u, err := url.Parse(dsn); err == nil && u.Scheme != "" {
		_, has := u.User.Password()
		return has || u.Query().Has("password")
	}
	return strings.Contains(dsn, "password=")
}

func (a *App) databaseConfig() (databaseConfig, error) {
	cfg, err := a.place()
	if err != nil {
		return cfg, err
	}
	for i, text := range a.EncryptionKeys {
		option := "llm_proxy > encryption_key"
		if i > 0 {
			option = fmt.Sprintf("llm_proxy > encryption_key (older key %d)", i)
		}
		value, err := a.resolveSecret(option, text)
		if err != nil {
			return cfg, err
		}
		key, err := secret.ParseKey(value.Reveal())
		if err != nil {
			return cfg, fmt.Errorf("%s: %w", option, err)
		}
		cfg.keys = append(cfg.keys, key)
	}
	if len(cfg.keys) == 0 && cfg.driver == driverPostgres {
		return cfg, errors.New("llm_proxy > encryption_key: must be set with PostgreSQL, since all nodes need the same one; make it with `caddy llm-proxy keygen` and write {env.NAME} or {file./path}")
	}
	return cfg, nil
}

// apply resolves all but the keys.
func (db *Database) apply(cfg *databaseConfig) (err error) {
	if db.StoreOutageGrace != nil {
		if cfg.outageGrace = duration(*db.StoreOutageGrace); cfg.outageGrace <= 0 {
			cfg.outageGrace = -1 // token.Options: not at all
		}
	}
	cfg.noMigrate = db.Migrate != nil && !*db.Migrate
	switch cfg.driver {
	case driverSQLite:
		if db.MaxConns != 0 || db.StatementTimeout != 0 {
			return errors.New("max_conns and statement_timeout are PostgreSQL's; leave them out with sqlite")
		}
		path := filepath.Join(caddy.AppDataDir(), "llm_proxy", "llm-proxy.db")
		if db.DSN != "" {
			if path, err = resolve(db.DSN); err != nil {
				return err
			}
		}
		cfg.dsn, err = filepath.Abs(path)
		return err
	case driverPostgres:
		if db.DSN == "" {
			return errors.New("expected where PostgreSQL is, such as {env.DATABASE_URL} or postgres://llm-proxy@db.example.com/llm-proxy?sslmode=verify-full")
		}
		if db.MaxConns < 0 || db.StatementTimeout < 0 {
			return errors.New("max_conns and statement_timeout must not be negative")
		}
		cfg.maxConns, cfg.statementTimeout = db.MaxConns, duration(db.StatementTimeout)
		cfg.dsn, err = resolve(db.DSN)
		return err
	}
	return fmt.Errorf("unknown driver %q; expected sqlite or postgres", cfg.driver)
}

// parseDatabase reads `database sqlite [<path>]` or `database postgres <dsn>`
// with an optional block.
func parseDatabase(d *caddyfile.Dispenser) (*Database, error) {
	if !d.NextArg() {
		return nil, d.Err("expected the kind of database and where it is, such as: database sqlite /var/lib/llm-proxy/llm-proxy.db, or: database postgres {env.DATABASE_URL}")
	}
	db := &Database{Driver: d.Val()}
	if db.Driver != driverSQLite && db.Driver != driverPostgres {
		return nil, d.Errf("unknown database %q; expected sqlite or postgres", db.Driver)
	}
	if d.NextArg() {
		if db.DSN = d.Val(); db.DSN == "" {
			return nil, d.Err("where the database is must not be empty; leave it out for SQLite's default, or write a path such as /var/lib/llm-proxy/llm-proxy.db")
		}
	}
	if err := noArg(d, "database takes a driver and where the database is; quote what holds spaces"); err != nil {
		return nil, err
	}
	if db.Driver == driverPostgres && db.DSN == "" {
		return nil, d.Err("expected where PostgreSQL is, such as: database postgres {env.DATABASE_URL}")
	}
	seen := make(once)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		option := d.Val()
		err := seen.add(d, option)
		if err != nil {
			return nil, err
		}
		if err = db.parseOption(d, option); err != nil {
			return nil, err
		}
	}
	return db, nil
}

func (db *Database) parseOption(d *caddyfile.Dispenser, option string) (err error) {
	known := []string{"store_outage_grace", "migrate"}
	if db.Driver == driverPostgres {
		known = append(known, "max_conns", "statement_timeout")
	}
	switch {
	case option == "store_outage_grace":
		var grace caddy.Duration
		grace, err = parseDuration(d)
		db.StoreOutageGrace = &grace
	case option == "migrate":
		db.Migrate, err = parseSwitch(d)
	case option == "max_conns" && db.Driver == driverPostgres:
		if db.MaxConns, err = parseCount(d); err == nil && db.MaxConns < minConns {
			err = d.Errf("max_conns: expected at least %d", minConns)
		}
	case option == "statement_timeout" && db.Driver == driverPostgres:
		if db.StatementTimeout, err = parseDuration(d); err == nil && db.StatementTimeout == 0 {
			err = d.Err("statement_timeout: 0 would let a statement hang for ever; expected a duration such as 5s")
		}
	default:
		err = unknownOption(d, strings.Join(known, ", "))
	}
	return err
}

// minConns is what storage needs to keep reading, writing and announcements apart.
const minConns = 4
