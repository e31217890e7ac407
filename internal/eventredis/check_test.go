package eventredis_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/eventredis"
	"github.com/sofatutor/caddy-llm-proxy/internal/redisconn"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// acl is what docs/events.md says that a user needs.
const acl = "--user tester on >right resetkeys ~llm-proxy:* resetchannels -@all +@connection +xadd +xlen +xrange +xrevrange +xdel +xinfo|groups +xgroup|create"

// TestSettings: what Redis does with what it is told decides whether it is used for
// what must not be lost, and what is said.
func TestSettings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options string
		user    string
		refused string // of a durable stream
		warned  string // of one that is not
		durably string // what a durable one warns of
	}{
		"no file":                 {"", "", "appendonly yes", "memory alone", ""},
		"a file":                  {"--appendonly yes", "", "", "", "appendfsync everysec"},
		"a file, always":          {"--appendonly yes --appendfsync always", "", "", "", ""},
		"evicts":                  {"--appendonly yes --maxmemory 1gb --maxmemory-policy allkeys-lru", "", "evicts no keys", "may evict", ""},
		"would evict":             {"--appendonly yes --maxmemory-policy allkeys-lru --appendfsync always", "", "", "", ""},
		"evicts what may go":      {"--appendonly yes --maxmemory 1gb --maxmemory-policy volatile-lru --appendfsync always", "", "", "", ""},
		"INFO, no file":           {acl + " +info", "tester:right@", "appendonly yes", "memory alone", ""},
		"INFO, a file":            {"--appendonly yes " + acl + " +info", "tester:right@", "", "", ""},
		"INFO, evicts":            {"--appendonly yes --maxmemory 1gb --maxmemory-policy allkeys-lru " + acl + " +info", "tester:right@", "evicts no keys", "may evict", ""},
		"neither CONFIG nor INFO": {acl, "tester:right@", "", "does not say", "does not say"},
		"not even XDEL":           {acl + " -xdel", "tester:right@", "NOPERM", "NOPERM", "NOPERM"},
		"not even XADD's group":   {acl + " -xgroup|create", "tester:right@", "NOPERM", "NOPERM", "NOPERM"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testdb.StartRedis(t, strings.Fields(c.options)...)
			url := strings.Replace(server.URL(), "redis://", "redis://"+c.user, 1)
			db := openSQLite(t)
			for durable, want := range map[bool]string{true: c.durably, false: c.warned} {
				n := start(t, url, db, func(cfg *eventredis.Config) { cfg.Durable = durable })
				err := n.Check(t.Context())
				refused := c.refused != "" && (durable || c.refused == "NOPERM")
				switch {
				case !refused && err != nil, refused && (err == nil || !strings.Contains(err.Error(), c.refused)):
					t.Errorf("durable %t: %v", durable, err)
				case errors.Is(err, eventredis.ErrVolatile) != (refused && c.refused != "NOPERM"):
					t.Errorf("durable %t: %v", durable, err)
				}
				if refused {
					waitFor(t, "the reason is known", func() bool {
						err := n.Stats().Err
						return err != nil && strings.Contains(err.Error(), c.refused)
					})
				} else {
					waitFor(t, "Redis is used", n.used)
				}
				var m made
				m.appends(t, n, 2)
				if s := n.Stats(); refused && s.Bypassed != 2 || !refused && s.Appended != 2 {
					t.Errorf("durable %t: %+v", durable, s)
				}
				n.end()
				if warnings := strings.Count(n.log.String(), "level=WARN"); !strings.Contains(n.log.String(), want) || want == "" && !refused && warnings != 0 {
					t.Errorf("durable %t: logged %s, want %q", durable, n.log, want)
				}
			}
		})
	}
}

// TestCheckAway: a Redis that is away says nothing about its settings.
func TestCheckAway(t *testing.T) {
	t.Parallel()
	conn, err := redisconn.New(redisconn.Settings{URLs: []secret.Value{secret.NewValue("redis://:CANARY@127.0.0.1:1")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.Start()
	defer conn.Close()
	s, err := eventredis.New(eventredis.Config{Client: conn.Client(), Key: testKey, Database: openSQLite(t), Durable: true, Explain: conn.Explain})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Check(t.Context())
	if err == nil || errors.Is(err, eventredis.ErrVolatile) || strings.Contains(err.Error(), "CANARY") {
		t.Error(err)
	}
}
