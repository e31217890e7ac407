package eventredis_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"go.uber.org/goleak"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/eventredis"
	"github.com/sofatutor/caddy-llm-proxy/internal/redisconn"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		if err := child(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(testdb.Main(m))
}

const testKey = "llm-proxy:events:test"

// openSQL opens a database that ends with the test.
func openSQL(tb testing.TB, driver, dsn string) *storage.DB {
	tb.Helper()
	db, err := openDatabase(driver, dsn)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return db
}

func openDatabase(driver, dsn string) (*storage.DB, error) {
	keys, err := secret.NewKeyring(make([]byte, secret.KeySize))
	if err != nil {
		return nil, err
	}
	db, err := storage.New(storage.Config{Driver: driver, DSN: dsn, Keyring: keys})
	if err != nil {
		return nil, err
	}
	return db, db.Open(context.Background())
}

func openSQLite(tb testing.TB) *storage.DB {
	tb.Helper()
	return openSQL(tb, "sqlite", filepath.Join(tb.TempDir(), "events.db"))
}

// connect connects to Redis until the test ends.
func connect(tb testing.TB, url string) *redisconn.Conn {
	tb.Helper()
	conn, err := redisconn.New(redisconn.Settings{URLs: []secret.Value{secret.NewValue(url)}}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	conn.Start()
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

// node is one process's stream, running.
type node struct {
	*eventredis.Stream
	conn *redisconn.Conn
	log  *transcript
	end  func() // waits
}

// start runs a stream until the test ends or end is called.
func start(tb testing.TB, url string, db eventredis.Database, change ...func(c *eventredis.Config)) *node {
	tb.Helper()
	n := &node{conn: connect(tb, url), log: new(transcript)}
	cfg := eventredis.Config{Client: n.conn.Client(), Key: testKey, Database: db, Explain: n.conn.Explain, Logger: slog.New(slog.NewTextHandler(n.log, nil))}
	for _, f := range change {
		f(&cfg)
	}
	s, err := eventredis.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	n.Stream = s
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { s.Run(ctx) })
	n.end = sync.OnceFunc(func() { stop(); work.Wait() })
	tb.Cleanup(n.end)
	return n
}

func (n *node) used() bool { return n.Stats().Err == nil }

// transcript is a log.
type transcript struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *transcript) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *transcript) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
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
			tb.Helper()
			tb.Fatalf("did not happen: %s", what)
		}
	}
}

// made counts the events of a test.
type made struct {
	mu  sync.Mutex
	ids []uuid.UUID
}

// some makes n events.
func (m *made) some(n int) []*event.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	events := make([]*event.Event, n)
	for i := range events {
		id := uuid.Must(uuid.NewV7())
		events[i] = &event.Event{
			ID: id, Time: time.Now(), Method: "POST", Endpoint: "/v1/chat/completions", Provider: "openai", Model: "m", Status: 200, Outcome: "ok",
			InputTokens: event.Known(3), CostNanoUSD: event.Known(7), EndUser: "user " + strconv.Itoa(len(m.ids)%10),
		}
		m.ids = append(m.ids, id)
	}
	return events
}

// appends appends n events.
func (m *made) appends(tb testing.TB, s interface {
	AppendEvents(context.Context, []*event.Event) error
}, n int) {
	tb.Helper()
	if err := s.AppendEvents(context.Background(), m.some(n)); err != nil {
		tb.Fatal(err)
	}
}

// kept are the ids in the log, in its order.
func kept(tb testing.TB, db *storage.DB) (ids []uuid.UUID) {
	tb.Helper()
	for after := int64(0); ; {
		entries, err := db.ReadEvents(context.Background(), after, 1000)
		if err != nil {
			tb.Fatal(err)
		}
		if len(entries) == 0 {
			return ids
		}
		for _, e := range entries {
			ids, after = append(ids, e.Event.ID), e.Seq
		}
	}
}

// settled waits until the database has all events, and makes sure that it has each
// once, and that the sums agree.
func (m *made) settled(tb testing.TB, db *storage.DB) {
	tb.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := map[uuid.UUID]int{}
	after := int64(0)
	waitFor(tb, "all events are in the database", func() bool {
		entries, err := db.ReadEvents(context.Background(), after, 1000)
		if err != nil {
			tb.Fatal(err)
		}
		for _, e := range entries {
			seen[e.Event.ID]++
			after = e.Seq
		}
		return len(seen) >= len(m.ids)
	})
	for i, id := range m.ids {
		if seen[id] != 1 {
			tb.Errorf("event %d of %d is there %d times", i, len(m.ids), seen[id])
		}
	}
	if len(seen) != len(m.ids) {
		tb.Errorf("%d events, want %d", len(seen), len(m.ids))
	}
	requests, cost := sums(tb, db)
	if requests != int64(len(m.ids)) || cost != 7*requests {
		tb.Errorf("the sums are %d requests and %d, want %d", requests, cost, len(m.ids))
	}
}

// sums rolls everything up.
func sums(tb testing.TB, db *storage.DB) (requests, cost int64) {
	tb.Helper()
	for {
		n, err := db.RollUp(context.Background(), 1000)
		if err != nil {
			tb.Fatal(err)
		}
		if n == 0 {
			break
		}
	}
	rows, err := db.Usage(context.Background(), storage.UsageFilter{})
	if err != nil {
		tb.Fatal(err)
	}
	for _, r := range rows {
		requests, cost = requests+r.Requests, cost+r.CostNanoUSD
	}
	return requests, cost
}

// gated is a database that can be shut.
type gated struct {
	eventredis.Database
	shut atomic.Bool
}

var errShut = errors.New("the database is shut")

func (g *gated) AppendEvents(ctx context.Context, events []*event.Event) error {
	if g.shut.Load() {
		return errShut
	}
	return g.Database.AppendEvents(ctx, events)
}
