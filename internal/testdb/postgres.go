//go:build unix

package testdb

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

const installPostgres = "install PostgreSQL 13 or newer (Debian: apt-get install postgresql), or set " + postgresEnv + " to the URL of a server"

// careless are settings of a server that nobody kills: what it holds may be lost.
var careless = []string{"fsync=off", "full_page_writes=off", "autovacuum=off", "max_wal_size=128MB"}

// PostgresServer is a PostgreSQL server of one test, to be mistreated.
type PostgresServer struct{ server }

// StartPostgres starts a server for this test alone, with settings such as
// "fsync=off" besides the defaults. It ends with the test.
func StartPostgres(tb testing.TB, settings ...string) *PostgresServer {
	tb.Helper()
	s, err := newPostgres(settings)
	if err != nil {
		tb.Fatal(err)
	}
	s.owned(tb)
	return s
}

func newPostgres(settings []string) (*PostgresServer, error) {
	binary, err := find("postgres", installPostgres, "/usr/lib/postgresql/*/bin/postgres", "/usr/local/pgsql/bin/postgres", "/opt/homebrew/opt/postgresql*/bin/postgres")
	if err != nil {
		return nil, err
	}
	if binary, err = filepath.EvalSymlinks(binary); err != nil {
		return nil, fmt.Errorf("looking for postgres: %w", err)
	}
	initdb, err := find("initdb", installPostgres, filepath.Join(filepath.Dir(binary), "initdb"))
	if err != nil {
		return nil, err
	}
	as, err := unprivileged("postgres", "nobody")
	if err != nil {
		return nil, err
	}
	// SIGQUIT: end at once, but without leaving shared memory behind.
	s := &PostgresServer{server{as: as, binary: binary, polite: syscall.SIGINT, death: syscall.SIGQUIT}}
	if err := s.reserve(); err != nil {
		return nil, err
	}
	data := filepath.Join(s.dir, "data")
	s.args = []string{"-D", data}
	for _, setting := range append([]string{
		"listen_addresses=127.0.0.1", "port=" + strconv.Itoa(s.port), "unix_socket_directories=",
		"max_connections=200", "timezone=UTC", "log_timezone=UTC", "lc_messages=C",
	}, settings...) {
		s.args = append(s.args, "-c", setting)
	}
	s.alive = func() error { return run(postgresURL(s.port, "postgres"), "SELECT 1") }
	out, err := command(s.dir, as, initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync").CombinedOutput()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w\n%s", err, out), s.close())
	}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// Database makes an empty database on this server and returns its URL.
func (s *PostgresServer) Database() string {
	s.tb.Helper()
	name := databaseName()
	s.must(run(postgresURL(s.port, "postgres"), createDatabase(name, "template0")))
	return postgresURL(s.port, name)
}

func postgresURL(port int, database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", port, database)
}

func createDatabase(name, template string) string {
	quote := func(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
	return `CREATE DATABASE ` + quote(name) + ` TEMPLATE ` + quote(template) + ` ENCODING 'UTF8'`
}

// run runs one statement on a connection of its own.
func run(url, query string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, query).ReadAll(); err != nil {
		return fmt.Errorf("running %q: %w", query, err)
	}
	return nil
}

func connect(ctx context.Context, url string) (*pgconn.PgConn, error) {
	ctx, cancel := context.WithTimeout(ctx, answer)
	defer cancel()
	conn, err := pgconn.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	return conn, nil
}
