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

	"github.com/jackc/pgx/v5/pgconn"
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
	if err := errors.Join(templates.close(), sharedPostgres.close(), sharedRedis.close()); err != nil {
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
	return newDatabase(tb, "template0")
}

// newDatabase makes a database on the shared server that ends with the test.
func newDatabase(tb testing.TB, template string) (dsn string) {
	tb.Helper()
	admin, err := adminURL()
	if err != nil {
		tb.Fatal(err)
	}
	name := databaseName()
	create := func() error { return run(admin.String(), createDatabase(name, template)) }
	err = create()
	if busy := (*pgconn.PgError)(nil); errors.As(err, &busy) && busy.Code == "55006" {
		err = persist(create) // who filled the template takes a moment to go
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := run(admin.String(), dropDatabase(name)); err != nil {
			tb.Error(err)
		}
	})
	return databaseURL(admin, name)
}

// adminURL is the database of the shared server that others are made from.
func adminURL() (*url.URL, error) {
	admin := os.Getenv(postgresEnv)
	if admin == "" {
		s, err := sharedPostgres.get(func() (*PostgresServer, error) { return newPostgres(careless) })
		if err != nil {
			return nil, err
		}
		admin = postgresURL(s.port, "postgres")
	}
	u, err := url.Parse(admin)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return nil, fmt.Errorf("%s is not of the form postgres://user:password@host:port/database", postgresEnv)
	}
	return u, nil
}

func databaseURL(admin *url.URL, name string) string {
	u := *admin
	u.Path = "/" + name
	return u.String()
}

func dropDatabase(name string) string { return `DROP DATABASE "` + name + `" WITH (FORCE)` }

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
