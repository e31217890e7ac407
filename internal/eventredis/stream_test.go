package eventredis_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/eventredis"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// TestAppendAndMove: what Redis takes comes into the database, once, whole and in
// order, and leaves nothing in Redis.
func TestAppendAndMove(t *testing.T) {
	t.Parallel()
	for driver, dsn := range map[string]string{"sqlite": t.TempDir() + "/events.db", "postgres": testdb.Postgres(t)} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			db := openSQL(t, driver, dsn)
			var told atomic.Int64
			n := start(t, testdb.Redis(t), db, func(c *eventredis.Config) {
				c.Leases, c.Moved = db, func() { told.Add(1) }
			})
			waitFor(t, "Redis is used", n.used)
			var m made
			whole := m.some(1)[0]
			whole.Metadata, whole.Request = map[string]string{"a": "b\n\u2028"}, strings.Repeat("x\n\"", 100_000)
			if err := n.AppendEvents(t.Context(), []*event.Event{whole}); err != nil {
				t.Fatal(err)
			}
			for i := range 15 {
				m.appends(t, n, 1+i*7)
			}
			m.settled(t, db)
			if !slices.Equal(kept(t, db), m.ids) {
				t.Error("the order is another one")
			}
			got, err := db.EventByID(t.Context(), whole.ID)
			if err != nil {
				t.Fatal(err)
			}
			if text := string(got.AppendJSON(nil)); text != string(whole.AppendJSON(nil)) {
				t.Errorf("%.300s…", text)
			}
			waitFor(t, "the stream is empty", func() bool { return n.conn.Client().XLen(t.Context(), testKey).Val() == 0 })
			s := n.Stats()
			if s.Appended != int64(len(m.ids)) || s.Moved != s.Appended || s.Bypassed != 0 || s.Lost != 0 || s.Damaged != 0 || told.Load() == 0 {
				t.Errorf("%+v, told %d times", s, told.Load())
			}
		})
	}
}

