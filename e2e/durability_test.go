package e2e

import (
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// kill ends the process as a power cut would.
func (p *proxy) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Error(err)
	}
	<-p.exited
}

// again starts a process that was killed.
func (p *proxy) again() {
	p.t.Helper()
	p.exited = make(chan struct{})
	p.run()
	p.closeIdle()
	p.await()
}

// completed is what a client knows of its requests: when those ended whose
// answer it has to the last byte.
type completed struct {
	mu    sync.Mutex
	ended map[string]time.Time // by request id
}

// chatter sends n requests, evenly at a rate a second, and returns when all have
// ended, one way or the other. progress is called with the number of answers.
func (p *proxy) chatter(t *testing.T, token, body string, n, rate int, progress func(int)) *completed {
	t.Helper()
	c := &completed{ended: make(map[string]time.Time)}
	client := p.freshClient(h2)
	pace := time.NewTicker(time.Second / time.Duration(rate))
	defer pace.Stop()
	var answers atomic.Int64
	var all sync.WaitGroup
	slots := make(chan struct{}, 200)
	for range n {
		<-pace.C
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			req := p.build(t, t.Context(), request{path: "/v1/chat/completions", body: body, token: token})
			resp, err := client.Do(req)
			if err != nil {
				return // nobody is there
			}
			defer resp.Body.Close()
			_, err = io.Copy(io.Discard, resp.Body)
			now := time.Now()
			if err != nil || resp.StatusCode != http.StatusOK {
				return
			}
			c.mu.Lock()
			c.ended[resp.Header.Get("X-LLM-Proxy-Request-Id")] = now
			c.mu.Unlock()
			progress(int(answers.Add(1)))
		})
	}
	all.Wait()
	return c
}

// TestKilled kills the process amidst 5,000 requests at 500 a second, and starts
// it again.
func TestKilled(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]string{
		"before_response":            {"durability before_response"},
		"async":                      {"durability async"},
		"before_response with Redis": {"durability before_response", "log redis"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n, rate = 5000, 500
			lossy := name == "async"
			sim := newProvider(t, simulator.Options{Chunks: 3})
			s := priced(t, against(sim))
			s.app += "\t\tevents {\n\t\t\t" + strings.Join(options, "\n\t\t\t") + "\n\t\t}\n"
			if slices.Contains(options, "log redis") {
				s.app += "\t\tredis " + testdb.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always").URL() + "\n"
			}
			p := start(t, s)
			a := p.account(t)
			kill := make(chan struct{})
			var once sync.Once
			var killed time.Time
			restarted := make(chan struct{})
			go func() {
				defer close(restarted)
				<-kill
				killed = time.Now()
				p.kill()
				p.again()
			}()
			done := p.chatter(t, a.token, chatBody("gpt-4o", true), n, rate, func(answers int) {
				if answers == n/3 {
					once.Do(func() { close(kill) })
				}
			})
			once.Do(func() { close(kill) })
			<-restarted

			var missing []time.Duration
			events := map[string]logged{}
			check := func() bool {
				missing = nil
				clear(events)
				for _, ev := range p.requests(t, "token_id="+a.tokenID) {
					if _, twice := events[ev.RequestID]; twice {
						t.Fatalf("%s is there twice", ev.RequestID)
					}
					events[ev.RequestID] = ev
				}
				for id, ended := range done.ended {
					if _, ok := events[id]; !ok {
						missing = append(missing, killed.Sub(ended))
					}
				}
				for _, before := range missing {
					// 20 ms until the batch is handed over and 50 ms that the database may
					// take before it goes to the spill file: beyond that it is the machine
					// that was busy, and then with all of these.
					if !lossy || before > time.Second || before < -time.Second {
						return false
					}
				}
				return true
			}
			eventually(t, "every request that was answered is in the log", check)
			t.Logf("%d answered, %d in the log, %d missing %v", len(done.ended), len(events), len(missing), missing)
			if len(done.ended) < n/2 {
				t.Errorf("only %d requests were answered", len(done.ended))
			}
			var in, out int64
			for _, ev := range events {
				i, o := ev.tokens()
				in, out = in+i, out+o
			}
			requests, sumIn, sumOut, cost := a.usageTotal(t)
			if requests != int64(len(events)) || sumIn != in || sumOut != out || cost.Cmp(big.NewRat(costOf(in, out), 1e9)) != 0 {
				t.Errorf("sums: %d requests, %d in, %d out, %s USD; events: %d, %d, %d", requests, sumIn, sumOut, cost.FloatString(9), len(events), in, out)
			}
		})
	}
}

// TestReloadLosesNoEvent reloads during traffic, with a stream of the old
// configuration that ends under the new one.
func TestReloadLosesNoEvent(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{Chunks: 3})
	s := priced(t, against(sim))
	p := start(t, s)
	a, old := p.account(t), p.account(t)
	release := sim.hold(t, old.key)
	stream := p.open(t, bounded(t), request{path: "/v1/chat/completions", token: old.token, body: chatBody("gpt-4o", true)})
	if _, err := io.ReadFull(stream.Body, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	reloaded := make(chan struct{})
	go func() {
		defer close(reloaded)
		for i := range 3 {
			s.handler = fmt.Sprintf("max_body %dMiB", 20+i)
			if err := p.load(s); err != nil {
				t.Error(err)
			}
		}
	}()
	done := p.chatter(t, a.token, chatBody("gpt-4o", false), 600, 200, func(int) {})
	<-reloaded
	release()
	rest, err := io.ReadAll(stream.Body)
	if err != nil || !strings.HasSuffix(string(rest), "data: [DONE]\n\n") {
		t.Errorf("the old stream ended in %v", err)
	}
	eventually(t, "every request is in the log", func() bool {
		events := map[string]bool{}
		for _, ev := range p.requests(t, "token_id="+a.tokenID) {
			events[ev.RequestID] = true
		}
		for id := range done.ended {
			if !events[id] {
				return false
			}
		}
		return true
	})
	if ev := old.awaitRequests(t, 1)[0]; ev.Outcome != "ok" || ev.Estimated {
		t.Errorf("%+v", ev)
	}
}

// TestRedisLogOutage kills Redis, with the events that it has not written, during
// traffic, and starts it again.
func TestRedisLogOutage(t *testing.T) {
	t.Parallel()
	server := testdb.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	sim := newProvider(t, simulator.Options{Chunks: 3})
	s := priced(t, against(sim))
	s.app += "\t\tredis " + server.URL() + "\n\t\tevents {\n\t\t\tlog redis\n\t\t\tdurability before_response\n\t\t}\n"
	p := start(t, s)
	a := p.account(t)
	cut := make(chan struct{})
	back := make(chan struct{})
	go func() {
		defer close(back)
		<-cut
		server.Kill()
		for range 20 { // requests that are answered without it
			p.do(t, request{path: "/v1/chat/completions", token: a.token, body: chatBody("gpt-4o", false)})
		}
		server.Start()
	}()
	done := p.chatter(t, a.token, chatBody("gpt-4o", true), 1200, 200, func(answers int) {
		if answers == 400 {
			close(cut)
		}
	})
	<-back
	if len(done.ended) != 1200 {
		t.Errorf("%d of 1200 requests were answered", len(done.ended))
	}
	a.awaitRequests(t, 1220)
	requests, in, out, cost := a.usageTotal(t)
	if requests != 1220 || cost.Cmp(big.NewRat(costOf(in, out), 1e9)) != 0 {
		t.Errorf("%d requests, %d in, %d out, %s USD", requests, in, out, cost.FloatString(9))
	}
}
