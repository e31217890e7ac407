package redisconn_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/redisconn"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// transcript is a log.
type transcript struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *transcript) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *transcript) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *transcript) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// connect starts a connection that ends with the test.
func connect(t *testing.T, s redisconn.Settings) (*redisconn.Conn, *transcript) {
	t.Helper()
	log := new(transcript)
	conn, err := redisconn.New(s, log.logger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	conn.Start()
	conn.Start()
	return conn, log
}

func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("did not happen: %s", what)
		}
	}
}

func answers(c *redisconn.Conn) func() bool { return func() bool { return !c.State().Degraded } }

func away(c *redisconn.Conn) func() bool { return func() bool { return c.State().Err != nil } }

// TestOutage: each change of state is logged once, whatever kind of outage it is,
// and the connection comes back by itself.
func TestOutage(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(s *testdb.RedisServer) (begin, end func()){
		"killed": func(s *testdb.RedisServer) (func(), func()) { return s.Kill, s.Start },
		"frozen": func(s *testdb.RedisServer) (func(), func()) { return s.Pause, s.Resume },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testdb.StartRedis(t)
			begin, end := fault(server)
			conn, log := connect(t, at(server.URL()))
			waitFor(t, "an answer", answers(conn))
			begin()
			waitFor(t, "away", away(conn))
			bounded, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if err := conn.Client().Ping(bounded).Err(); err == nil {
				t.Error("an answer from nobody")
			} else if text := conn.Explain(err).Error(); !strings.Contains(text, conn.String()) {
				t.Errorf("%s", text)
			}
			end()
			waitFor(t, "an answer again", answers(conn))
			for words, want := range map[string]int{"Redis is away": 1, `msg="Redis answers"`: 1, "Redis answers again": 1} {
				if got := strings.Count(log.String(), words); got != want {
					t.Errorf("%q is logged %d times in\n%s", words, got, log)
				}
			}
		})
	}
}

// TestAwayAtStart: a start waits for nothing.
func TestAwayAtStart(t *testing.T) {
	t.Parallel()
	server := testdb.StartRedis(t)
	server.Stop()
	conn, log := connect(t, at(server.URL()))
	if state := conn.State(); !state.Degraded || state.Since.IsZero() {
		t.Errorf("%+v before anything was asked", state)
	}
	waitFor(t, "away", away(conn))
	if !strings.Contains(conn.State().Err.Error(), "is Redis running there?") {
		t.Error(conn.State().Err)
	}
	server.Start()
	waitFor(t, "an answer", answers(conn))
	if strings.Count(log.String(), "\n") != 2 {
		t.Errorf("logged:\n%s", log)
	}
}

// TestRefusals: what is wrong is said in words that hold no password.
func TestRefusals(t *testing.T) {
	t.Parallel()
	server := testdb.StartRedis(t,
		"--user", "mute", "on", ">right", "~*", "resetchannels", "+@all",
		"--user", "named", "on", ">right", "~*", "resetchannels", "&llm-proxy:*", "+@connection", "+publish", "+subscribe", "+unsubscribe") // as docs/storage.md has it
	address := strings.TrimSuffix(strings.TrimPrefix(server.URL(), "redis://"), "/0")
	for name, tc := range map[string]struct {
		url, want string
	}{
		"wrong password":             {"redis://mute:" + canary + "@" + address, "the user or the password is wrong"},
		"no channels":                {"redis://mute:right@" + address, "the user may not do what is needed"},
		"a database that is not":     {"redis://" + address + "/100000", "refuses: ERR DB index is out of range"},
		"nobody there":               {"redis://:" + canary + "@127.0.0.1:1", "refuses connections"},
		"no such name":               {"redis://:" + canary + "@redis.invalid", "the name cannot be resolved"},
		"TLS where there is none":    {"rediss://:" + canary + "@" + address, address},
		"no such socket":             {"unix://:" + canary + "@/nowhere/redis.sock", "/nowhere/redis.sock"},
		"all that is needed":         {"redis://named:right@" + address, ""},
		"with a name of its own":     {server.URL() + "?client_name=mine", ""},
		"nobody's password is right": {"redis://nobody:" + canary + "@" + address, "the user or the password is wrong"},
	} {
		_, err := redisconn.Diagnose(t.Context(), at(tc.url))
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := redisconn.Diagnose(t.Context(), at("redis://a", "redis://b")); err == nil {
		t.Error("settings that are wrong")
	}
	named, _ := connect(t, at("redis://named:right@"+address))
	if err := named.Client().Publish(t.Context(), redisconn.ChannelPrefix+"x", "").Err(); err != nil {
		t.Error(err)
	}
	if list := named.Client().ClientList(t.Context()); list.Err() != nil || !strings.Contains(list.Val(), "name=llm-proxy ") {
		t.Errorf("connections have no name: %v", list)
	}
	conn, log := connect(t, at("redis://mute:"+canary+"@"+address))
	waitFor(t, "away", away(conn))
	if strings.Contains(log.String(), canary) || !strings.Contains(log.String(), "WRONGPASS") {
		t.Error(log.String())
	}
}

// TestEcho: a proxy that does not know a command repeats its arguments.
func TestEcho(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	t.Cleanup(work.Wait)
	t.Cleanup(func() { listener.Close() })
	work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer conn.Close()
				buf := make([]byte, 4096)
				for {
					n, err := conn.Read(buf)
					if err != nil {
						return
					}
					for range strings.Count(string(buf[:n]), "*") {
						if _, err := conn.Write([]byte("-ERR unknown command with args '" + canary + "'\r\n")); err != nil {
							return
						}
					}
				}
			})
		}
	})
	_, err = redisconn.Diagnose(t.Context(), at("redis://:"+canary+"@"+listener.Addr().String()))
	if err == nil || strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "is not shown") {
		t.Error(err)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	conn, err := redisconn.New(at("redis://:"+canary+"@a"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Explain(nil); err != nil {
		t.Error(err)
	}
	explained := conn.Explain(context.DeadlineExceeded)
	if !errors.Is(explained, context.DeadlineExceeded) || !strings.Contains(explained.Error(), "does not answer in time") {
		t.Error(explained)
	}
	if text := conn.Explain(errors.New(strings.Repeat("x", 10_000))).Error(); len(text) > 400 {
		t.Errorf("%d bytes", len(text))
	}
	if conn.Client() != nil {
		t.Error("a client before Start")
	}
}

// TestCluster: one node that has all slots is a cluster as well.
func TestCluster(t *testing.T) {
	t.Parallel()
	server := testdb.StartRedis(t, "--cluster-enabled", "yes", "--databases", "1")
	single, _ := connect(t, at(server.URL()))
	waitFor(t, "an answer", answers(single))
	if err := single.Client().Do(t.Context(), "CLUSTER", "ADDSLOTSRANGE", 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "slots are served", func() bool { return single.Client().Set(t.Context(), "k", "v", 0).Err() == nil })
	conn, _ := connect(t, cluster(at(server.URL())))
	waitFor(t, "the cluster answers", answers(conn))
	if got, err := conn.Client().Get(t.Context(), "k").Result(); got != "v" {
		t.Errorf("%q, %v", got, err)
	}
}
