package limit_test

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// three are nodes on one Redis that know each other.
func three(t *testing.T, server *testdb.RedisServer, log *transcript) []*limit.Redis {
	t.Helper()
	var nodes []*limit.Redis
	for range 3 {
		nodes = append(nodes, node(t, connect(t, server.URL()), slog.New(slog.NewTextHandler(log, nil)), func(*limit.Redis) {}))
	}
	for _, r := range nodes {
		waitFor(t, "the nodes know each other", func() bool { return r.State().Nodes == 3 && r.Ready() })
	}
	return nodes
}

// drain takes as long as it can, with several requests at once.
func drain(t *testing.T, r *limit.Redis, q limit.Request) (admitted int, err error) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				d, failed := r.Take(t.Context(), q, new(limit.Ticket))
				mu.Lock()
				if failed != nil {
					err = failed
				}
				if d.Admitted {
					admitted++
				}
				mu.Unlock()
				if failed != nil || !d.Admitted {
					return
				}
			}
		})
	}
	wg.Wait()
	return admitted, err
}

func local(d ...limit.Demand) limit.Request { return limit.Request{Demands: d} }

func deny(d ...limit.Demand) limit.Request {
	return limit.Request{Demands: d, OnFailure: limit.Deny}
}

// TestOutage: without Redis each node goes on with its share, or denies, and says so
// once; when Redis is back with its counters, they hold what was admitted meanwhile.
func TestOutage(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(s *testdb.RedisServer) (begin, end func()){
		"killed, with a log": func(s *testdb.RedisServer) (func(), func()) { return s.Kill, s.Start },
		"frozen":             func(s *testdb.RedisServer) (func(), func()) { return s.Pause, s.Resume },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testdb.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always")
			log := new(transcript)
			nodes := three(t, server, log)
			seen, unseen, small, slot := requests("a", 90, time.Hour), requests("b", 90, time.Hour), requests("c", 2, time.Hour), slots("a", 9)
			for range 30 {
				mustTake(t, nodes[0], seen)
			}
			mustTake(t, nodes[0], slot)
			begin, end := fault(server)
			begin()
			for _, r := range nodes {
				waitFor(t, "a node notices", func() bool {
					_, err := r.Take(t.Context(), deny(requests("other", 1000, time.Hour)), new(limit.Ticket))
					return alone(r)() && errors.Is(err, limit.ErrUnavailable)
				})
			}
			for i, want := range []int{20, 30, 30} { // (90-30)/3, and for those who have not asked 90/3
				if n, err := drain(t, nodes[i], local(seen)); n != want || err != nil {
					t.Errorf("node %d admits %d alone, want %d: %v", i, n, want, err)
				}
			}
			if n, err := drain(t, nodes[1], deny(unseen)); n != 0 || !errors.Is(err, limit.ErrUnavailable) {
				t.Errorf("%d admitted, %v", n, err)
			}
			if n, err := drain(t, nodes[1], local(small)); n != 0 || !errors.Is(err, limit.ErrUnavailable) {
				t.Errorf("%d of 2 admitted by one of three nodes, %v", n, err)
			}
			if n, err := drain(t, nodes[0], local(slot)); n != 1 || err != nil { // (9-1)/6
				t.Errorf("%d slots more, want 1: %v", n, err)
			}
			stranger := node(t, connect(t, server.URL()), nil, func(*limit.Redis) {})
			if _, err := stranger.Take(t.Context(), local(seen), new(limit.Ticket)); !errors.Is(err, limit.ErrUnavailable) {
				t.Errorf("a node that has never met Redis admits: %v", err)
			}
			end()
			for _, r := range append(nodes, stranger) {
				waitFor(t, "a node is back", shared(r))
			}
			// All 110 are in Redis now; nothing fits until an amount of 111.
			seen.Amount = 110
			for _, r := range append(nodes, stranger) {
				mustRefuse(t, r, seen)
			}
			seen.Amount = 111
			if n, err := drain(t, stranger, local(seen)); n != 1 || err != nil {
				t.Errorf("%d of 111 are left, want 1: %v", n, err)
			}
			for range 7 {
				mustTake(t, nodes[2], slot)
			}
			mustRefuse(t, nodes[1], slot)
			for words, want := range map[string]int{"rate limits are not shared": 3, "rate limits are shared again": 3, "lost counters": 0, "shared through Redis": 3} {
				if got := strings.Count(log.String(), words); got != want {
					t.Errorf("%q is logged %d times, want %d:\n%s", words, got, want, log)
				}
			}
		})
	}
}

