package sink_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
	"github.com/sofatutor/caddy-llm-proxy/internal/sink"
)

// childFile makes this test binary write events to that file until it is killed.
const childFile = "SINK_TEST_CHILD_FILE"

func writeForEver(path string) error {
	f, err := sink.NewFile(sink.FileConfig{Path: path})
	if err != nil {
		return err
	}
	for {
		events := samples(20)
		if err := f.Deliver(context.Background(), events); err != nil {
			return err
		}
		for _, e := range events {
			fmt.Println(e.ID)
		}
	}
}

func file(t *testing.T, cfg sink.FileConfig) *sink.File {
	t.Helper()
	f, err := sink.NewFile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// lines are the ids of the events in a file, each of which must be whole.
func lines(t *testing.T, path string) (ids []string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > 0 && data[len(data)-1] != '\n' {
		t.Errorf("%s ends in the middle of a line", path)
	}
	for line := range bytes.Lines(data) {
		var e struct{ ID string }
		if err := json.Unmarshal(line, &e); err != nil || e.ID == "" {
			t.Fatalf("line %q: %v", line, err)
		}
		ids = append(ids, e.ID)
	}
	return ids
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "events.jsonl")
	f := file(t, sink.FileConfig{Path: path})
	if _, err := os.Stat(filepath.Dir(path)); err == nil {
		t.Error("it is there before there are events")
	}
	events := samples(5)
	deliver := func(events []delivery.Event) {
		t.Helper()
		if err := f.Deliver(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	}
	deliver(events[:3])
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	// Somebody rotates it.
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	deliver(events[3:4])
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	// A crash left half a line.
	half, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := half.WriteString(`{"id":"` + strings.Repeat("x", 200_000)); err != nil {
		t.Fatal(err)
	}
	if err := half.Close(); err != nil {
		t.Fatal(err)
	}
	deliver(events[4:])
	var got []string
	for _, p := range []string{path + ".1", path} {
		got = append(got, lines(t, p)...)
	}
	for i, e := range events {
		if i >= len(got) || got[i] != e.ID.String() {
			t.Fatalf("events %v", got)
		}
	}
}

// TestFileRotation: nothing is lost where files change, and only so many stay.
func TestFileRotation(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "events.jsonl")
	f := file(t, sink.FileConfig{Path: path, RollSize: 1 << 20, RollKeep: -1})
	want := make(map[string]bool)
	for range 4 {
		events := samples(4)
		for i := range events {
			events[i].Response = strings.Repeat("x", 150_000)
			want[events[i].ID.String()] = true
		}
		if err := f.Deliver(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) < 3 {
		t.Fatalf("files %v, error %v", files, err)
	}
	for _, p := range files {
		if info, err := os.Stat(p); err != nil || info.Size() > 1<<20 || info.Mode() != 0o600 {
			t.Errorf("%s: %v, error %v", p, info, err)
		}
		for _, id := range lines(t, p) {
			delete(want, id)
		}
	}
	if len(want) > 0 {
		t.Errorf("%d events are missing", len(want))
	}
	few := file(t, sink.FileConfig{Path: path, RollSize: 1 << 20, RollKeep: 1})
	for range 2 {
		events := samples(6)
		for i := range events {
			events[i].Response = strings.Repeat("x", 150_000)
		}
		if err := few.Deliver(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	}
	if err := few.Close(); err != nil { // waits for the removal
		t.Fatal(err)
	}
	if files, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(files) != 2 {
		t.Errorf("files %v, error %v", files, err)
	}
}

// TestFileTooLarge: an event that fits in no file does not hold up the others.
func TestFileTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	events := samples(3)
	events[1].Request = strings.Repeat("x", 1<<20)
	if got := verdict(file(t, sink.FileConfig{Path: path, RollSize: 1 << 20}).Deliver(t.Context(), events)); got != "rejected 1" {
		t.Error(got)
	}
	if got := lines(t, path); len(got) != 2 || got[1] != events[2].ID.String() {
		t.Errorf("lines %v", got)
	}
}

func TestFileTroubles(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "file", "events.jsonl"), dir, "/dev/full"} {
		if got := verdict(file(t, sink.FileConfig{Path: path}).Deliver(t.Context(), samples(1))); got != "again" {
			t.Errorf("%s: %s", path, got)
		}
	}
	for _, cfg := range []sink.FileConfig{{Path: "relative"}, {Path: "/x", RollSize: 10}, {Path: "/x", RollInterval: -1}, {Path: "/x", RollKeepFor: -1}} {
		if _, err := sink.NewFile(cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
	gone := filepath.Join(dir, "b", "events.jsonl")
	f := file(t, sink.FileConfig{Path: gone})
	for range 2 { // its directory is removed while it is open
		if err := f.Deliver(t.Context(), samples(1)); err != nil {
			t.Fatal(err)
		}
		if len(lines(t, gone)) != 1 {
			t.Error("not one line")
		}
		if err := os.RemoveAll(filepath.Dir(gone)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFileKilled: what the engine was told is in the file is there after a kill, and
// what follows starts on a line of its own.
func TestFileKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childFile+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var told []string
	for scanner := bufio.NewScanner(out); scanner.Scan(); {
		if told = append(told, scanner.Text()); len(told) == 500 {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || len(told) < 500 {
		t.Fatalf("%d events, then %v", len(told), err)
	}
	last := samples(1)
	if err := file(t, sink.FileConfig{Path: path}).Deliver(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	written := make(map[string]bool)
	for _, id := range lines(t, path) {
		written[id] = true
	}
	for _, id := range append(told[:len(told)-1], last[0].ID.String()) { // the last one told may be cut off
		if !written[id] {
			t.Errorf("%s is missing", id)
		}
	}
}

func FuzzFileMend(f *testing.F) {
	f.Add([]byte("{}\n{"))
	f.Add([]byte("\n\n"))
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, before []byte) {
		path := filepath.Join(t.TempDir(), "events.jsonl")
		if err := os.WriteFile(path, before, 0o600); err != nil {
			t.Fatal(err)
		}
		event := samples(1)
		if err := file(t, sink.FileConfig{Path: path}).Deliver(t.Context(), event); err != nil {
			t.Fatal(err)
		}
		after, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		whole := before[:bytes.LastIndexByte(before, '\n')+1]
		if !bytes.HasPrefix(after, whole) || bytes.Count(after, []byte("\n")) != bytes.Count(whole, []byte("\n"))+1 || !bytes.Contains(after[len(whole):], []byte(event[0].ID.String())) {
			t.Errorf("%q became %q", before, after)
		}
	})
}
