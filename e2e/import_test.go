package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
	old "github.com/sofatutor/caddy-llm-proxy/storage/predecessortest"
)

// predecessor is a database of sofatutor/llm-proxy with all that can be told apart
// from outside.
type predecessor struct {
	*old.Database
	encryptionKey string
	plain, sealed string            // provider keys of the two projects
	tokens, ids   map[string]string // by what they are
}

func newPredecessor(t *testing.T, d *old.Database) *predecessor {
	t.Helper()
	p := &predecessor{Database: d, encryptionKey: secret.NewKey(), plain: "sk-provider-plain-" + uuid.Must(uuid.NewV4()).String(), sealed: "sk-provider-sealed-" + uuid.Must(uuid.NewV4()).String(), tokens: map[string]string{}, ids: map[string]string{}}
	now := time.Now()
	layout := "2006-01-02 15:04:05.999999999-07:00"
	if d.Postgres {
		now, layout = now.UTC(), "2006-01-02 15:04:05.999999"
	}
	at := func(ago time.Duration) string { return now.Add(-ago).Format(layout) }
	project := func(name, key string, active bool) string {
		id := uuid.Must(uuid.NewV4()).String()
		d.Insert(t, "projects", old.Row{"id": id, "name": name, "api_key": key, "is_active": active, "created_at": at(48 * time.Hour), "updated_at": at(24 * time.Hour)})
		return id
	}
	token := func(name, project string, hashed bool, more old.Row) {
		text := old.NewToken()
		p.tokens[name], p.ids[name] = text, uuid.Must(uuid.NewV4()).String()
		row := old.Row{"id": p.ids[name], "token": text, "project_id": project, "expires_at": at(-time.Hour), "created_at": at(time.Hour), "request_count": 3}
		if hashed {
			row["token"] = old.Hash(text)
		}
		for column, value := range more {
			row[column] = value
		}
		d.Insert(t, "tokens", row)
	}
	first := project("plain", p.plain, true)
	second := project("sealed", old.Encrypt(t, p.encryptionKey, p.sealed), true)
	off := project("off", old.Encrypt(t, p.encryptionKey, p.sealed), false)
	broken := project("broken", old.Encrypt(t, secret.NewKey(), p.sealed), true)
	token("plain", first, false, nil)
	token("never", first, false, old.Row{"expires_at": nil})
	token("hashed", second, true, nil)
	token("limited", second, true, old.Row{"max_requests": 10})
	token("expired", first, true, old.Row{"expires_at": at(time.Minute)})
	token("inactive", first, false, old.Row{"is_active": false})
	token("used up", first, false, old.Row{"max_requests": 3})
	token("deactivated", off, true, nil)
	token("keyless", broken, true, nil)
	d.Insert(t, "audit_events", old.Row{"id": uuid.Must(uuid.NewV4()).String(), "timestamp": at(time.Hour), "action": "token.create", "actor": "management_api",
		"project_id": first, "client_ip": "192.0.2.9", "method": "POST", "path": "/manage/tokens", "outcome": "error"})
	return p
}

type importCount struct {
	Table    string `json:"table"`
	Imported int    `json:"imported"`
	Present  int    `json:"already_there"`
	Skipped  int    `json:"skipped"`
}

// TestImport moves from the predecessor, beside a proxy that runs.
func TestImport(t *testing.T) {
	t.Parallel()
	for name, database := range map[string]func(t *testing.T) *old.Database{
		"sqlite":   func(t *testing.T) *old.Database { return old.SQLite(t, old.Latest) },
		"postgres": func(t *testing.T) *old.Database { return old.Postgres(t, testdb.Postgres(t), old.Latest) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testImport(t, newPredecessor(t, database(t)))
		})
	}
}

