package guest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/uuid/v5"
	"go.uber.org/goleak"
	"golang.org/x/mod/modfile"

	"github.com/sofatutor/caddy-llm-proxy/internal/event"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// checkout is the root of the module that this test is in.
func checkout(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// build makes a Caddy of the example sink's own module, as xcaddy would: with the
// versions that we require, so that everything is in the module cache.
func build(t *testing.T) (binary string) {
	t.Helper()
	dir, root := t.TempDir(), checkout(t)
	if err := os.CopyFS(dir, os.DirFS("testdata/example")); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	mod, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	ours := mod.Module.Mod.Path
	for _, err := range []error{
		mod.AddModuleStmt("example.com/printer"),
		mod.AddRequire(ours, "v0.0.0"),
		mod.AddReplace(ours, "", root, ""),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if data, err = mod.Format(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o600); err != nil {
		t.Fatal(err)
	}
	binary = filepath.Join(dir, "caddy-with-printer")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-mod=mod", "-o", binary, "./caddy")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// TestDocumented: what the documentation shows is what is built here.
func TestDocumented(t *testing.T) {
	example, err := os.ReadFile("testdata/example/sink.go")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile(filepath.Join(checkout(t), "docs", "events.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(docs), "```go\n"+string(example)+"```\n") {
		t.Error("docs/events.md shows another example than testdata/example/sink.go")
	}
}

const config = `{
	admin off
	llm_proxy {
		database sqlite {env.PRINTER_TEST_DIR}/llm-proxy.db
		encryption_key {env.PRINTER_TEST_KEY}
		management_token {env.PRINTER_TEST_TOKEN}
		events {
			sink lines {
				type printer
				from beginning
				batch 10
				linger 1ms
				path {env.PRINTER_TEST_DIR}/lines.txt
			}
		}
	}
}
http://127.0.0.1:0 {
	llm_proxy
}
`

// run starts the binary with the configuration in dir.
func run(t *testing.T, binary, dir, key string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, "run", "--config", filepath.Join(dir, "Caddyfile"))
	cmd.Env = append(os.Environ(), "PRINTER_TEST_DIR="+dir, "PRINTER_TEST_KEY="+key, "PRINTER_TEST_TOKEN=management-token-of-the-test",
		"XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// record writes events of requests to the log of the database, with an alert before the
// last one, and returns their ids.
func record(t *testing.T, path, key string, n int) (ids []string) {
	t.Helper()
	raw, err := secret.ParseKey(key)
	if err != nil {
		t.Fatal(err)
	}
	ring, err := secret.NewKeyring(raw)
	if err != nil {
		t.Fatal(err)
	}
	db, err := storage.New(storage.Config{Driver: "sqlite", DSN: path, Keyring: ring})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	var events []*event.Event
	for range n {
		e := &event.Event{ID: uuid.Must(uuid.NewV7()), Time: time.Now(), Method: "POST", Endpoint: "/v1/responses", Model: "m", Status: 200, Outcome: "ok"}
		events, ids = append(events, e), append(ids, e.ID.String())
	}
	alert := event.NewAlert(time.Now(), uuid.Must(uuid.NewV7()), uuid.Nil, event.Alert{Scope: event.ScopeProject, Limit: event.LimitBudget, Percent: 80})
	events = slices.Insert(events, len(events)-1, alert)
	if err := db.AppendEvents(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	return ids
}

// await waits until the sink's file has enough lines, and returns their ids.
func await(t *testing.T, dir string, enough int) (ids []string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		data, err := os.ReadFile(filepath.Join(dir, "lines.txt"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if lines := strings.Split(string(data), "\n"); len(lines) > enough {
			for _, line := range lines[:len(lines)-1] {
				id, _, _ := strings.Cut(line, " ")
				ids = append(ids, id)
			}
			return ids
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Fatalf("never %d lines\n%s", enough, log)
		}
	}
}

// TestExample builds the example into a Caddy, runs it, and kills it while it
// delivers: everything arrives, in order, and only the last batch may come twice.
func TestExample(t *testing.T) {
	binary, dir, key := build(t), t.TempDir(), secret.NewKey()
	if err := os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	database := filepath.Join(dir, "llm-proxy.db")
	want := record(t, database, key, 500)
	first := run(t, binary, dir, key)
	await(t, dir, 50)
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()
	before := len(await(t, dir, 50))
	want = append(want, record(t, database, key, 20)...)
	second := run(t, binary, dir, key)
	await(t, dir, len(want))
	want = append(want, record(t, database, key, 5)...) // by another process: the log is looked at
	var got []string
	for deadline := time.Now().Add(time.Minute); !slices.Contains(got, want[len(want)-1]) && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		got = await(t, dir, len(want))
	}
	if err := second.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := second.Wait(); err != nil {
		t.Errorf("the end: %v", err)
	}
	var distinct []string
	seen := make(map[string]bool)
	for _, id := range got {
		if !seen[id] {
			seen[id] = true
			distinct = append(distinct, id)
		}
	}
	if !slices.Equal(distinct, want) || len(got) > len(want)+10 {
		t.Errorf("%d lines, %d of them distinct, want %d in order; killed after %d", len(got), len(distinct), len(want), before)
	}
}
