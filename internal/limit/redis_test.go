package limit_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sofatutor/caddy-llm-proxy/internal/limit"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// trips counts round trips.
type trips struct{ n, commands atomic.Int64 }

// patience notes the longest time that a script is given.
type patience struct {
	trips
	longest atomic.Int64
}

func (p *patience) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "evalsha" || cmd.Name() == "eval" {
			left := int64(1 << 62)
			if deadline, ok := ctx.Deadline(); ok {
				left = int64(time.Until(deadline))
			}
			p.longest.Store(max(p.longest.Load(), left))
		}
		return next(ctx, cmd)
	}
}

// TestPatience: a request waits 50 ms for Redis, by a deadline of its own that the
// client's leaving does not change.
func TestPatience(t *testing.T) {
	t.Parallel()
	conn := connect(t, testdb.Redis(t))
	r := limit.NewRedis(conn, nil)
	r.SetBeat(2*time.Second, 0)
	r.Start()
	defer r.Close()
	waitFor(t, "Redis is met", shared(r))
	p := new(patience)
	conn.Client().AddHook(p)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	waitFor(t, "a take in time", func() bool {
		d, err := r.Take(ctx, limit.Request{Demands: []limit.Demand{requests("a", 5, time.Minute)}, OnFailure: limit.Deny}, new(limit.Ticket))
		return err == nil && d.Admitted
	})
	if longest := time.Duration(p.longest.Load()); longest <= 0 || longest > 50*time.Millisecond {
		t.Errorf("Redis has %s to answer", longest)
	}
}

func (c *trips) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "evalsha" || cmd.Name() == "eval" {
			c.n.Add(1)
			c.commands.Add(1)
		}
		return next(ctx, cmd)
	}
}

func (c *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.n.Add(1)
		c.commands.Add(int64(len(cmds)))
		return next(ctx, cmds)
	}
}

// TestRoundTrips: one when admitted, whatever the number of limits; a second one
// when Redis does not know the script, or has taken in one slot what another
// refused.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		option         func(*limit.Redis)
		calls, undoing int64
	}{
		"one call":             {func(*limit.Redis) {}, 1, 0},
		"a call for each slot": {(*limit.Redis).SetCluster, 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, testdb.StartRedis(t).URL()) // scripts are flushed for the whole server
			count := new(trips)
			conn.Client().AddHook(count)
			r := node(t, conn, nil, func(r *limit.Redis) {
				r.SetQuiet()
				tc.option(r)
			})
			mine, all := requests("a", 100, time.Minute), everybody(requests("", 3, time.Minute))
			demands := []limit.Demand{mine, tokens("a", 100, time.Hour, 1), slots("a", 100), all}
			did := func(what string, round, commands int64, f func()) {
				t.Helper()
				count.n.Store(0)
				count.commands.Store(0)
				f()
				if n, c := count.n.Load(), count.commands.Load(); n != round || c != commands {
					t.Errorf("%s: %d round trips with %d commands, want %d with %d", what, n, c, round, commands)
				}
			}
			mustTake(t, r, demands...)
			did("admitted", 1, tc.calls, func() { mustTake(t, r, demands...) })
			if err := conn.Client().ScriptFlush(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			did("unknown script", 2, 2*tc.calls, func() { mustTake(t, r, demands...) })
			mustTake(t, r, tokens("b", 9, time.Hour, 5)).Settle(1) // has the other script known
			r.Flush()
			did("refused", 1, tc.calls, func() { mustRefuse(t, r, mine, all) })
			did("undone", tc.undoing, tc.undoing, r.Flush)
			if got, _ := take(t, r, mine); got.Requests.Remaining != 96 {
				t.Errorf("%+v after three and this one were admitted", got)
			}
			did("never fits", 0, 0, func() { mustRefuse(t, r, tokens("a", 1, time.Hour, 2)) })
			did("no limits", 0, 0, func() { mustTake(t, r) })
		})
	}
}

// TestKeys: nothing stays in Redis for ever, and ids mean nothing in a key.
func TestKeys(t *testing.T) {
	t.Parallel()
	conn := connect(t, testdb.Redis(t))
	r := node(t, conn, nil, func(*limit.Redis) {})
	odd := requests("a}b{c", 5, time.Minute)
	odd.Project = "p}q"
	mustTake(t, r, requests("a", 5, time.Second), tokens("a", 9, 24*time.Hour, 3), slots("a", 5), everybody(requests("", 5, time.Hour)), odd).Settle(5)
	r.Flush()
	keys, err := conn.Client().Keys(t.Context(), "*").Result()
	if err != nil || len(keys) != 7 {
		t.Fatalf("%d keys, want those of 5 limits, the epoch and the nodes: %q, %v", len(keys), keys, err)
	}
	for _, k := range keys {
		ttl, err := conn.Client().PTTL(t.Context(), k).Result()
		if err != nil || ttl <= 0 {
			t.Errorf("%s stays for %s: %v", k, ttl, err)
		}
	}
	if got, want := limit.Name(tokens("a", 9, time.Minute, 3).Key), "llm_proxy:limit:{p-p1}:token:a:tokens:60000000"; got != want {
		t.Errorf("key %s, want %s", got, want)
	}
	size, err := conn.Client().StrLen(t.Context(), limit.Name(requests("a", 5, time.Second).Key)).Result()
	if err != nil || size != 504 {
		t.Errorf("a window takes %d bytes, %v", size, err)
	}
}

