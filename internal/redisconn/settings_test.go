package redisconn_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/redisconn"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
)

const canary = "CANARY-password"

func at(urls ...string) redisconn.Settings {
	var s redisconn.Settings
	for _, u := range urls {
		s.URLs = append(s.URLs, secret.NewValue(u))
	}
	return s
}

func cluster(s redisconn.Settings) redisconn.Settings { s.Cluster = true; return s }

func sentinel(s redisconn.Settings) redisconn.Settings { s.Sentinel = "main"; return s }

func TestSettings(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		s      redisconn.Settings
		shows  string // of the client, when it is right
		refuse string // part of the error, when it is wrong
	}{
		{at("redis://127.0.0.1"), "127.0.0.1:6379", ""},
		{at("redis://user:" + canary + "@cache:7000/3?pool_size=7"), "cache:7000", ""},
		{at("rediss://[::1]:7000"), "[::1]:7000", ""},
		{at("unix://:" + canary + "@/run/redis.sock?db=2"), "/run/redis.sock", ""},
		{cluster(at("redis://:"+canary+"@a:1", "redis://b:2", "redis://:"+canary+"@c:3")), "a:1, b:2, c:3", ""},
		{sentinel(at("redis://a:1/2?username=u&password="+canary, "redis://b:2")), "a:1, b:2", ""},

		{at(), "", "expected where Redis is"},
		{at("redis://a", "redis://b"), "", "several URLs are for cluster or sentinel"},
		{sentinel(cluster(at("redis://a"))), "", "exclude each other"},
		{at("http://:" + canary + "@a"), "", "redis://, rediss:// or unix://"},
		{at("cache:6379"), "", "not a URL of Redis"},
		{at("redis://:" + canary + "/half@a"), "", "not a URL of Redis"},
		{at("redis://:12#" + canary + "@a"), "", "not a URL of Redis"},
		{at("redis://" + canary + "?x@a"), "", "parameters"},
		{at("redis://a/" + canary), "", "parameters"},
		{at("redis://a?dial_timeout=" + canary), "", "parameters"},
		{at("unix://:" + canary + "@"), "", "parameters"},
		{cluster(at("unix:///run/" + canary)), "", "a single Redis"},
		{cluster(at("redis://a", "redis://:"+canary+"@b")), "", "URL 2: a further URL must have"},
		{cluster(at("redis://a", "redis://b?read_only="+canary)), "", "URL 2: a further URL must have"},
		{cluster(at("redis://a", "rediss://b")), "", "URL 2: a further URL must have"},
		{sentinel(at("redis://a/"+canary, "redis://b")), "", "URL 1: the URL has"},
	} {
		conn, err := redisconn.New(tc.s, nil)
		var reveals string
		if tc.refuse == "" {
			if err != nil {
				t.Errorf("%s: %v", tc.shows, err)
				continue
			}
			if conn.String() != tc.shows {
				t.Errorf("%s shows as %s", tc.shows, conn)
			}
			reveals = fmt.Sprintf("%v %+v %#v %v %#v", conn, conn, conn, tc.s, tc.s)
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		} else {
			if err == nil || !strings.Contains(err.Error(), tc.refuse) {
				t.Errorf("error %v, want one with %q", err, tc.refuse)
				continue
			}
			reveals = err.Error()
		}
		if strings.Contains(reveals, canary) {
			t.Errorf("the password is shown: %s", reveals)
		}
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	seen := make(map[string]int)
	for i, s := range []redisconn.Settings{
		at("redis://a"), at("redis://a/1"), at("redis://:x@a"), cluster(at("redis://a")), sentinel(at("redis://a")), cluster(at("redis://a", "redis://b")),
	} {
		if other, ok := seen[s.Key()]; ok {
			t.Errorf("settings %d and %d share a key", other, i)
		}
		seen[s.Key()] = i
		if strings.Contains(s.Key(), "redis") {
			t.Errorf("key %s", s.Key())
		}
	}
}

// FuzzSettings: whatever is given as URLs, the answer is a client that was not
// connected, or an error that repeats no password.
func FuzzSettings(f *testing.F) {
	for _, u := range []string{"redis://h:1/2", "rediss://u@h?db=1", "unix:///s", "redis://[::1]", "redis://h?addr=x", "//", "redis:#"} {
		f.Add(u, u, true, false)
		f.Add(u, "", false, true)
	}
	f.Fuzz(func(t *testing.T, first, second string, isCluster, isSentinel bool) {
		s := at(first)
		if second != "" {
			s = at(first, second)
		}
		s.Cluster = isCluster
		if isSentinel {
			s.Sentinel = "main"
		}
		err := s.Check()
		if err != nil && len(first) > 6 && strings.Contains(err.Error(), first) && !strings.Contains("redis://127.0.0.1:6379/0, rediss://redis.example.com, unix:///run/redis.sock", first) {
			t.Errorf("%q repeats the URL", err)
		}
	})
}