// TestEmptied: a Redis that comes back without its counters is not believed for the
// length of a window.
func TestEmptied(t *testing.T) {
	t.Parallel()
	server := testdb.StartRedis(t)
	log := new(transcript)
	nodes := three(t, server, log)
	long, short := requests("a", 30, time.Hour), requests("a", 30, time.Second)
	for _, d := range []limit.Demand{long, short} {
		if n, err := drain(t, nodes[0], deny(d)); n != 30 || err != nil {
			t.Fatalf("%d of 30 admitted: %v", n, err)
		}
	}
	server.Kill()
	server.Start()
	for i, r := range nodes {
		waitFor(t, "a node notices and is back", func() bool { s := r.State(); return s.Shared && s.Losses == 1 })
		if n, err := drain(t, r, deny(long)); n != 0 || !errors.Is(err, limit.ErrUnavailable) {
			t.Errorf("%d admitted after 30 of 30, %v", n, err)
		}
		want := 10 // a third, by nodes that had not heard of the 30
		if i == 0 {
			want = 0
		}
		// A share of nothing is none to tell by, or none that is free.
		if n, err := drain(t, r, local(long)); n != want || err != nil {
			t.Errorf("node %d admits %d of its share, want %d: %v", i, n, want, err)
		}
	}
	// A node that starts now hears of the loss.
	stranger := node(t, connect(t, server.URL()), nil, func(*limit.Redis) {})
	if _, err := stranger.Take(t.Context(), deny(long), new(limit.Ticket)); !errors.Is(err, limit.ErrUnavailable) {
		t.Errorf("a new node believes what was lost: %v", err)
	}
	for _, r := range append(nodes, stranger) {
		waitFor(t, "the short window is over", func() bool {
			_, err := r.Take(t.Context(), deny(short), new(limit.Ticket))
			return err == nil
		})
	}
	if got := strings.Count(log.String(), "lost counters"); got != 3 {
		t.Errorf("the loss is logged %d times:\n%s", got, log)
	}
	// What nodes knew is in Redis again: 30 of the first one, 10 of each other.
	key := limit.Name(long.Key)
	conn := connect(t, server.URL())
	waitFor(t, "mirrors are written", func() bool {
		b, err := conn.Client().Get(t.Context(), key).Bytes()
		return err == nil && len(b) == 504 && b[15] == 50
	})
}

// TestFlushed: Redis losing its data while it runs is found out by the next request,
// even where the epoch lies in another slot.
func TestFlushed(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]func(*limit.Redis){"one call": func(*limit.Redis) {}, "a call for each slot": (*limit.Redis).SetCluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, testdb.Redis(t))
			r := node(t, conn, nil, func(r *limit.Redis) {
				option(r)
				r.SetBeat(time.Hour, 0)
			})
			d := requests("a", 10, time.Hour)
			for range 10 {
				mustTake(t, r, d)
			}
			if err := conn.Client().Del(t.Context(), limit.Name(d.Key)).Err(); err != nil {
				t.Fatal(err)
			}
			if name == "one call" {
				if err := conn.Client().Del(t.Context(), limit.EpochKey).Err(); err != nil {
					t.Fatal(err)
				}
			}
			if n, err := drain(t, r, deny(d)); n != 0 || !errors.Is(err, limit.ErrUnavailable) {
				t.Errorf("%d admitted, %v", n, err)
			}
			waitFor(t, "the loss is noted", func() bool { s := r.State(); return s.Shared && s.Losses == 1 })
			if n, err := drain(t, r, deny(d)); n != 0 || !errors.Is(err, limit.ErrUnavailable) {
				t.Errorf("%d admitted, %v", n, err)
			}
		})
	}
}