func testImport(t *testing.T, from *predecessor) {
	sim := newProvider(t, simulator.Options{})
	p := start(t, against(sim))
	keyFile := filepath.Join(p.dir, "predecessor.key")
	if err := os.WriteFile(keyFile, []byte(from.encryptionKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	runImport := func(wantExit int, flags ...string) (counts []importCount, said string) {
		t.Helper()
		cmd := p.command(append([]string{"llm-proxy", "import", "predecessor", "--config", p.caddyfile(), "--adapter", "caddyfile", "--json",
			"--database", from.DSN, "--encryption-key-file", keyFile}, flags...)...)
		var out, errs strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &errs
		_ = cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != wantExit {
			t.Fatalf("exit code %d, want %d: %s", code, wantExit, errs.String())
		}
		for name, text := range from.tokens {
			if strings.Contains(out.String()+errs.String(), text) || strings.Contains(out.String()+errs.String(), old.Hash(text)) {
				t.Errorf("the token %q is shown", name)
			}
		}
		if all := out.String() + errs.String(); strings.Contains(all, from.plain) || strings.Contains(all, from.sealed) || strings.Contains(all, from.encryptionKey) {
			t.Errorf("a key is shown: %s", all)
		}
		var report struct{ Tables []importCount }
		if err := json.Unmarshal([]byte(out.String()), &report); err != nil {
			t.Fatalf("%v in %s", err, out.String())
		}
		return report.Tables, errs.String()
	}
	ask := func(name string) answer { return p.do(t, chat(from.tokens[name], "m", false)) }
	expect := func(step string, got []importCount, want ...importCount) {
		t.Helper()
		if len(got) != len(want) {
			t.Fatalf("%s: %+v", step, got)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s: %+v, want %+v", step, got[i], want[i])
			}
		}
	}

	openAIDialect.refused(t, ask("keyless"), http.StatusUnauthorized, "invalid_token") // and is remembered as unknown

	counts, _ := runImport(1, "--dry-run")
	all := []importCount{{"projects", 4, 0, 0}, {"provider_keys", 3, 0, 1}, {"tokens", 9, 0, 0}, {"audit_events", 1, 0, 0}}
	expect("dry", counts, all...)
	openAIDialect.refused(t, ask("inactive"), http.StatusUnauthorized, "invalid_token")

	counts, said := runImport(1)
	expect("first", counts, all...)
	if !strings.Contains(said, "skipped: provider_keys of project ") || !strings.Contains(said, "does not decrypt") || !strings.Contains(said, "2 tokens have") && !strings.Contains(said, "1 token has") {
		t.Errorf("the import says: %s", said)
	}

	for name, key := range map[string]string{"plain": from.plain, "never": from.plain, "hashed": from.sealed, "limited": from.sealed} {
		if got := ask(name); got.status != http.StatusOK {
			t.Errorf("%s: %d %s", name, got.status, got.body)
			continue
		}
		if got := sim.last(t, key); strings.Contains(got.header.Get("Authorization"), from.tokens[name]) {
			t.Errorf("%s: the provider sees the token", name)
		}
	}
	for name, want := range map[string]struct {
		status int
		code   string
	}{
		"expired":     {http.StatusUnauthorized, "token_expired"},
		"used up":     {http.StatusUnauthorized, "token_inactive"},
		"deactivated": {http.StatusForbidden, "project_inactive"},
	} {
		openAIDialect.refused(t, ask(name), want.status, want.code)
	}
	eventually(t, "what was unknown is asked for again", func() bool { return !strings.Contains(ask("keyless").body, "invalid_token") })
	eventually(t, "the inactive token is known", func() bool { return strings.Contains(ask("inactive").body, "token_inactive") })

	// The hash that the predecessor kept is no token.
	if got := p.do(t, chat(old.Hash(from.tokens["hashed"]), "m", false)); got.status != http.StatusUnauthorized {
		t.Errorf("a hash is taken for a token: %d", got.status)
	}

	// An imported token is managed like any.
	id := from.ours(t, p, "limited")
	p.manage(t, "PATCH", "tokens/"+id, object{"name": "renamed", "allowed_models": []string{"other"}})
	openAIDialect.refused(t, ask("limited"), http.StatusForbidden, "model_not_allowed")
	p.manage(t, "DELETE", "tokens/"+id, nil)
	openAIDialect.refused(t, ask("limited"), http.StatusUnauthorized, "token_inactive")

	counts, said = runImport(1)
	expect("again", counts, importCount{"projects", 0, 4, 0}, importCount{"provider_keys", 0, 3, 1}, importCount{"tokens", 0, 9, 0}, importCount{"audit_events", 0, 1, 0})
	if !strings.Contains(said, "nothing was new") {
		t.Errorf("the second import says: %s", said)
	}
	openAIDialect.refused(t, ask("limited"), http.StatusUnauthorized, "token_inactive") // as it was
	entries, _ := json.Marshal(p.manage(t, "GET", "audit?action=predecessor.import", nil))
	if n := strings.Count(string(entries), `"predecessor.import"`); n != 1 || !strings.Contains(string(entries), `"command_line"`) {
		t.Errorf("audit of the import: %s", entries)
	}
	entries, _ = json.Marshal(p.manage(t, "GET", "audit?client_ip=192.0.2.9", nil))
	if !strings.Contains(string(entries), `"failure"`) || !strings.Contains(string(entries), `"management_api"`) {
		t.Errorf("the predecessor's audit: %s", entries)
	}
}

// ours is the id that a token has now. Nothing of the token itself is listed.
func (d *predecessor) ours(t *testing.T, p *proxy, name string) string {
	t.Helper()
	_, listing := p.tryManage(t, "GET", "tokens", nil)
	for _, text := range d.tokens {
		if strings.Contains(listing, text) || strings.Contains(listing, old.Hash(text)) {
			t.Errorf("a token is listed with its secret: %s", listing)
		}
	}
	var tokens []struct {
		ID       string
		Metadata map[string]string
	}
	if err := json.Unmarshal([]byte(listing), &tokens); err != nil {
		t.Fatalf("%v in %s", err, listing)
	}
	for _, token := range tokens {
		if token.Metadata["predecessor_id"] == d.ids[name] {
			return token.ID
		}
	}
	t.Fatalf("no token %q in %s", name, listing)
	return ""
}
