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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const (
	installRedis = "install it (Debian: apt-get install redis-server), or set " + redisEnv + " to the URL of a server"

	// redisDatabases is how many numbered databases a server of ours has.
	redisDatabases = 4096
)

// RedisServer is a Redis server of one test, to be mistreated.
type RedisServer struct {
	server
	bus int
}

// StartRedis starts a server for this test alone, with options such as
// "--appendonly", "yes" besides the defaults. It ends with the test.
func StartRedis(tb testing.TB, options ...string) *RedisServer {
	tb.Helper()
	s, err := newRedis(options)
	if err != nil {
		tb.Fatal(err)
	}
	s.owned(tb)
	return s
}

func newRedis(options []string) (*RedisServer, error) {
	binary, err := find("redis-server", installRedis)
	if err != nil {
		return nil, err
	}
	s := &RedisServer{server: server{binary: binary, polite: syscall.SIGTERM, death: syscall.SIGKILL}}
	if err := s.reserve(); err != nil {
		return nil, err
	}
	s.args = append([]string{"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir, "--daemonize", "no",
		"--save", "", "--databases", strconv.Itoa(redisDatabases)}, options...)
	if slices.Contains(options, "--cluster-enabled") {
		if s.bus, err = s.reservePort(); err != nil { // else it is 10000 above the other
			return nil, errors.Join(err, s.close())
		}
		s.args = append(s.args, "--cluster-port", strconv.Itoa(s.bus))
	}
	s.alive = func() error { return ask(s.URL(), "PING") }
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// BusPort is where the other nodes of a cluster reach the server.
func (s *RedisServer) BusPort() int { return s.bus }

// URL is the server's first database.
func (s *RedisServer) URL() string { return redisURL(s.port, 0) }

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
	ctx, cancel := context.WithTimeout(context.Background(), answer)
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
