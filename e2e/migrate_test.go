package e2e

import (
	"encoding/json"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
	"github.com/sofatutor/caddy-llm-proxy/migrations"
)

// TestMigrateCommands goes up, down with consent only, and to a version, on
// both databases, before there is a server and without encryption keys.
func TestMigrateCommands(t *testing.T) {
	t.Parallel()
	for name, dialect := range map[string]migrations.Dialect{"sqlite": migrations.SQLite, "postgres": migrations.Postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := prepare(t)
			s := site{providers: map[string]string{"openai": ""}, database: ownSQLite}
			if name == "postgres" {
				s.database, s.postgres = "", true
				p.env = []string{"DATABASE_URL=" + testdb.Postgres(t)}
			}
			p.write(s)
			newest, err := migrations.Latest(dialect)
			if err != nil {
				t.Fatal(err)
			}
			migrate := func(args ...string) (string, int) {
				t.Helper()
				cmd := p.command(append([]string{"llm-proxy", "migrate", "--config", p.caddyfile(), "--adapter", "caddyfile", "--json"}, args...)...)
				out, err := cmd.CombinedOutput()
				if _, failed := err.(*exec.ExitError); err != nil && !failed {
					t.Fatal(err)
				}
				return string(out), cmd.ProcessState.ExitCode()
			}
			goes := func(before, after int64, args ...string) {
				t.Helper()
				out, code := migrate(args...)
				var got struct{ Before, After int64 }
				if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 || got.Before != before || got.After != after {
					t.Fatalf("migrate %s: exit %d, %s", strings.Join(args, " "), code, out)
				}
			}
			goes(0, newest, "up")
			goes(newest, newest, "up")
			if out, code := migrate("down"); code != 2 || !strings.Contains(out, "--yes") {
				t.Fatalf("down without consent: exit %d, %s", code, out)
			}
			goes(newest, newest-1, "down", "--yes")
			if out, code := migrate("status"); code != 1 || !strings.Contains(out, "pending") {
				t.Fatalf("status: exit %d, %s", code, out)
			}
			goes(newest-1, 0, "to", "0", "--yes")
			goes(0, newest, "to", strconv.FormatInt(newest, 10))
			if out, code := migrate("to", "999"); code != 1 || !strings.Contains(out, "999") {
				t.Fatalf("to 999: exit %d, %s", code, out)
			}
			if out, code := migrate("status"); code != 0 {
				t.Fatalf("status: exit %d, %s", code, out)
			}
		})
	}
}
