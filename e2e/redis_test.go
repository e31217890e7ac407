package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// redisClient is a client of the test's own.
func redisClient(t *testing.T, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(o)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// muteNotify takes NOTIFY out of action in a database: what nodes announce by it
// goes nowhere, and all else works.
func muteNotify(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(bounded(t), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // its server may be gone
	for _, sql := range []string{
		`CREATE FUNCTION public.pg_notify(channel text, payload text) RETURNS void LANGUAGE plpgsql AS
			$$ BEGIN IF channel <> 'llm_proxy_changes' THEN PERFORM pg_catalog.pg_notify(channel, payload); END IF; END $$`,
		`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$`,
		`LISTEN llm_proxy_changes`,
		`LISTEN marker`,
	} {
		if _, err := conn.Exec(bounded(t), sql); err != nil {
			t.Fatal(err)
		}
	}
	return conn
}

// checkOf reads one check of /ready, which must answer 200.
func (p *proxy) checkOf(t *testing.T, name string) string {
	t.Helper()
	resp, err := p.client(h2).Get(p.url + "/ready")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body struct{ Checks map[string]string }
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("/ready: %s, %v", resp.Status, err)
	}
	return body.Checks[name]
}

func (p *proxy) redisIs(t *testing.T, state string) {
	t.Helper()
	eventually(t, "/ready says that Redis is "+state, func() bool { return p.checkOf(t, "redis") == state })
}

// TestChangesByRedis: with NOTIFY out of action, Redis alone tells other nodes.
// What it tells them ends streams, which nothing else there would do.
func TestChangesByRedis(t *testing.T) {
	t.Parallel()
	c := &cluster{server: testdb.StartPostgres(t), sim: newProvider(t, simulator.Options{})}
	dsn := c.server.Database()
	notified := muteNotify(t, dsn)
	url := testdb.StartRedis(t).URL()
	c.env = []string{"DATABASE_URL=" + dsn, "LLM_PROXY_KEY=" + secret.NewKey(), "REDIS_URL=" + url}
	s := c.site()
	s.app = "redis {env.REDIS_URL}"
	for range 3 {
		c.nodes = append(c.nodes, launch(t, s, c.env...))
	}
	client := redisClient(t, url)
	for _, n := range c.nodes {
		n.await()
		n.redisIs(t, "ok")
	}
	eventually(t, "every node listens", func() bool {
		channels := client.PubSubChannels(t.Context(), "llm-proxy:changes:*").Val()
		return len(channels) == 1 && client.PubSubNumSub(t.Context(), channels...).Val()[channels[0]] == int64(len(c.nodes))
	})
	for name, end := range map[string]func(a *account){
		"revocation":      func(a *account) { a.revoke(t) },
		"bulk revocation": func(a *account) { a.p.manage(t, "POST", "projects/"+a.projectID+"/tokens/revoke", nil) },
		"deactivation":    func(a *account) { a.patchProject(t, object{"is_active": false}) },
	} {
		a := c.nodes[0].account(t)
		release := c.sim.hold(t, a.key)
		streams := []*http.Response{
			c.nodes[1].open(t, bounded(t), chat(a.token, "sim-chunks-40", true)),
			c.nodes[2].open(t, bounded(t), chat(a.token, "sim-chunks-40", true)),
		}
		end(a)
		began := time.Now()
		for _, stream := range streams {
			if body, err := io.ReadAll(stream.Body); err == nil || !strings.Contains(string(body), "_inactive") {
				t.Errorf("%s: error %v after %q", name, err, body)
			}
		}
		t.Logf("%s: streams on other nodes ended after %s", name, time.Since(began).Round(time.Millisecond))
		release()
		took := c.spread(t, name, func() {}, func(n *proxy) bool { return n.do(t, chat(a.token, "m", false)).status/100 == 4 })
		t.Logf("%s: every node refuses after another %s", name, took.Round(time.Millisecond))
	}
	a := c.nodes[0].account(t)
	for _, n := range c.nodes {
		if got := n.do(t, chat(a.token, "m", false)); got.status != http.StatusOK {
			t.Fatalf("before the change: %d %s", got.status, got.body)
		}
	}
	took := c.spread(t, "a limit", func() { a.patchProject(t, object{"allowed_models": []string{"other"}}) }, func(n *proxy) bool {
		return n.do(t, chat(a.token, "m", false)).status == http.StatusForbidden
	})
	t.Logf("a limit: in force on every node after %s", took.Round(time.Millisecond))

	if _, err := notified.Exec(bounded(t), `SELECT pg_catalog.pg_notify('marker', '')`); err != nil {
		t.Fatal(err)
	}
	if n, err := notified.WaitForNotification(bounded(t)); err != nil || n.Channel != "marker" {
		t.Errorf("NOTIFY was not out of action: %+v, %v", n, err)
	}
}

// TestRedisOutage: requests do not notice that Redis is away, whatever it does,
// and nodes hear each other again when it is back.
func TestRedisOutage(t *testing.T) {
	t.Parallel()
	server := testdb.StartRedis(t)
	sim := newProvider(t, simulator.Options{})
	s := against(sim)
	s.app = "redis {\n\turl {env.REDIS_URL}\n}"
	p := start(t, s, "REDIS_URL="+server.URL())
	p.redisIs(t, "ok")
	a := p.account(t)
	// burst sends requests and returns the slowest's time, and the middle one's.
	burst := func() (slowest, median time.Duration) {
		var times []time.Duration
		for range 40 {
			began := time.Now()
			if got := p.do(t, chat(a.token, "m", false)); got.status != http.StatusOK {
				t.Fatalf("%d %s", got.status, got.body)
			}
			times = append(times, time.Since(began))
		}
		slices.Sort(times)
		return times[len(times)-1], times[len(times)/2]
	}
	slowest, median := burst()
	t.Logf("with Redis: %s, slowest %s", median, slowest)
	for _, fault := range []struct {
		name       string
		begin, end func()
	}{{"killed", server.Kill, server.Start}, {"frozen", server.Pause, server.Resume}} {
		client := redisClient(t, server.URL())
		fault.begin()
		began := time.Now()
		slowest, median := burst()
		t.Logf("%s: %s, slowest %s", fault.name, median, slowest)
		a.patchProject(t, object{"name": "while Redis is " + fault.name}) // is announced, or is not
		p.redisIs(t, "degraded")
		t.Logf("%s: noticed after %s", fault.name, time.Since(began).Round(time.Millisecond))
		slowest, median = burst()
		t.Logf("%s and noticed: %s, slowest %s", fault.name, median, slowest)
		fault.end()
		began = time.Now()
		p.redisIs(t, "ok")
		eventually(t, "listening again", func() bool {
			return len(client.PubSubChannels(t.Context(), "llm-proxy:changes:*").Val()) == 1
		})
		t.Logf("%s: over after %s", fault.name, time.Since(began).Round(time.Millisecond))
	}
	for words, want := range map[string]int{"Redis is away": 2, "Redis answers again": 2} {
		if got := strings.Count(p.output.String(), words); got != want {
			t.Errorf("%q is logged %d times", words, got)
		}
	}
	// Reloads keep the connection, and let go of it when it is not wanted.
	p.reload(s)
	if got := strings.Count(p.output.String(), "Redis answers"); got != 3 {
		t.Errorf("a reload makes a connection anew: %d", got)
	}
	s.app = ""
	p.reload(s)
	if got := p.checkOf(t, "redis"); got != "" {
		t.Errorf("Redis is %s where there is none", got)
	}
	client := redisClient(t, server.URL())
	eventually(t, "nobody listens", func() bool {
		channels, err := client.PubSubChannels(t.Context(), "*").Result()
		return err == nil && len(channels) == 0
	})
}

// TestRedisAwayAtStart: a process starts and serves without its Redis, and takes
// it when it is there.
func TestRedisAwayAtStart(t *testing.T) {
	t.Parallel()
	server := testdb.StartRedis(t)
	server.Stop()
	s := against(newProvider(t, simulator.Options{}))
	s.app = "redis {env.REDIS_URL}"
	p := start(t, s, "REDIS_URL="+server.URL())
	p.redisIs(t, "degraded")
	a := p.account(t)
	if got := p.do(t, chat(a.token, "m", false)); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
	server.Start()
	p.redisIs(t, "ok")
}

// TestRedisPassword: a wrong password is named, and shown nowhere.
func TestRedisPassword(t *testing.T) {
	t.Parallel()
	server := testdb.StartRedis(t, "--user", "proxy", "on", ">right", "~*", "resetchannels", "&llm-proxy:*", "+@all")
	with := func(password string) string {
		return "REDIS_URL=" + strings.Replace(server.URL(), "redis://", "redis://proxy:"+password+"@", 1)
	}
	const wrong = "CANARY-of-the-wrong-password"
	s := against(newProvider(t, simulator.Options{}))
	s.app = "redis {env.REDIS_URL}"
	p := start(t, s, with(wrong))
	p.redisIs(t, "degraded")
	doctor := func(env string) (report string, code int) {
		cmd := p.command("llm-proxy", "doctor", "--config", p.caddyfile())
		cmd.Env = append(cmd.Env, env)
		out, err := cmd.CombinedOutput()
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			code = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		return string(out), code
	}
	report, code := doctor(with(wrong))
	if code != 1 || !strings.Contains(report, "the user or the password is wrong") {
		t.Errorf("exit %d:\n%s", code, report)
	}
	eventually(t, "the log says what is wrong", func() bool { return p.output.contains("the user or the password is wrong") })
	for what, text := range map[string]string{"doctor": report, "log": p.output.String(), "GET /config/": p.admin("/config/")} {
		if strings.Contains(text, wrong) {
			t.Errorf("%s shows the password", what)
		}
	}
	if report, _ := doctor(with("right")); !strings.Contains(report, "answers") || strings.Contains(report, "fail  redis") {
		t.Errorf("with the right password:\n%s", report)
	}
}
