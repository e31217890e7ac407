package caddymodule

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/project"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/internal/testdb"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

// TestReloadWithOtherKeys: the database is kept, its keys are replaced, and put
// back when the reload fails later on.
func TestReloadWithOtherKeys(t *testing.T) {
	dir := t.TempDir()
	one, two := secret.NewKey(), secret.NewKey()
	with := func(keys ...string) object {
		app := sqliteApp(dir)
		app["encryption_keys"] = keys
		return site(app, proxyConfig())
	}
	load(t, with(one))
	db := activeApp(t).runtime.db
	store := db.store.Load()
	enrol(t, store, "openai", project.Policy{})
	status := func() *storage.EncryptionStatus {
		t.Helper()
		s, err := store.EncryptionStatus(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := status().Keys[0]
	refused := func(what string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("reload: %v, want an error with %q", err, what)
		}
		if activeApp(t).runtime.db != db || db.store.Load() != store {
			t.Fatal("the database was opened anew")
		}
	}

	refused("encryption_key <current> <older>", reload(with(two)))
	if s := status(); len(s.Keys) != 1 || s.Keys[0] != first {
		t.Errorf("after a refused reload: %v", s.Keys)
	}

	// The keys are adopted, and then the management token turns out to be unusable.
	t.Setenv("MANAGEMENT_TOKEN", "")
	mustDo(t, os.WriteFile(filepath.Join(dir, managementTokenName), nil, 0o600))
	failing := with(two, one)
	delete(failing["apps"].(object)["llm_proxy"].(object), "management_token")
	refused("management_token", reload(failing))
	if s := status(); s.Keys[0] != first || !slices.Contains(s.Keys, ringOf(t, two).KeyID()) {
		t.Errorf("after a reload that failed later: %v", s.Keys)
	}

	mustDo(t, reload(with(two, one)))
	if activeApp(t).runtime.db != db {
		t.Fatal("the database was opened anew")
	}
	if s := status(); len(s.Keys) != 2 || s.Keys[1] != first {
		t.Errorf("after adding a key: %v", s.Keys)
	}
	if _, err := store.Rotate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	mustDo(t, reload(with(two)))
	if s := status(); len(s.Keys) != 1 || s.Keys[0] == first || s.Lost() != 0 {
		t.Errorf("after removing a key: %+v", s)
	}
	refused("encryption_key <current> <older>", reload(with(one)))
}

func ringOf(t *testing.T, texts ...string) *secret.Keyring {
	t.Helper()
	var keys [][]byte
	for _, text := range texts {
		key, err := secret.ParseKey(text)
		mustDo(t, err)
		keys = append(keys, key)
	}
	ring, err := secret.NewKeyring(keys...)
	mustDo(t, err)
	return ring
}

// TestSealing: the keys that the encrypt commands look after.
func TestSealing(t *testing.T) {
	for config, want := range map[string]string{
		`{}`: "",
		`{"storage":{"module":"file_system"},"apps":{"llm_proxy":{"encryption_keys":["app"]}}}`:                                                "app",
		`{"storage":{"module":"llm_proxy","database":{"dsn":"x"},"encryption_keys":["own"]}}`:                                                  "own",
		`{"storage":{"module":"llm_proxy","database":{"dsn":"x"},"encryption_keys":["own"]},"apps":{"llm_proxy":{"encryption_keys":["app"]}}}`: "app",
		`{"storage":{"module":"llm_proxy"}}`: "",
	} {
		path := filepath.Join(t.TempDir(), "config.json")
		mustDo(t, os.WriteFile(path, []byte(config), 0o600))
		c, err := loadConfig(path, "")
		mustDo(t, err)
		app, err := c.sealing()
		mustDo(t, err)
		if got := strings.Join(app.EncryptionKeys, " "); got != want {
			t.Errorf("%s: keys %q, want %q", config, got, want)
		}
	}
}

// TestEncryptCommandsOnPostgres rotates beside a database that is in use.
func TestEncryptCommandsOnPostgres(t *testing.T) {
	one, two := secret.NewKey(), secret.NewKey()
	app := object{"database": object{"driver": "postgres", "dsn": testdb.Postgres(t)}, "encryption_keys": []string{two, one}, "management_token": "management-token-of-the-test"}
	before := maps.Clone(app)
	before["encryption_keys"] = []string{one}
	load(t, site(before, proxyConfig()))
	store := activeApp(t).runtime.db.store.Load()
	enrol(t, store, "openai", project.Policy{})
	mustDo(t, reload(site(app, proxyConfig())))

	path := filepath.Join(t.TempDir(), "config.json")
	config, err := json.Marshal(site(app))
	mustDo(t, err)
	mustDo(t, os.WriteFile(path, config, 0o600))
	for _, run := range [][2]string{
		{"status", "older    2     1 of provider_keys, 1 of secrets"},
		{"rotate", "re-sealed 2 of 2 rows"},
		{"rotate", "re-sealed 0 of 2 rows"},
		{"status", "older    0     -"},
	} {
		cmd := encryptCommand()
		globalFlags(cmd)
		var out strings.Builder
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs([]string{run[0], "--config", path})
		if err := cmd.ExecuteContext(t.Context()); err != nil || !strings.Contains(out.String(), run[1]) {
			t.Errorf("encrypt %s: %v, %s", run[0], err, out.String())
		}
	}
}
