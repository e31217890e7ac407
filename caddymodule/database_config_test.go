package caddymodule

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

func TestHoldsPassword(t *testing.T) {
	for dsn, want := range map[string]bool{
		"postgres://user:secret@db/x":             true,
		"postgres://db/x?user=u&password=secret":  true,
		"host=db user=u password=secret":          true,
		"postgres://user@db/x?sslmode=require":    false,
		"host=db user=u passfile=/run/secrets/pw": false,
		"/var/lib/llm-proxy/llm-proxy.db":         false,
	} {
		if got := holdsPassword(dsn); got != want {
			t.Errorf("holdsPassword(%q) = %v", dsn, got)
		}
	}
}

// TestDatabaseSettings: what only PostgreSQL has is refused elsewhere, and each
// setting gives a pool of its own.
func TestDatabaseSettings(t *testing.T) {
	t.Setenv("TEST_DSN", "postgres://db/x")
	const key = "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s="
	grace := caddy.Duration(time.Minute)
	none := caddy.Duration(0)
	off := false
	seen := make(map[string]int)
	for i, tc := range []struct {
		db   Database
		keys []string
		fail string
	}{
		{Database{Driver: "postgres", DSN: "{env.TEST_DSN}"}, []string{key}, ""},
		{Database{Driver: "postgres", DSN: "{env.TEST_DSN}", StoreOutageGrace: &grace}, []string{key}, ""},
		{Database{Driver: "postgres", DSN: "{env.TEST_DSN}", StoreOutageGrace: &none}, []string{key}, ""},
		{Database{Driver: "postgres", DSN: "{env.TEST_DSN}", Migrate: &off}, []string{key}, ""},
		{Database{Driver: "postgres", DSN: "{env.TEST_DSN}", MaxConns: 8}, []string{key}, ""},
		{Database{Driver: "postgres", DSN: "{env.TEST_DSN}", StatementTimeout: grace}, []string{key}, ""},
		{Database{Driver: "postgres", DSN: "{env.TEST_DSN}"}, nil, "llm_proxy > encryption_key: must be set with PostgreSQL"},
		{Database{Driver: "postgres"}, []string{key}, "expected where PostgreSQL is"},
		{Database{Driver: "postgres", DSN: "{env.TEST_NONE_SUCH}"}, []string{key}, "TEST_NONE_SUCH"},
		{Database{Driver: "mysql", DSN: "x"}, nil, "expected sqlite or postgres"},
		{Database{Driver: "sqlite", DSN: "x.db", MaxConns: 8}, nil, "PostgreSQL's"},
	} {
		app := &App{Database: &tc.db, EncryptionKeys: tc.keys, logger: slog.New(slog.DiscardHandler)}
		cfg, err := app.databaseConfig()
		if tc.fail != "" {
			if err == nil || !strings.Contains(err.Error(), tc.fail) {
				t.Errorf("%d: error %v, want one with %q", i, err, tc.fail)
			}
			continue
		}
		if err != nil {
			t.Errorf("%d: %v", i, err)
			continue
		}
		if other, ok := seen[cfg.key()]; ok {
			t.Errorf("settings %d and %d share a pool", other, i)
		}
		seen[cfg.key()] = i
	}
}
