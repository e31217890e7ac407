//go:build unix

package testdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const installPostgres = "install PostgreSQL 13 or newer (Debian: apt-get install postgresql), or set " + postgresEnv + " to the URL of a server"

// PostgresServer is a PostgreSQL server of one test, to be mistreated.
type PostgresServer struct {
	tb       testing.TB
	dir      string
	port     int
	binary   string
	as       *syscall.Credential
	settings []string
	process  *process
}

// StartPostgres starts a server for this test alone, with settings such as
// "fsync=off" besides the defaults. It ends with the test.
func StartPostgres(tb testing.TB, settings ...string) *PostgresServer {
	tb.Helper()
	s, err := newPostgres(settings)
	if err != nil {
		tb.Fatal(err)
	}
	s.tb = tb
	tb.Cleanup(func() {
		if err := s.close(); err != nil {
			tb.Error(err)
		}
	})
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
	dir, err := makeDir(as)
	if err != nil {
		return nil, err
	}
	s := &PostgresServer{dir: dir, binary: binary, as: as, settings: settings}
	out, err := command(dir, as, initdb, "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync").CombinedOutput()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w\n%s", err, out), s.close())
	}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *PostgresServer) data() string { return filepath.Join(s.dir, "data") }

// start runs the server, on the port it had before if it had one. Another program
// may take a free port first, and a killed server's memory takes a moment to go.
func (s *PostgresServer) start() error {
	return persist(s.startOnce)
}

func (s *PostgresServer) startOnce() error {
	port := s.port
	if port == 0 {
		var err error
		if port, err = freePort(); err != nil {
			return err
		}
	}
	args := []string{"-D", s.data()}
	for _, setting := range append([]string{
		"listen_addresses=127.0.0.1", "port=" + strconv.Itoa(port), "unix_socket_directories=",
		"max_connections=200", "timezone=UTC", "log_timezone=UTC", "lc_messages=C",
	}, s.settings...) {
		args = append(args, "-c", setting)
	}
	// SIGQUIT: end at once, but without leaving shared memory behind.
	p, err := start(s.dir, filepath.Join(s.dir, "log"), s.as, syscall.SIGQUIT, s.binary, args...)
	if err != nil {
		return err
	}
	url := postgresURL(port, "postgres")
	if err := p.await(func() error { return run(url, "SELECT 1") }); err != nil {
		return errors.Join(err, p.kill())
	}
	s.port, s.process = port, p
	return nil
}

// close ends the server and removes its data.
func (s *PostgresServer) close() error {
	var err error
	if s.process != nil && !s.process.ended() {
		err = errors.Join(s.process.thaw(), s.process.end(syscall.SIGQUIT))
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// Database makes an empty database on this server and returns its URL.
func (s *PostgresServer) Database() string {
	s.tb.Helper()
	name := databaseName()
	if err := run(postgresURL(s.port, "postgres"), createDatabase(name)); err != nil {
		s.tb.Fatal(err)
	}
	return postgresURL(s.port, name)
}

// Stop ends every connection and the server, as an operator's restart does.
func (s *PostgresServer) Stop() {
	s.tb.Helper()
	s.must(s.process.end(syscall.SIGINT))
}

// Start starts the server again, where it was before.
func (s *PostgresServer) Start() {
	s.tb.Helper()
	s.must(s.start())
}

// Kill ends the server as a power cut would.
func (s *PostgresServer) Kill() {
	s.tb.Helper()
	s.must(s.process.kill())
}

// Pause freezes the server: connections stay open, and nobody answers.
func (s *PostgresServer) Pause() {
	s.tb.Helper()
	_, err := s.process.freeze()
	s.must(err)
}

// Resume ends a [PostgresServer.Pause].
func (s *PostgresServer) Resume() {
	s.tb.Helper()
	s.must(s.process.thaw())
}

func (s *PostgresServer) must(err error) {
	s.tb.Helper()
	if err != nil {
		s.tb.Fatal(err)
	}
}

func postgresURL(port int, database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", port, database)
}

func createDatabase(name string) string {
	return `CREATE DATABASE "` + strings.ReplaceAll(name, `"`, `""`) + `" TEMPLATE template0 ENCODING 'UTF8'`
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
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // a server that starts may accept and not answer
	defer cancel()
	conn, err := pgconn.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	return conn, nil
}
