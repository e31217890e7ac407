package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/DeRuina/timberjack"
	"github.com/gofrs/uuid/v5"
)

func openTestFile(t *testing.T, path string) (*File, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	f, err := OpenFile(path, 8760*time.Hour, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f, log
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "audit.jsonl")
	f, log := openTestFile(t, path)
	id := uuid.Must(uuid.NewV7())
	var writing sync.WaitGroup
	for i := range 50 {
		writing.Go(func() {
			f.Write(Entry{ID: id, Time: time.Unix(int64(i), 0), Action: TokenUpdate, Outcome: OutcomeSuccess, TargetType: TargetToken, TargetID: id,
				UserAgent: "line\nbreak", Occurrences: 1, Changes: map[string]Change{"name": {Before: "", After: "x"}}})
		})
	}
	writing.Wait()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) != 50 || f.Lost() != 0 || log.Len() > 0 {
		t.Errorf("%d lines, %d lost, log %s", len(lines), f.Lost(), log)
	}
	for _, line := range lines {
		var e Event
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.TokenID == nil || *e.TokenID != id || e.Changes["name"] != (EventChange{"", "x"}) {
			t.Fatalf("line %s: %v", line, err)
		}
	}
	for name, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, mode %v", name, err, info.Mode())
		}
	}
}

func TestFileRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	f, _ := openTestFile(t, path)
	f.out.(*timberjack.Logger).MaxSize = 1
	for range 3 {
		f.Write(Entry{Action: "a", Path: strings.Repeat("x", 600<<10)})
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "audit*.jsonl"))
	if err != nil || len(files) != 3 || f.Lost() != 0 {
		t.Errorf("files %v, error %v, %d lost", files, err, f.Lost())
	}
	for _, name := range files {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, mode %v", name, err, info.Mode())
		}
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("no space left") }
func (broken) Close() error              { return nil }

func TestFileThatFails(t *testing.T) {
	f, log := openTestFile(t, filepath.Join(t.TempDir(), "audit.jsonl"))
	whole := f.out
	f.out = broken{}
	for range 100 {
		f.Write(Entry{Action: "a"})
	}
	f.out = whole
	if n := strings.Count(log.String(), "no space left"); n != 1 || f.Lost() != 100 {
		t.Errorf("%d lost, logged %d times", f.Lost(), n)
	}
	if _, err := OpenFile(t.TempDir(), 0, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a directory was opened as the file")
	}
	if _, err := OpenFile(filepath.Join(f.path, "x"), 0, slog.New(slog.DiscardHandler)); err == nil || strings.Contains(fmt.Sprint(err), "%!") {
		t.Errorf("a file below a file: %v", err)
	}
}
