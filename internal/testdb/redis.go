//go:build unix

package testdb

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	installRedis = "install it (Debian: apt-get install redis-server), or set " + redisEnv + " to the URL of a server"

	// redisDatabases is how many numbered databases a server of ours has.
	redisDatabases = 4096
)

// RedisServer is a Redis server of one test, to be mistreated.
type RedisServer struct {
	tb      testing.TB
	dir     string
	port    int
	binary  string
	options []string
	process *process
}

// StartRedis starts a server for this test alone, with options such as
// "--appendonly", "yes" besides the defaults. It ends with the test.
func StartRedis(tb testing.TB, options ...string) *RedisServer {
	tb.Helper()
	s, err := newRedis(options)
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

func newRedis(options []string) (*RedisServer, error) {
	binary, err := find("redis-server", installRedis)
	if err != nil {
		return nil, err
	}
	dir, err := makeDir(nil)
	if err != nil {
		return nil, err
	}
	s := &RedisServer{dir: dir, binary: binary, options: options}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// start runs the server, on the port it had before if it had one. Another program
// may take a free port first.
func (s *RedisServer) start() error {
	return persist(s.startOnce)
}

func (s *RedisServer) startOnce() error {
	port := s.port
	if port == 0 {
		var err error
		if port, err = freePort(); err != nil {
			return err
		}
	}
	args := append([]string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", s.dir, "--daemonize", "no",
		"--save", "", "--databases", strconv.Itoa(redisDatabases)}, s.options...)
	p, err := start(s.dir, filepath.Join(s.dir, "log"), nil, syscall.SIGKILL, s.binary, args...)
	if err != nil {
		return err
	}
	if err := p.await(func() error { return ask(redisURL(port, 0), "PING") }); err != nil {
		return errors.Join(err, p.kill())
	}
	s.port, s.process = port, p
	return nil
}

func (s *RedisServer) close() error {
	var err error
	if s.process != nil {
		err = s.process.kill()
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

// URL is the server's first database.
func (s *RedisServer) URL() string { return redisURL(s.port, 0) }

// Stop ends the server after it has written what it keeps.
func (s *RedisServer) Stop() {
	s.tb.Helper()
	s.must(s.process.end(syscall.SIGTERM))
}

// Start starts the server again, where it was before.
func (s *RedisServer) Start() {
	s.tb.Helper()
	s.must(s.start())
}

// Kill ends the server as a power cut would.
func (s *RedisServer) Kill() {
	s.tb.Helper()
	s.must(s.process.kill())
}

// Pause freezes the server: connections stay open, and nobody answers.
func (s *RedisServer) Pause() {
	s.tb.Helper()
	_, err := s.process.freeze()
	s.must(err)
}

// Resume ends a [RedisServer.Pause].
func (s *RedisServer) Resume() {
	s.tb.Helper()
	s.must(s.process.thaw())
}

func (s *RedisServer) must(err error) {
	s.tb.Helper()
	if err != nil {
		s.tb.Fatal(err)
	}
}

func redisURL(port, database int) string {
	return fmt.Sprintf("redis://127.0.0.1:%d/%d", port, database)
}

// ask sends commands to the URL's database on a connection of their own. Each
// must be answered with a simple string.
func ask(raw string, commands ...string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return errors.New("the Redis URL cannot be read") // it may hold a password
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	address := u.Host
	if u.Port() == "" {
		address = net.JoinHostPort(u.Hostname(), "6379")
	}
	var conn net.Conn
	switch u.Scheme {
	case "redis":
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", address)
	case "rediss":
		conn, err = (&tls.Dialer{Config: &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}}).DialContext(ctx, "tcp", address)
	default:
		return fmt.Errorf("the Redis URL has scheme %q: expected redis or rediss", u.Scheme)
	}
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	answers := bufio.NewReader(conn)
	send := func(what string, words ...string) error {
		var b strings.Builder
		fmt.Fprintf(&b, "*%d\r\n", len(words))
		for _, word := range words {
			fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(word), word)
		}
		if _, err := conn.Write([]byte(b.String())); err != nil {
			return fmt.Errorf("sending %s: %w", what, err)
		}
		answer, err := answers.ReadString('\n')
		if err != nil || !strings.HasPrefix(answer, "+") {
			return fmt.Errorf("%s was answered %q: %w", what, answer, errors.Join(err, errors.New("not what was expected")))
		}
		return nil
	}
	if password, ok := u.User.Password(); ok {
		words := []string{"AUTH", password}
		if name := u.User.Username(); name != "" {
			words = []string{"AUTH", name, password}
		}
		if err := send("AUTH", words...); err != nil {
			return err
		}
	}
	if database := strings.Trim(u.Path, "/"); database != "" {
		if err := send("SELECT", "SELECT", database); err != nil {
			return err
		}
	}
	for _, c := range commands {
		if err := send(c, strings.Fields(c)...); err != nil {
			return err
		}
	}
	return nil
}
