package limit_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
	"github.com/sofatutor/caddy-llm-proxy/internal/redisconn"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// epoch is when the worlds begin, µs.
const epoch = int64(1_700_000_000_000_000)

// world has a limiter, and the time that it goes by.
type world struct {
	limit.Limiter
	now func() int64
	set func(at int64)
}

func (w *world) advance(d time.Duration) { w.set(w.now() + d.Microseconds()) }

// worlds are the back ends that one suite is run against.
var worlds = map[string]func(testing.TB) *world{
	"memory": memoryWorld,
	"redis":  func(tb testing.TB) *world { return redisWorld(tb, func(*limit.Redis) {}) },
	"redis, in slots": func(tb testing.TB) *world {
		return redisWorld(tb, (*limit.Redis).SetCluster)
	},
}

func memoryWorld(testing.TB) *world {
	var clock atomic.Int64
	clock.Store(epoch)
	return &world{Limiter: limit.NewMemoryAt(clock.Load), now: clock.Load, set: clock.Store}
}

const clockKey = "test:clock"

// redisWorld is a node whose Redis goes by a time of the test's.
func redisWorld(tb testing.TB, option func(*limit.Redis)) *world {
	conn := connect(tb, testdb.Redis(tb))
	var clock atomic.Int64
	var r *limit.Redis
	set := func(at int64) {
		if r != nil {
			r.Flush() // what happened before
		}
		if err := conn.Client().Set(context.Background(), clockKey, at, 0).Err(); err != nil {
			tb.Fatal(err)
		}
		clock.Store(at)
	}
	set(epoch)
	r = node(tb, conn, nil, func(r *limit.Redis) {
		r.SetRedisClock(clockKey)
		r.SetClock(clock.Load)
		r.SetQuiet()
		option(r)
	})
	return &world{Limiter: flushed{r}, now: clock.Load, set: set}
}

// flushed tells Redis everything before it is asked, as the keeper soon would.
type flushed struct{ *limit.Redis }

func (f flushed) Take(ctx context.Context, r limit.Request, t *limit.Ticket) (limit.Decision, error) {
	f.Flush()
	return f.Redis.Take(ctx, r, t)
}

func connect(tb testing.TB, url string) *redisconn.Conn {
	tb.Helper()
	return connectTo(tb, redisconn.Settings{URLs: []secret.Value{secret.NewValue(url)}})
}

func connectTo(tb testing.TB, s redisconn.Settings) *redisconn.Conn {
	tb.Helper()
	conn, err := redisconn.New(s, nil)
	if err != nil {
		tb.Fatal(err)
	}
	conn.Start()
	tb.Cleanup(func() {
		if err := conn.Close(); err != nil {
			tb.Error(err)
		}
	})
	return conn
}

// node starts a limiter that ends with the test.
func node(tb testing.TB, conn *redisconn.Conn, logger *slog.Logger, option func(*limit.Redis)) *limit.Redis {
	tb.Helper()
	r := limit.NewRedis(conn, logger)
	r.SetBeat(20*time.Millisecond, 0)
	r.SetTimeout(time.Second)
	option(r)
	r.Start()
	tb.Cleanup(r.Close)
	return r
}

func waitFor(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	deadline := time.NewTimer(2 * time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			tb.Fatalf("did not happen: %s", what)
		}
	}
}

func shared(r *limit.Redis) func() bool { return func() bool { return r.State().Shared } }

func alone(r *limit.Redis) func() bool {
	return func() bool { s := r.State(); return s.Met && !s.Shared }
}

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

func requests(id string, amount int64, window time.Duration) limit.Demand {
	return limit.Demand{Weight: 1, Limit: limit.Limit{Amount: amount,
		Key: limit.Key{Scope: limit.Token, Kind: limit.Requests, Window: window, ID: id, Project: "p1"}}}
}

func tokens(id string, amount int64, window time.Duration, weight int64) limit.Demand {
	d := requests(id, amount, window)
	d.Kind, d.Weight = limit.Tokens, weight
	return d
}

func slots(id string, amount int64) limit.Demand {
	d := requests(id, amount, 0)
	d.Kind = limit.Concurrency
	return d
}

func everybody(d limit.Demand) limit.Demand {
	d.Scope, d.ID, d.Project = limit.Global, "", ""
	return d
}

// take takes with a ticket of its own.
func take(tb testing.TB, l limit.Limiter, demands ...limit.Demand) (limit.Decision, *limit.Ticket) {
	tb.Helper()
	t := new(limit.Ticket)
	d, err := l.Take(tb.Context(), limit.Request{Demands: demands}, t)
	if err != nil {
		tb.Fatal(err)
	}
	return d, t
}

func mustTake(tb testing.TB, l limit.Limiter, demands ...limit.Demand) *limit.Ticket {
	tb.Helper()
	d, t := take(tb, l, demands...)
	if !d.Admitted {
		tb.Fatalf("refused: %+v", d)
	}
	return t
}

func mustRefuse(tb testing.TB, l limit.Limiter, demands ...limit.Demand) limit.Decision {
	tb.Helper()
	d, _ := take(tb, l, demands...)
	if d.Admitted {
		tb.Fatalf("admitted: %+v", d)
	}
	return d
}
