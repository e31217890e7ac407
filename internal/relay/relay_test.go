package relay

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/redisconn"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
)

const channel = "llm-proxy:changes:test"

// node is a relay with what it has heard.
type node struct {
	*Relay
	t      *testing.T
	client Client
	leave  func()
	gaps   atomic.Int64

	mu    sync.Mutex
	heard []token.Change
	log   strings.Builder
}

func (n *node) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.Write(b)
}

func connect(t *testing.T, url string) *redisconn.Conn {
	t.Helper()
	conn, err := redisconn.New(redisconn.Settings{URLs: []secret.Value{secret.NewValue(url)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.Start()
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// prepare makes a node that does not run yet.
func prepare(t *testing.T, url string) *node {
	t.Helper()
	conn := connect(t, url)
	n := &node{t: t, client: conn.Client()}
	n.Relay = New(Config{
		Changed: func(c token.Change) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.heard = append(n.heard, c)
		},
		Gap:     func() { n.gaps.Add(1) },
		Explain: conn.Explain,
		Logger:  slog.New(slog.NewTextHandler(n, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	return n
}

func (n *node) join() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Run(ctx, n.client, channel)
	}()
	n.leave = sync.OnceFunc(func() { cancel(); <-done })
	n.t.Cleanup(n.leave)
}

// join makes a node and waits until it hears.
func join(t *testing.T, url string) *node {
	t.Helper()
	n := prepare(t, url)
	n.join()
	waitFor(t, "listening, and the gap before it", func() bool { return n.Listening() && n.gaps.Load() > 0 })
	return n
}

func (n *node) knows(c token.Change) func() bool {
	return func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, h := range n.heard {
			if h == c {
				return true
			}
		}
		return false
	}
}

func (n *node) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.heard)
}

// say publishes what another program might.
func (n *node) say(format string, args ...any) {
	n.t.Helper()
	if err := n.client.Publish(n.t.Context(), channel, fmt.Sprintf(format, args...)).Err(); err != nil {
		n.t.Fatal(err)
	}
}

// expectGap runs f and waits for the gap that it makes.
func (n *node) expectGap(what string, f func()) {
	n.t.Helper()
	before := n.gaps.Load()
	f()
	waitFor(n.t, what+" is a gap", func() bool { return n.gaps.Load() > before })
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

var lastVersion atomic.Int64

// change is one that nobody has heard of.
func change(kind token.ChangeKind, revoked bool) token.Change {
	return token.Change{Kind: kind, ID: uuid.Must(uuid.NewV4()), Version: lastVersion.Add(1), Revoked: revoked}
}

func TestChangesAreHeard(t *testing.T) {
	t.Parallel()
	url := testdb.StartRedis(t).URL()
	a, b, c := join(t, url), join(t, url), join(t, url)
	var all []token.Change
	for i := range 120 { // more than one message holds
		all = append(all, change(token.ChangeKind(1+i%3), i%2 == 0))
		a.Announce(all[i])
	}
	for _, n := range []*node{b, c} {
		for _, ch := range all {
			waitFor(t, "a change heard", n.knows(ch))
		}
	}
	// What comes by the database too is not sent around again, nor told twice.
	b.Announce(all[0])
	last := change(token.TokenChanged, true)
	b.Announce(last)
	waitFor(t, "the last change heard", c.knows(last))
	waitFor(t, "the last change heard", a.knows(last))
	if a.count() != 1 || c.count() != len(all)+1 {
		t.Errorf("heard %d and %d changes", a.count(), c.count())
	}
	if a.gaps.Load() != 1 {
		t.Errorf("%d gaps where nothing was missed", a.gaps.Load())
	}
}

func TestGaps(t *testing.T) {
	t.Parallel()
	server := testdb.StartRedis(t)
	n := join(t, server.URL())
	n.say("llm-proxy/1 other 4 alive") // heard first soon after the subscription
	sure := func(what string) {
		t.Helper()
		c := change(token.TokenChanged, false)
		n.say("llm-proxy/1 third 1 changes\n%d %s %d %t", c.Kind, c.ID, c.Version, c.Revoked)
		waitFor(t, what, n.knows(c))
	}
	sure("the first message taken")
	if got := n.gaps.Load(); got != 1 {
		t.Errorf("%d gaps before there is one", got)
	}
	n.expectGap("a message that did not come", func() { n.say("llm-proxy/1 other 6 changes\n1 %s 1 true", id1) })
	n.expectGap("a number that grew meanwhile", func() { n.say("llm-proxy/1 other 7 alive") })
	n.expectGap("a node that says so", func() { n.say("llm-proxy/1 other 7 lost") })
	n.expectGap("garbage", func() { n.say("garbage") })
	n.expectGap("a newer format", func() { n.say("llm-proxy/2 other changes") })
	n.expectGap("a message that is too long", func() { n.say("%s", strings.Repeat("x", maxMessage+1)) })
	late := change(token.TokenChanged, true)
	late.Version += 5
	n.Announce(late)
	late.Version -= 3
	n.expectGap("a revocation that was overtaken", func() {
		n.say("llm-proxy/1 other 8 changes\n%d %s %d true", late.Kind, late.ID, late.Version)
	})
	if n.knows(late)() {
		t.Error("what was overtaken is taken for new")
	}
	n.expectGap("a lost connection", func() {
		conn := connect(t, server.URL())
		if err := conn.Client().ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
			t.Fatal(err)
		}
	})
	waitFor(t, "listening again", n.Listening)
}

// TestOutage: what could not be announced is made up for by a gap, in others too,
// and announcements go on when Redis is there again.
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
			a, b := join(t, server.URL()), join(t, server.URL())
			begin()
			missed := change(token.TokenChanged, true)
			a.Announce(missed)
			waitFor(t, "noticed that it was not announced", a.lost.Load)
			b.expectGap("the end of the outage", end)
			waitFor(t, "others know of the loss", func() bool { return !a.lost.Load() && a.Listening() && b.Listening() })
			next := change(token.TokenChanged, true)
			a.Announce(next)
			waitFor(t, "the next change heard", b.knows(next))
		})
	}
}

// TestOverflow: changes that there was no room for are made up for by a gap.
func TestOverflow(t *testing.T) {
	t.Parallel()
	url := testdb.StartRedis(t).URL()
	b := join(t, url)
	a := prepare(t, url)
	for range queueSize + 1 {
		a.Announce(change(token.TokenChanged, false))
	}
	b.expectGap("what there was no room for", a.join)
	waitFor(t, "the rest heard", func() bool { return b.count() == queueSize })
}

// TestForbidden: a Redis user that may not publish or listen is reported, once.
func TestForbidden(t *testing.T) {
	t.Parallel()
	server := testdb.StartRedis(t, "--user", "mute", "on", ">right", "~*", "resetchannels", "+@all")
	n := prepare(t, strings.Replace(server.URL(), "redis://", "redis://mute:right@", 1))
	n.join()
	logged := func(level, what string) int {
		n.mu.Lock()
		defer n.mu.Unlock()
		return strings.Count(n.log.String(), "level="+level+" msg=\""+what)
	}
	for _, what := range []string{"announcing changes", "hearing other nodes"} {
		waitFor(t, what+" is tried again", func() bool { return logged("DEBUG", what) > 1 })
		if got := logged("ERROR", what); got != 1 {
			t.Errorf("%s is reported %d times", what, got)
		}
	}
	if n.Listening() {
		t.Error("hears what it may not")
	}
}
