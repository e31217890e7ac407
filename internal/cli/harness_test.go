package cli

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/adminapi"
	"github.com/sofatutor/caddy-llm-proxy/internal/secret"
	"github.com/sofatutor/caddy-llm-proxy/storage"
)

const (
	testManagementToken = "mt-CANARY-management"
	testProviderKey     = "sk-CANARY-provider-key-1234"
)

// buffer is a writer that tests may read while a command writes.
type buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// take returns what was written since the last call.
func (b *buffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.text.Reset()
	return b.text.String()
}

// installation is the real management API on a database of its own, and a
// manager for it.
type installation struct {
	t        *testing.T
	db       *storage.DB
	server   *httptest.Server
	out, err *buffer
	m        *Manager
}

func newInstallation(t *testing.T, change ...func(*adminapi.Config)) *installation {
	t.Helper()
	db := openStore(t, filepath.Join(t.TempDir(), "test.db"))
	cfg := adminapi.Config{
		Store:           db,
		Events:          &eventLog{db},
		ManagementToken: secret.NewValue(testManagementToken),
		Providers: func() []adminapi.ProviderInfo {
			return []adminapi.ProviderInfo{{Name: "openai", Type: "openai"}, {Name: "anthropic", Type: "anthropic"}}
		},
		Ready:    func() error { return nil },
		ClientIP: func(*http.Request) string { return "192.0.2.7" },
		Logger:   slog.New(slog.DiscardHandler),
		Version:  "1.2.3",
	}
	for _, f := range change {
		f(&cfg)
	}
	server := httptest.NewServer(adminapi.New(cfg))
	t.Cleanup(server.Close)
	i := &installation{t: t, db: db, server: server, out: &buffer{}, err: &buffer{}}
	i.m = i.manager(testManagementToken)
	return i
}

func openStore(t *testing.T, path string) *storage.DB {
	t.Helper()
	ring, err := secret.NewKeyring(bytes.Repeat([]byte{7}, secret.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	db, err := storage.New(storage.Config{Driver: "sqlite", DSN: path, Keyring: ring})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func (i *installation) manager(token string) *Manager {
	i.t.Helper()
	c, err := NewClient(i.server.URL, secret.NewValue(token), Trust{})
	if err != nil {
		i.t.Fatal(err)
	}
	return &Manager{Client: c, Out: Output{Out: i.out, Err: i.err}}
}

// do runs a command that must work and returns what it wrote to standard output.
func (i *installation) do(run func(*Manager) error) string {
	i.t.Helper()
	if err := run(i.m); err != nil {
		i.t.Fatal(err)
	}
	return i.out.take()
}

// json is do with --json.
func (i *installation) json(run func(*Manager) error) string {
	i.t.Helper()
	i.m.Out.JSON = true
	defer func() { i.m.Out.JSON = false }()
	return i.do(run)
}

var idPattern = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)

func firstID(t *testing.T, text string) string {
	t.Helper()
	id := idPattern.FindString(text)
	if id == "" {
		t.Fatalf("no id in %q", text)
	}
	return id
}

// expectError compares an error with the words it must hold.
func expectError(t *testing.T, err error, usage bool, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q, want it to hold %q", err, w)
		}
	}
	if IsUsage(err) != usage {
		t.Errorf("error %q: usage %v, want %v", err, IsUsage(err), usage)
	}
	if strings.Contains(err.Error(), "CANARY") {
		t.Errorf("error %q holds a secret", err)
	}
}

func expectText(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q does not hold %q", text, w)
		}
	}
	if strings.Contains(text, "CANARY") {
		t.Errorf("%q holds a secret", text)
	}
}