// TestYoungEpoch: under Deny an empty Redis is not believed until everybody who knew
// another one has had the time to say so.
func TestYoungEpoch(t *testing.T) {
	t.Parallel()
	r := node(t, connect(t, testdb.Redis(t)), nil, func(r *limit.Redis) { r.SetBeat(time.Hour, time.Hour) })
	d := requests("a", 10, 2*time.Hour)
	if _, err := r.Take(t.Context(), deny(d), new(limit.Ticket)); !errors.Is(err, limit.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	mustTake(t, r, d)
}

// TestNewcomer: a node that the others do not know yet has no share, for they divide
// without it.
func TestNewcomer(t *testing.T) {
	t.Parallel()
	server := testdb.StartRedis(t)
	start := func() *limit.Redis {
		return node(t, connect(t, server.URL()), nil, func(r *limit.Redis) { r.SetBeat(time.Hour, 0) })
	}
	old := start()
	waitFor(t, "the first is there", shared(old))
	newcomer := start()
	waitFor(t, "the second is there", shared(newcomer))
	server.Kill()
	d := requests("a", 10, time.Hour)
	for _, r := range []*limit.Redis{old, newcomer} {
		waitFor(t, "a node notices", func() bool {
			_, err := r.Take(t.Context(), deny(d), new(limit.Ticket))
			return alone(r)() && err != nil
		})
	}
	if n, err := drain(t, old, local(d)); n != 10 || err != nil {
		t.Errorf("%d admitted, want all: %v", n, err)
	}
	if n, err := drain(t, newcomer, local(d)); n != 0 || !errors.Is(err, limit.ErrUnavailable) {
		t.Errorf("%d admitted besides: %v", n, err)
	}
}

// TestSlotsHeal: a take that was given up but ran all the same takes no slot for
// long, and slots that were taken alone are known when Redis is back.
func TestSlotsHeal(t *testing.T) {
	t.Parallel()
	server := testdb.StartRedis(t)
	a, b := node(t, connect(t, server.URL()), nil, func(*limit.Redis) {}), node(t, connect(t, server.URL()), nil, func(*limit.Redis) {})
	d := slots("a", 4)
	mustTake(t, a, d).Release()
	server.Pause()
	for range 3 {
		if _, err := a.Take(t.Context(), deny(d), new(limit.Ticket)); !errors.Is(err, limit.ErrUnavailable) {
			t.Errorf("%v", err)
		}
	}
	held := mustTake(t, a, d)
	server.Resume()
	waitFor(t, "both are back", func() bool { return shared(a)() && shared(b)() })
	conn := connect(t, server.URL())
	count := func(want string) func() bool {
		return func() bool {
			fields, err := conn.Client().HGetAll(t.Context(), limit.Name(d.Key)).Result()
			for _, v := range fields {
				if strings.HasPrefix(v, want+"|") {
					return err == nil
				}
			}
			return false
		}
	}
	waitFor(t, "one slot is known", count("1"))
	for range 3 {
		mustTake(t, b, d)
	}
	mustRefuse(t, b, d)
	held.Release()
	held.Release()
	waitFor(t, "none is", count("0"))
	mustTake(t, b, d)
	mustRefuse(t, a, d)
}

// TestStartWithoutRedis: nothing is admitted before Redis was reached once.
func TestStartWithoutRedis(t *testing.T) {
	t.Parallel()
	server := testdb.StartRedis(t)
	server.Stop()
	log := new(transcript)
	r := node(t, connect(t, server.URL()), slog.New(slog.NewTextHandler(log, nil)), func(*limit.Redis) {})
	for _, q := range []limit.Request{local(requests("a", 1, time.Minute)), deny(slots("a", 1))} {
		if _, err := r.Take(t.Context(), q, new(limit.Ticket)); !errors.Is(err, limit.ErrUnavailable) {
			t.Errorf("%v", err)
		}
	}
	mustTake(t, r) // without limits
	if s := r.State(); s.Shared || s.Met || s.Err == nil {
		t.Errorf("%+v", s)
	}
	server.Start()
	waitFor(t, "Redis is met", shared(r))
	mustTake(t, r, requests("a", 1, time.Minute))
	if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "cannot be shared") || !strings.Contains(got, "shared through Redis") {
		t.Errorf("%s", got)
	}
	r.Close()
	r.Start()
	r.Close()
	if nodes, err := connect(t, server.URL()).Client().HLen(t.Context(), limit.NodesKey).Result(); err != nil || nodes != 0 {
		t.Errorf("%d nodes are left, %v", nodes, err)
	}
}
