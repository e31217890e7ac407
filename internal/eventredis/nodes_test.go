package eventredis_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/eventredis"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// stuck is a database whose answers do not come until told, though it has taken
// the events: as with a node that is frozen.
type stuck struct {
	eventredis.Database
	entered chan struct{}
	resume  chan struct{}
	once    sync.Once
}

func (s *stuck) AppendEvents(ctx context.Context, events []*event.Event) error {
	err := s.Database.AppendEvents(ctx, events)
	s.once.Do(func() {
		close(s.entered)
		<-s.resume
	})
	return err
}

// leases has one owner, whose lease ends when a test says so.
type leases struct {
	mu    sync.Mutex
	owner string
}

func (l *leases) TryLease(_ context.Context, _, owner string, ttl time.Duration) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.owner == "" {
		l.owner = owner
	}
	return l.owner == owner && ttl > 0, nil
}

func (l *leases) ReleaseLease(_ context.Context, _, owner string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.owner == owner {
		l.owner = ""
	}
	return nil
}

func (l *leases) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.owner = ""
}

// TestFrozenNode: another node moves what one has left when it froze. When that
// one goes on it deletes what it had moved, and nothing else, though the stream
// is another one by then.
func TestFrozenNode(t *testing.T) {
	t.Parallel()
	url := testdb.Redis(t)
	db := openSQLite(t)
	shared := new(leases)
	with := func(c *eventredis.Config) { c.Leases = shared }
	freezes := &stuck{Database: db, entered: make(chan struct{}), resume: make(chan struct{})}
	frozen := start(t, url, freezes, with)
	waitFor(t, "Redis is used", frozen.used)
	var m made
	m.appends(t, frozen, 10)
	<-freezes.entered
	shut := &gated{Database: db}
	other := start(t, url, shut, with)
	waitFor(t, "Redis is used", other.used)
	m.appends(t, other, 10)
	redis := other.conn.Client()
	if n := redis.XLen(t.Context(), testKey).Val(); n != 2 {
		t.Errorf("%d entries in the stream", n)
	}
	shared.expire()
	m.settled(t, db)
	waitFor(t, "the stream is empty", func() bool { return redis.XLen(t.Context(), testKey).Val() == 0 })

	// A new stream of a Redis whose clock is behind: places are lower.
	shut.shut.Store(true)
	if err := redis.Del(t.Context(), testKey).Err(); err != nil {
		t.Fatal(err)
	}
	late := m.some(1)
	if err := redis.Do(t.Context(), "XADD", testKey, "1-1", "events", string(late[0].AppendJSON(nil))).Err(); err != nil {
		t.Fatal(err)
	}
	close(freezes.resume)
	waitFor(t, "the frozen node has gone on", func() bool { return frozen.Stats().Moved >= 10 })
	shut.shut.Store(false)
	m.settled(t, db)
}

// counting counts the calls of a database.
type counting struct {
	eventredis.Database
	calls atomic.Int64
}

func (c *counting) AppendEvents(ctx context.Context, events []*event.Event) error {
	c.calls.Add(1)
	return c.Database.AppendEvents(ctx, events)
}

// TestOneNodeMoves: nodes do not do the same work, and the next one goes on when
// one leaves.
func TestOneNodeMoves(t *testing.T) {
	t.Parallel()
	url, dsn := testdb.Redis(t), testdb.Postgres(t)
	db := openSQL(t, "postgres", dsn)
	with := func(c *eventredis.Config) { c.Leases = db }
	first := start(t, url, db, with)
	waitFor(t, "Redis is used", first.used)
	var m made
	m.appends(t, first, 3)
	m.settled(t, db)
	watched := &counting{Database: db}
	second := start(t, url, watched, with)
	waitFor(t, "Redis is used", second.used)
	for range 20 {
		m.appends(t, second, 3)
	}
	m.settled(t, db)
	if n := watched.calls.Load(); n != 0 {
		t.Errorf("the second node has moved %d times", n)
	}
	first.end()
	m.appends(t, second, 3)
	m.settled(t, db)
	if watched.calls.Load() == 0 {
		t.Error("nobody has moved events, and they are there")
	}
}
