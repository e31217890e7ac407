package caddymodule

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/redisconn"
	"github.com/sofatutor/caddy-llm-proxy/internal/relay"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
	"github.com/sofatutor/caddy-llm-proxy/internal/token"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// TestRedisSettings: placeholders are resolved, and what is wrong is named by the
// option, never by the value.
func TestRedisSettings(t *testing.T) {
	const canary = "CANARY-password"
	t.Setenv("TEST_REDIS", "redis://:"+canary+"@cache/3")
	t.Setenv("TEST_PASSWORD", canary)
	t.Setenv("TEST_BAD", "redis://:"+canary+"/x@cache")
	t.Setenv("TEST_NAME", "main")
	for i, tc := range []struct {
		redis *Redis
		urls  []string
		warns bool
		fail  string
	}{
		{nil, nil, false, ""},
		{&Redis{URLs: []string{"{env.TEST_REDIS}"}}, []string{"redis://:" + canary + "@cache/3"}, false, ""},
		{&Redis{URLs: []string{"redis://:{env.TEST_PASSWORD}@a", "redis://b"}, Cluster: true}, []string{"redis://:" + canary + "@a", "redis://b"}, false, ""},
		{&Redis{URLs: []string{"redis://a"}, Sentinel: "{env.TEST_NAME}"}, []string{"redis://a"}, false, ""},
		{&Redis{URLs: []string{"redis://:" + canary + "@a"}}, []string{"redis://:" + canary + "@a"}, true, ""},
		{&Redis{URLs: []string{"redis://a?username=u&password=" + canary}, Sentinel: "main"}, []string{"redis://a?username=u&password=" + canary}, true, ""},
		{&Redis{}, nil, false, "llm_proxy > redis: expected where Redis is"},
		{&Redis{URLs: []string{"{env.TEST_BAD}"}}, nil, false, "llm_proxy > redis: not a URL"},
		{&Redis{URLs: []string{"{env.TEST_NONE_SUCH}"}}, nil, false, "llm_proxy > redis > url 1: "},
		{&Redis{URLs: []string{"redis://a"}, Sentinel: "{env.TEST_NONE_SUCH}"}, nil, false, "llm_proxy > redis > sentinel: "},
	} {
		var log bytes.Buffer
		app := &App{Redis: tc.redis, logger: slog.New(slog.NewTextHandler(&log, nil))}
		s, err := app.redisSettings()
		shown := log.String() + fmt.Sprintf("%v %+v %#v", s, s, s)
		switch {
		case tc.fail != "":
			if err == nil || !strings.Contains(err.Error(), tc.fail) {
				t.Errorf("%d: error %v, want one with %q", i, err, tc.fail)
			}
			shown += fmt.Sprint(err)
		case err != nil:
			t.Errorf("%d: %v", i, err)
		case tc.redis == nil:
			if s != nil {
				t.Errorf("%d: settings from nothing", i)
			}
		default:
			var urls []string
			for _, u := range s.URLs {
				urls = append(urls, u.Reveal())
			}
			if strings.Join(urls, " ") != strings.Join(tc.urls, " ") || s.Cluster != tc.redis.Cluster || s.Sentinel != strings.ReplaceAll(tc.redis.Sentinel, "{env.TEST_NAME}", "main") {
				t.Errorf("%d: %v %v", i, urls, s)
			}
		}
		if strings.Contains(shown, canary) {
			t.Errorf("%d: the password is shown: %s", i, shown)
		}
		if got := strings.Contains(log.String(), "llm_proxy > redis"); got != tc.warns {
			t.Errorf("%d: warned %v", i, got)
		}
	}
}

// TestRedisReload: a reload keeps Redis and what is announced through it, unless
// it is about them, and leaves nothing behind.
func TestRedisReload(t *testing.T) {
	dir := t.TempDir()
	server := testdb.StartRedis(t)
	with := func(urls ...string) object {
		app := sqliteApp(dir)
		if len(urls) > 0 {
			app["redis"] = object{"urls": urls}
		}
		return site(app, proxyConfig())
	}
	load(t, with(server.URL()))
	first := activeApp(t).runtime
	waitFor(t, "Redis answers", func() bool { return first.redisAnswers()() })
	if err := reload(with(server.URL())); err != nil {
		t.Fatal(err)
	}
	second := activeApp(t).runtime
	if second.redis != first.redis || second.announcer != first.announcer {
		t.Error("a reload makes a connection anew")
	}
	if err := reload(with(server.URL(), server.URL())); err == nil || !strings.Contains(err.Error(), "llm_proxy > redis") {
		t.Errorf("two URLs: %v", err)
	}
	if err := reload(with(server.URL() + "?pool_size=5")); err != nil {
		t.Fatal(err)
	}
	third := activeApp(t).runtime
	if third.redis == first.redis || third.announcer == first.announcer || third.db != first.db {
		t.Error("other settings of Redis take the place of nothing, or of the database")
	}
	if err := reload(with()); err != nil {
		t.Fatal(err)
	}
	bare := activeApp(t).runtime
	if bare.redisAnswers() != nil || len(bare.db.announcers.list) != 0 {
		t.Error("Redis is left behind")
	}
	for _, r := range []*runtime{first, third} {
		for _, key := range r.keys[2:4] {
			if n, found := shared.References(key); found || n != 0 {
				t.Errorf("%s is held %d times", key, n)
			}
		}
	}
}

// TestRedisHears: what another node announces is in force here, and what is
// changed here is announced.
func TestRedisHears(t *testing.T) {
	server := testdb.StartRedis(t)
	app := sqliteApp(t.TempDir())
	app["redis"] = object{"urls": []string{server.URL()}}
	load(t, site(app, proxyConfig()))
	rt := activeApp(t).runtime
	store := rt.db.store.Load()
	waitFor(t, "listening", rt.announcer.relay.Listening)
	client := rt.redis.Client()
	channel := relay.Channel(redisconn.ChannelPrefix, store.Pepper())
	sub := client.Subscribe(t.Context(), channel)
	defer sub.Close()
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := enrol(t, store, "openai", project.Policy{})
	err := store.Update(t.Context(), func(tx *storage.Tx) error {
		_, _, err := tx.RevokeProjectTokens(t.Context(), c.project, "")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the revocation announced", func() bool {
		m, err := sub.ReceiveMessage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(m.Payload, c.project.String())
	})
	before := rt.db.authority.Generation()
	text := fmt.Sprintf("llm-proxy/1 other 1 changes\n%d %s 7 true", token.TokenChanged, uuid.Must(uuid.NewV4()))
	if err := client.Publish(t.Context(), channel, text).Err(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a revocation heard", func() bool { return rt.db.authority.Generation() != before })
}
