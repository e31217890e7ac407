package cli

import (
	"context"
	"database/sql"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/sofatutor/caddy-llm-proxy/migrations"
)

func TestMigrateStatus(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "llm-proxy.db")
	target := Database{Driver: "sqlite", DSN: path}
	var out buffer
	o := Output{Out: &out, Err: &out}

	expectError(t, MigrateStatus(t.Context(), o, target), false, path, "does not exist")
	expectText(t, out.take(), "VERSION", "pending")
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Fatalf("looking made %v, %v", list, err)
	}
	expectError(t, MigrateStatus(t.Context(), o, Database{Driver: "sqlite", DSN: dir}), false, "is a directory")
	expectError(t, MigrateStatus(t.Context(), o, Database{Driver: "oracle", DSN: "x"}), false, "oracle")

	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	out.take()
	expectError(t, MigrateStatus(t.Context(), o, target), false, "migrations are pending")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	db := openStore(t, path)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	out.take()
	if err := MigrateStatus(t.Context(), Output{Out: &out, Err: &out, JSON: true}, target); err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal([]byte(out.take()), &s); err != nil || !s.Exists || len(s.Migrations) == 0 || !s.Migrations[0].Applied {
		t.Errorf("%+v, %v", s, err)
	}
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Exec(`INSERT INTO ` + migrations.Table + ` (version_id, is_applied) VALUES (9999, TRUE)`); err != nil {
		t.Fatal(err)
	}
	expectError(t, MigrateStatus(t.Context(), o, target), false, "version 9999, newer than this binary")
}

// simulate starts a simulator; stop ends it and returns its error.
func simulate(t *testing.T, opt SimulateOptions, asJSON bool) (out *buffer, stop func() error) {
	t.Helper()
	out = &buffer{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Simulate(ctx, Output{Out: out, Err: out, JSON: asJSON}, opt) }()
	waitFor(t, "the simulator's announcement", func() bool { return strings.Contains(out.String(), "http://") })
	return out, func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(2 * time.Minute):
			t.Fatal("the simulator did not stop")
			return nil
		}
	}
}

func TestSimulate(t *testing.T) {
	t.Parallel()
	out, stop := simulate(t, SimulateOptions{Listen: "127.0.0.1:0", Keys: []string{"sk-accepted"}}, true)
	var announced struct{ URL string }
	if err := json.Unmarshal([]byte(out.String()), &announced); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]int{"sk-accepted": 200, "sk-other": 401} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, announced.URL+"/v1/models", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: %d, want %d", key, res.StatusCode, want)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestSimulateCutsStreamsWhenStopped(t *testing.T) {
	t.Parallel()
	out, stop := simulate(t, SimulateOptions{Listen: "127.0.0.1:0"}, true)
	var announced struct{ URL string }
	if err := json.Unmarshal([]byte(out.String()), &announced); err != nil {
		t.Fatal(err)
	}
	body := strings.NewReader(`{"model":"sim-silent-1h","stream":true,"messages":[{"role":"user","content":"Hello"}]}`)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, announced.URL+"/v1/chat/completions", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer sk-x")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestSimulateTellsWhatItDoes(t *testing.T) {
	t.Parallel()
	out, stop := simulate(t, SimulateOptions{Listen: "0.0.0.0:0"}, false)
	expectText(t, out.String(), "warning:", "reached from other machines", "curl -N http://", "base_url http://")
	if err := stop(); err != nil {
		t.Error(err)
	}
	var sink buffer
	o := Output{Out: &sink, Err: &sink}
	expectError(t, Simulate(t.Context(), o, SimulateOptions{Listen: "9191"}), true, "--listen")
	expectError(t, Simulate(t.Context(), o, SimulateOptions{Listen: "127.0.0.1:0", Pace: -1}), true, "--pace")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	expectError(t, Simulate(t.Context(), o, SimulateOptions{Listen: taken.Addr().String()}), false, "in use", "--listen")
}