// TestRefusedEvents: what no log takes, this one does not either.
func TestRefusedEvents(t *testing.T) {
	t.Parallel()
	db := openSQLite(t)
	n := start(t, testdb.Redis(t), db)
	waitFor(t, "Redis is used", n.used)
	var m made
	events := append(m.some(2), new(event.Event))
	if err := n.AppendEvents(t.Context(), events); err == nil || !strings.Contains(err.Error(), "has no id") {
		t.Errorf("an event without id: %v", err)
	}
	if err := n.AppendEvents(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if n.conn.Client().XLen(t.Context(), testKey).Val() != 0 {
		t.Error("some of it was taken")
	}
	for _, c := range []eventredis.Config{
		{}, {Client: n.conn.Client(), Key: "k"}, {Client: n.conn.Client(), Database: db}, {Key: "k", Database: db},
		{Client: n.conn.Client(), Key: "k", Database: db, MaxBytes: -1},
	} {
		if _, err := eventredis.New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	a, b := eventredis.Key("llm-proxy:", []byte("a")), eventredis.Key("llm-proxy:", []byte("b"))
	if a == b || !strings.HasPrefix(a, "llm-proxy:events:") || a != eventredis.Key("llm-proxy:", []byte("a")) {
		t.Errorf("%s, %s", a, b)
	}
}

// TestDamaged: what others have put into the stream keeps nothing from moving.
func TestDamaged(t *testing.T) {
	t.Parallel()
	db := openSQLite(t)
	g := &gated{Database: db}
	g.shut.Store(true)
	n := start(t, testdb.Redis(t), g)
	waitFor(t, "Redis is used", n.used)
	var m made
	m.appends(t, n, 3)
	for _, fields := range [][]string{{"events", "garbage\n"}, {"data", "x"}, {"events", "{\"id\":\"00000000-0000-0000-0000-000000000000\"}\n[]"}} {
		if err := n.conn.Client().Do(t.Context(), "XADD", testKey, "*", fields[0], fields[1]).Err(); err != nil {
			t.Fatal(err)
		}
	}
	m.appends(t, n, 3)
	g.shut.Store(false)
	m.settled(t, db)
	waitFor(t, "the stream is empty", func() bool { return n.conn.Client().XLen(t.Context(), testKey).Val() == 0 })
	if s := n.Stats(); s.Damaged != 4 || strings.Count(n.log.String(), "no event") != 1 {
		t.Errorf("%+v, logged %s", s, n.log)
	}
}

// TestLimit: with the database away the stream does not fill Redis.
func TestLimit(t *testing.T) {
	t.Parallel()
	db := openSQLite(t)
	g := &gated{Database: db}
	g.shut.Store(true)
	n := start(t, testdb.Redis(t), g, func(c *eventredis.Config) { c.MaxBytes = 100_000 })
	waitFor(t, "Redis is used", n.used)
	var m made
	waitFor(t, "Redis is full", func() bool {
		events := m.some(1)
		events[0].Request = strings.Repeat("x", 30_000)
		if n.AppendEvents(t.Context(), events) == nil {
			return false
		}
		m.ids = m.ids[:len(m.ids)-1] // nobody has it
		return true
	})
	s := n.Stats()
	if s.Err == nil || !strings.Contains(s.Err.Error(), "limit") || s.Bytes < 100_000 || s.Pending == 0 {
		t.Errorf("%+v", s)
	}
	g.shut.Store(false)
	m.settled(t, db)
	waitFor(t, "Redis is used again", n.used)
	m.appends(t, n, 1)
	m.settled(t, db)
	if strings.Count(n.log.String(), "events wait in Redis") != 1 || strings.Count(n.log.String(), "the database takes the events") != 1 {
		t.Errorf("logged %s", n.log)
	}
}

// TestSwitch: the stream that was attached last counts, and nothing stays behind in
// one that is detached, though another node should move it.
func TestSwitch(t *testing.T) {
	t.Parallel()
	db := openSQLite(t)
	if has, err := db.TryLease(t.Context(), "redis-events", "somebody", time.Hour); err != nil || !has {
		t.Fatal(has, err)
	}
	w := eventredis.NewSwitch(db)
	var m made
	m.appends(t, w, 5)
	if _, ok := w.Stats(); ok {
		t.Error("a stream that nobody has attached")
	}
	attach := func(url string) (s *eventredis.Stream, detach func()) {
		t.Helper()
		conn := connect(t, url)
		s, err := eventredis.New(eventredis.Config{Client: conn.Client(), Key: testKey, Database: db, Leases: db, Explain: conn.Explain})
		if err != nil {
			t.Fatal(err)
		}
		detach = w.Attach(s)
		t.Cleanup(detach)
		waitFor(t, "Redis is used", func() bool { return s.Stats().Err == nil })
		return s, detach
	}
	first, detachFirst := attach(testdb.Redis(t))
	m.appends(t, w, 5)
	second, detachSecond := attach(testdb.Redis(t))
	m.appends(t, w, 7)
	if stats, ok := w.Stats(); !ok || stats.Appended != 7 || first.Stats().Appended != 5 {
		t.Errorf("%+v", stats)
	}
	detachSecond()
	if n := second.Stats().Moved; n != 7 {
		t.Errorf("%d moved at the end", n)
	}
	m.appends(t, w, 5)
	if n := first.Stats().Appended; n != 10 {
		t.Errorf("%d events in the first one", n)
	}
	detachFirst()
	m.appends(t, w, 5)
	if n := len(kept(t, db)); n != len(m.ids) {
		t.Errorf("%d events in the database, want %d", n, len(m.ids))
	}
	m.appends(t, second, 1) // by somebody who was on the way to it
	m.settled(t, db)
}

// TestLog: an event log over a stream, as a process has it.
func TestLog(t *testing.T) {
	t.Parallel()
	db := openSQLite(t)
	server := testdb.StartRedis(t, "--appendonly", "yes")
	n := start(t, server.URL(), db, func(c *eventredis.Config) { c.Durable = true })
	log, err := event.New(event.Config{Store: n, Dir: t.TempDir()})
	if err == nil {
		err = log.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "Redis is used", n.used)
	var m made
	for i := range 60 {
		switch i {
		case 20:
			server.Pause()
		case 40:
			waitFor(t, "the database has taken over", func() bool { return n.Stats().Bypassed > 0 })
		case 50:
			server.Resume()
		}
		if err := log.AppendDurable(t.Context(), m.some(1)[0]); err != nil {
			t.Error(err)
		}
	}
	waitFor(t, "nothing waits on disk", func() bool { return log.Stats().SpillEvents == 0 })
	if err := log.Close(context.Background()); err != nil {
		t.Error(err)
	}
	m.settled(t, db)
	if s := n.Stats(); s.Appended == 0 || s.Bypassed == 0 {
		t.Errorf("%+v", s)
	}
}
