package cli

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/redisconn"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

func TestDoctorRedis(t *testing.T) {
	t.Parallel()
	const canary = "CANARY-password"
	server := testdb.StartRedis(t, "--user", "mute", "on", ">right", "~*", "resetchannels", "+@all")
	as := func(user string) *redisconn.Settings {
		return &redisconn.Settings{URLs: []secret.Value{secret.NewValue(strings.Replace(server.URL(), "redis://", "redis://"+user, 1))}}
	}
	examined := func(s *redisconn.Settings, err error) []Check {
		p := healthy(t)
		p.Redis, p.RedisErr = s, err
		return examine(t.Context(), p, fakeProbes())
	}
	expectCheck(t, examined(as(""), nil), "redis", OK, "127.0.0.1:", " answers")
	expectCheck(t, examined(nil, errors.New("llm_proxy > redis: wrong")), "redis", Fail, "llm_proxy > redis: wrong")
	expectCheck(t, examined(as("mute:right@"), nil), "redis", Fail, "NOPERM", "ACL")
	checks := examined(as("mute:"+canary+"@"), nil)
	expectCheck(t, checks, "redis", Fail, "the user or the password is wrong")
	for _, c := range checks {
		if strings.Contains(c.Detail, canary) {
			t.Errorf("%+v shows the password", c)
		}
	}
	server.Stop()
	expectCheck(t, examined(as(""), nil), "redis", Fail, "is Redis running there?")
	if slices.ContainsFunc(examined(nil, nil), func(c Check) bool { return c.Name == "redis" }) {
		t.Error("a check of a Redis that there is not")
	}

	for config, warns := range map[string]bool{
		"redis://:" + canary + "@a":               true,
		"redis://a?username=u&password=" + canary: true,
		"redis://a":                       false,
		"{env.REDIS_URL}":                 false,
		"redis://:{env.REDIS_PASSWORD}@a": false,
	} {
		found := checkLiterals([]byte(`{"apps":{"llm_proxy":{"redis":{"urls":["` + config + `"]}}}}`))
		if got := strings.Contains(found[0].Detail, "llm_proxy > redis"); got != warns || strings.Contains(found[0].Detail, canary) {
			t.Errorf("%s: %+v", config, found)
		}
	}
}
