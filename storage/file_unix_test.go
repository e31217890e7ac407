//go:build unix

package storage

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestModes(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "a", "b")
	path := filepath.Join(dir, "llm-proxy.db")
	makeSealed(t, openDB(t, path), "a") // so that log and shared memory exist
	want := map[string]os.FileMode{filepath.Dir(dir): 0o700, dir: 0o700}
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		want[path+suffix] = 0o600
	}
	for name, mode := range want {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v, want %v", name, info.Mode().Perm(), mode)
		}
	}
}

// TestModeWarning leaves the mode of a file that was there, but says so.
func TestModeWarning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "llm-proxy.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	db, err := New(Config{Driver: "sqlite", DSN: path, Keyring: testKeyring(t), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "chmod 600") {
		t.Errorf("log is %s", log.String())
	}
}
