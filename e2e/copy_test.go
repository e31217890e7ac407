package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
)

// tool runs a command of `caddy llm-proxy` in the process's directory, with its
// configuration.
func (p *proxy) tool(t *testing.T, args ...string) (out, notices string, code int) {
	t.Helper()
	cmd := p.command(append([]string{"llm-proxy", "--config", p.caddyfile(), "--adapter", "caddyfile"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"sk-provider-", managementToken, "LLM_PROXY_KEY", "postgres://"} {
		if strings.Contains(stdout.String()+stderr.String(), secret) {
			t.Errorf("%q shows a secret:\n%s%s", args, &stdout, &stderr)
		}
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// moved is what copy, backup and restore print with --json.
type moved struct {
	Rows, Written, Deleted int64
	Tables                 []struct {
		Table, Checksum string
		Rows            int64
		Same            bool
	}
}

func (p *proxy) moves(t *testing.T, args ...string) moved {
	t.Helper()
	out, notices, code := p.tool(t, append(args, "--json")...)
	var m moved
	if err := json.Unmarshal([]byte(out), &m); err != nil || code != 0 || len(m.Tables) < 5 {
		t.Fatalf("%q exits %d: %v\n%s%s", args, code, err, out, notices)
	}
	for _, table := range m.Tables {
		if !table.Same || len(table.Checksum) != 64 {
			t.Errorf("%q: %+v", args, table)
		}
	}
	return m
}

// TestBackupAndRestore restores under a proxy that serves.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"sqlite", "postgres"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sim := newProvider(t, simulator.Options{})
			p, s := prepare(t), against(sim)
			s.database = ownSQLite
			if name == "postgres" {
				s.database, s.postgres = "", true
				p.env = []string{"DATABASE_URL=" + testdb.Postgres(t), "LLM_PROXY_KEY=" + secret.NewKey()}
			}
			p.write(s)
			p.run()
			p.await()
			status := func(a *account) int { return p.do(t, chat(a.token, "m", false)).status }
			steady, revoked, inactive := p.account(t), p.account(t), p.account(t)
			l := p.serveOn(t, steady)
			l.goesOn(t)
			for _, a := range []*account{revoked, inactive} {
				if got := status(a); got != http.StatusOK {
					t.Fatalf("before: %d", got)
				}
			}

			file := filepath.Join(p.dir, "backup.db")
			made := p.moves(t, "backup", file)
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info, err)
			}
			if _, notices, code := p.tool(t, "backup", file); code != 1 || !strings.Contains(notices, "exists") {
				t.Errorf("a backup over another: exit %d, %s", code, notices)
			}
			if _, notices, code := p.tool(t, "backup", "/proc/no/backup.db"); code != 1 || !strings.Contains(notices, "making the backup") {
				t.Errorf("a backup where nobody may write: exit %d, %s", code, notices)
			}
			l.goesOn(t)

			revoked.revoke(t)
			inactive.patchProject(t, object{"is_active": false})
			later := p.account(t)
			if a, b, c := status(revoked), status(inactive), status(later); a != http.StatusUnauthorized || b != http.StatusForbidden || c != http.StatusOK {
				t.Fatalf("since the backup: %d, %d, %d", a, b, c)
			}
			if _, notices, code := p.tool(t, "restore", file); code != 2 || !strings.Contains(notices, "--yes") || strings.Count(notices, "\n") != 1 {
				t.Errorf("a restore without consent: exit %d, %s", code, notices)
			}
			if got := status(revoked); got != http.StatusUnauthorized {
				t.Errorf("it was restored without consent: %d", got)
			}

			restored := p.moves(t, "restore", "--yes", file)
			began := time.Now()
			eventually(t, "the backup is in force", func() bool {
				return status(revoked) == http.StatusOK && status(inactive) == http.StatusOK && status(later) == http.StatusUnauthorized
			})
			t.Logf("in force after %s", time.Since(began).Round(time.Millisecond))
			l.goesOn(t)
			l.stop()
			if restored.Rows != made.Rows || restored.Deleted == 0 {
				t.Errorf("%+v of %+v", restored, made)
			}
			for i := range made.Tables {
				if made.Tables[i] != restored.Tables[i] {
					t.Errorf("backed up %+v, restored %+v", made.Tables[i], restored.Tables[i])
				}
			}
			if status, body := p.tryManage(t, "GET", "audit?action=database.restore", nil); status != http.StatusOK || !strings.Contains(body, `"command_line"`) {
				t.Errorf("the record: %d %s", status, body)
			}
			// What is there again can be revoked again, at once.
			revoked.revoke(t)
			if got := status(revoked); got != http.StatusUnauthorized {
				t.Errorf("revoked once more: %d", got)
			}
		})
	}
}

// TestCopyMovesAnInstallation goes from SQLite to PostgreSQL and back, with a proxy
// at each station.
func TestCopyMovesAnInstallation(t *testing.T) {
	t.Parallel()
	sim := newProvider(t, simulator.Options{})
	station := func(s site, env ...string) *proxy {
		p := prepare(t)
		p.env = env
		p.write(s)
		return p
	}
	s := against(sim)
	s.database = ownSQLite
	first := station(s)
	first.run()
	first.await()
	accounts := []*account{first.account(t), first.account(t), first.account(t)}
	accounts[1].revoke(t)
	key, err := os.ReadFile(filepath.Join(first.dir, "data", "encryption-key"))
	if err != nil {
		t.Fatal(err)
	}
	serves := func(p *proxy) {
		t.Helper()
		for i, a := range accounts {
			got := p.do(t, chat(a.token, "m", false))
			if want := []int{200, 401, 200}[i]; got.status != want {
				t.Errorf("account %d: %d, want %d", i, got.status, want)
			}
			if got.status == http.StatusOK {
				sim.last(t, a.key)
			}
		}
	}
	serves(first)

	database := testdb.Postgres(t)
	dsn := filepath.Join(first.dir, "dsn") // whose password nobody sees
	if err := os.WriteFile(dsn, []byte(database+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(first.dir, "data", "llm-proxy.db")
	made := first.moves(t, "copy", "--from", "sqlite://"+file, "--to", "@"+dsn)
	if made.Written != made.Rows || made.Deleted != 0 {
		t.Errorf("%+v", made)
	}
	out, notices, code := first.tool(t, "copy", "--from", file, "--to", "@"+dsn)
	if code != 0 || strings.Contains(out, "DIFFERS") || strings.Count(out, " same") != len(made.Tables) || !strings.Contains(notices, "encryption_key") {
		t.Errorf("once more: exit %d\n%s%s", code, out, notices)
	}

	s.database, s.postgres = "", true
	second := station(s, "DATABASE_URL="+database, "LLM_PROXY_KEY="+strings.TrimSpace(string(key)))
	second.run()
	second.await()
	serves(second)
	if _, notices, code := first.tool(t, "copy", "--from", file, "--to", "@"+dsn); code != 2 || !strings.Contains(notices, "--replace") {
		t.Errorf("a copy into a database in use: exit %d, %s", code, notices)
	}
	late := second.account(t)
	accounts[2] = late

	s.database, s.postgres = ownSQLite, false
	s.app = "encryption_key {env.LLM_PROXY_KEY}"
	third := station(s, "LLM_PROXY_KEY="+strings.TrimSpace(string(key)))
	if back := third.moves(t, "copy", "--from", "@"+dsn, "--to", "data/llm-proxy.db"); back.Written != back.Rows || back.Rows <= made.Rows {
		t.Errorf("%+v", back)
	}
	third.run()
	third.await()
	serves(third)
}
