//go:build unix

package testdb

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Environment variables that name servers to be used instead of our own. A
// database is made on them for each test, or emptied if it is Redis's.
const (
	postgresEnv = "TEST_POSTGRES_URL"
	redisEnv    = "TEST_REDIS_URL"
)

// shared is a server that all tests of the binary use.
type shared[T interface{ close() error }] struct {
	mu      sync.Mutex
	started bool
	server  T
	err     error
}

func (s *shared[T]) get(start func() (T, error)) (T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		s.started = true
		s.server, s.err = start()
	}
	return s.server, s.err
}

func (s *shared[T]) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started || s.err != nil {
		return nil
	}
	s.started = false
	return s.server.close()
}

var (
	sharedPostgres shared[*PostgresServer]
	sharedRedis    shared[*RedisServer]
	redisUsed      atomic.Int64
)

// runner is what TestMain is given.
type runner interface{ Run() int }

type closing struct{ tests runner }

// Run runs the tests and ends the shared servers.
func (c closing) Run() int {
	code := c.tests.Run()
	if err := errors.Join(sharedPostgres.close(), sharedRedis.close()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

// Main makes TestMain end the shared servers before it looks for what was left
// behind: goleak.VerifyTestMain(testdb.Main(m)).
func Main(m runner) interface{ Run() int } { return closing{m} }

// Postgres makes an empty database for this test and returns its URL. The server
// is shared; TEST_POSTGRES_URL names another.
func Postgres(tb testing.TB) (dsn string) {
	tb.Helper()
	admin := os.Getenv(postgresEnv)
	if admin == "" {
		s, err := sharedPostgres.get(func() (*PostgresServer, error) { return newPostgres(nil) })
		if err != nil {
			tb.Fatal(err)
		}
		admin = postgresURL(s.port, "postgres")
	}
	u, err := url.Parse(admin)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		tb.Fatalf("%s is not of the form postgres://user:password@host:port/database", postgresEnv)
	}
	name := databaseName()
	if err := run(admin, createDatabase(name)); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := run(admin, `DROP DATABASE "`+name+`" WITH (FORCE)`); err != nil {
			tb.Error(err)
		}
	})
	u.Path = "/" + name
	return u.String()
}

// databaseName is one that no test anywhere has.
func databaseName() string { return "llm_proxy_test_" + strings.ToLower(rand.Text()) }

// Redis returns the URL of an empty Redis database of this test's own. The
// server is shared, and so are its channels; TEST_REDIS_URL names another, whose
// databases 1 to 15 are emptied and used in turn.
func Redis(tb testing.TB) (dsn string) {
	tb.Helper()
	n := int(redisUsed.Add(1))
	if given := os.Getenv(redisEnv); given != "" {
		u, err := url.Parse(given)
		if err != nil {
			tb.Fatalf("%s is not of the form redis://user:password@host:port", redisEnv)
		}
		u.Path = fmt.Sprint("/", 1+n%15)
		dsn = u.String()
	} else {
		s, err := sharedRedis.get(func() (*RedisServer, error) { return newRedis(nil) })
		if err != nil {
			tb.Fatal(err)
		}
		dsn = redisURL(s.port, n%redisDatabases)
	}
	if err := ask(dsn, "FLUSHDB"); err != nil {
		tb.Fatal(err)
	}
	return dsn
}