// TestNodesCrowd: several nodes with many requests at once stay within the limit
// together, by Redis's time, and with slots.
func TestNodesCrowd(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]func(*limit.Redis){"one call": func(*limit.Redis) {}, "a call for each slot": (*limit.Redis).SetCluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testdb.Redis(t)
			steady := connect(t, url)
			var low, high atomic.Int64 // Redis's time is between them
			move := func(at int64) {
				high.Store(at)
				if err := steady.Client().Set(context.Background(), clockKey, at, 0).Err(); err != nil {
					t.Error(err)
				}
				low.Store(at)
			}
			move(epoch)
			const amount, running, nodes, crowd, rounds = 20, 4, 3, 6, 60
			log := new(crowdLog)
			var inflight, most atomic.Int64
			var wg sync.WaitGroup
			for n := range nodes {
				r := node(t, connect(t, url), nil, func(r *limit.Redis) {
					r.SetRedisClock(clockKey)
					option(r)
				})
				for range crowd {
					wg.Go(func() {
						for i := range rounds {
							before := low.Load()
							ticket := new(limit.Ticket)
							d, err := r.Take(t.Context(), limit.Request{OnFailure: limit.Deny, Demands: []limit.Demand{
								requests("a", amount, time.Second), slots("a", running), everybody(requests("", 10*amount, time.Second)),
							}}, ticket)
							if err != nil || !d.Admitted {
								move(high.Load() + 10_000)
								continue
							}
							log.add(before, high.Load())
							for n := inflight.Add(1); ; {
								if old := most.Load(); n <= old || most.CompareAndSwap(old, n) {
									break
								}
							}
							if (n+i)%3 == 0 {
								move(high.Load() + 5_000)
							}
							inflight.Add(-1)
							ticket.Release()
						}
					})
				}
			}
			wg.Wait()
			log.judge(t, amount, time.Second)
			if most.Load() > running {
				t.Errorf("%d at once, want %d at most", most.Load(), running)
			}
		})
	}
}

// TestClockOfANode: a node's own time decides nothing.
func TestClockOfANode(t *testing.T) {
	t.Parallel()
	url := testdb.Redis(t)
	var clocks []*atomic.Int64
	var nodes []*limit.Redis
	for range 2 {
		c := new(atomic.Int64)
		c.Store(2 * time.Hour.Microseconds())
		clocks = append(clocks, c)
		nodes = append(nodes, node(t, connect(t, url), nil, func(r *limit.Redis) { r.SetClock(c.Load) }))
	}
	const amount = 30
	d := requests("a", amount, 30*time.Minute)
	admitted := 0
	for i := range 3 * amount {
		clocks[0].Add([]int64{1, -1}[i%2] * time.Hour.Microseconds())
		if got, _ := take(t, nodes[i%2], d); got.Admitted {
			admitted++
		}
	}
	if admitted != amount {
		t.Errorf("%d admitted, want %d", admitted, amount)
	}
	for _, r := range nodes {
		if s := r.State(); !s.Shared || s.Losses > 0 {
			t.Errorf("%+v", s)
		}
	}
}

// TestSlotsOfTheDead: the slots of a process that is gone are free ten seconds later,
// and those of one that lives are not.
func TestSlotsOfTheDead(t *testing.T) {
	t.Parallel()
	url := testdb.Redis(t)
	conn := connect(t, url)
	set := func(at int64) {
		if err := conn.Client().Set(t.Context(), clockKey, at, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	set(epoch)
	start := func(every time.Duration) *limit.Redis {
		return node(t, connect(t, url), nil, func(r *limit.Redis) {
			r.SetRedisClock(clockKey)
			r.SetBeat(every, 0)
		})
	}
	dead, living, other := start(time.Hour), start(20*time.Millisecond), start(20*time.Millisecond)
	d := slots("a", 4)
	mustTake(t, dead, d)
	mustTake(t, dead, d)
	mustTake(t, living, d)
	mustTake(t, other, d)
	mustRefuse(t, other, d)
	set(epoch + 10_000_000)
	mustRefuse(t, other, d)
	touched := func(r int64) func() bool {
		return func() bool {
			fields, err := conn.Client().HGetAll(t.Context(), limit.Name(d.Key)).Result()
			n := 0
			for _, v := range fields {
				var count, at, seq int64
				if _, err := fmt.Sscanf(v, "%d|%d|%d", &count, &at, &seq); err == nil && at == r {
					n++
				}
			}
			return err == nil && n >= 2
		}
	}
	waitFor(t, "the living tell their slots", touched(epoch+10_000_000))
	set(epoch + 10_000_001)
	waitFor(t, "the living tell their slots", touched(epoch+10_000_001))
	mustTake(t, other, d)
	mustTake(t, other, d)
	mustRefuse(t, other, d)
}
