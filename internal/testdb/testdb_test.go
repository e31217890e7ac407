//go:build unix

package testdb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// hang is how long a frozen server is given to answer after all.
const hang = 100 * time.Millisecond

func TestPostgresIsEmptyAndOneEach(t *testing.T) {
	var first, second string
	t.Run("first", func(t *testing.T) {
		first = Postgres(t)
		must(t, run(first, "CREATE TABLE x (n INT)"))
	})
	second = Postgres(t)
	if first == second {
		t.Fatal("two tests share a database")
	}
	must(t, run(second, "CREATE TABLE x (n INT)"))
	if err := run(first, "SELECT 1"); err == nil {
		t.Error("a database outlives its test")
	}
}

func TestPostgresFaults(t *testing.T) {
	s := StartPostgres(t)
	dsn := s.Database()
	must(t, run(dsn, "CREATE TABLE x AS SELECT 1 AS n"))
	s.Stop()
	if err := run(dsn, "SELECT 1"); err == nil {
		t.Error("a stopped server answers")
	}
	s.Start()
	must(t, run(dsn, "INSERT INTO x VALUES (1/(SELECT COUNT(*) FROM x))"))
	s.Kill()
	if err := run(dsn, "SELECT 1"); err == nil {
		t.Error("a killed server answers")
	}
	s.Start()
	must(t, run(dsn, "SELECT 1/((SELECT COUNT(*) FROM x) - 1)")) // two rows

	conn, err := connect(t.Context(), dsn)
	must(t, err)
	defer conn.Close(context.Background())
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	if _, err := conn.Exec(ctx, "SELECT 1").ReadAll(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a frozen server: %v", err)
	}
	s.Resume()
	must(t, run(dsn, "SELECT 1"))
	s.Pause() // and the test's end finds it so
}

func TestPostgresSettings(t *testing.T) {
	s := StartPostgres(t, "fsync=off")
	must(t, run(s.Database(), "SELECT 1/(current_setting('fsync') = 'off')::int"))
	must(t, run(StartPostgres(t).Database(), "SELECT 1/(current_setting('fsync') = 'on')::int"))
}

// TestTemplates has tests that change their copies at once.
func TestTemplates(t *testing.T) {
	var made atomic.Int32
	name := databaseName() // the test may run twice
	for range 3 {
		t.Run("copy", func(t *testing.T) {
			t.Parallel()
			dsn := PostgresLike(t, "one row of "+name, func(dsn string) error {
				made.Add(1)
				return run(dsn, "CREATE TABLE x AS SELECT 1 AS n")
			})
			must(t, run(dsn, "INSERT INTO x VALUES (1/(SELECT COUNT(*) FROM x))"))
			must(t, run(dsn, "SELECT 1/((SELECT COUNT(*) FROM x) - 1)")) // two rows
			path := filepath.Join(t.TempDir(), "sub", "file")
			FileLike(t, "one line of "+name, path, func(path string) error {
				made.Add(1)
				return os.WriteFile(path, []byte("line"), 0o600)
			})
			if text, err := os.ReadFile(path); err != nil || string(text) != "line" {
				t.Errorf("%q, %v", text, err)
			}
			must(t, os.WriteFile(path, []byte("changed"), 0o600))
		})
	}
	t.Cleanup(func() {
		if n := made.Load(); n != 2 {
			t.Errorf("two templates were made %d times", n)
		}
	})
}

func TestRedis(t *testing.T) {
	first := Redis(t)
	must(t, ask(first, "SET a 1"))
	second := Redis(t)
	if first == second {
		t.Fatal("two calls share a database")
	}
	if err := ask(second, "RENAME a b"); err == nil {
		t.Error("the database is not empty")
	}
}

func TestRedisFaults(t *testing.T) {
	s := StartRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	must(t, ask(s.URL(), "SET a 1"))
	for name, end := range map[string]func(){"stopped": s.Stop, "killed": s.Kill} {
		end()
		if err := ask(s.URL(), "PING"); err == nil {
			t.Errorf("a %s server answers", name)
		}
		s.Start()
		must(t, ask(s.URL(), "RENAME a a"))
	}
	s.Pause()
	answered := make(chan error)
	go func() { answered <- ask(s.URL(), "PING") }()
	select {
	case err := <-answered:
		t.Fatalf("a frozen server answered: %v", err)
	case <-time.After(hang):
	}
	s.Resume()
	must(t, <-answered)
}

// TestServersEndWithTheirBinary kills a process that has started servers.
func TestServersEndWithTheirBinary(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childRole+"=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	must(t, err)
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	must(t, err)
	var postgres, redis int
	_, err = fmt.Sscan(line, &postgres, &redis)
	must(t, err)
	must(t, cmd.Process.Kill())
	if err := cmd.Wait(); err == nil {
		t.Error("the child ended by itself")
	}
	deadline := time.After(patience)
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for _, pid := range []int{postgres, redis} {
		for running(t, pid) {
			select {
			case <-ticker.C:
			case <-deadline:
				t.Fatalf("server %d outlives the binary that started it", pid)
			}
		}
	}
	dir, err := makeDir(nil) // also removes what the child left
	must(t, err)
	must(t, os.Remove(dir))
	left, err := os.ReadDir(scratch())
	must(t, err)
	for _, entry := range left {
		if strings.HasPrefix(entry.Name(), dirPrefix+fmt.Sprint(cmd.Process.Pid)+"-") {
			t.Errorf("%s is left", entry.Name())
		}
	}
}

// running takes a process that nobody has waited for yet as gone.
func running(t *testing.T, pid int) bool {
	t.Helper()
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !strings.Contains(string(text), ") Z ")
}

func TestMissingProgram(t *testing.T) {
	_, err := find("no-such-program", "install it", "/no/such/dir/*")
	if err == nil || !strings.Contains(err.Error(), "no-such-program is not installed") || !strings.Contains(err.Error(), "install it") {
		t.Error(err)
	}
}

// TestServerThatDoesNotStart shows its log.
func TestServerThatDoesNotStart(t *testing.T) {
	p, err := start(t.TempDir(), t.TempDir()+"/log", nil, syscall.SIGKILL, "/bin/sh", "-c", "echo no room >&2; exit 1")
	must(t, err)
	err = p.await(func() error { return errors.New("no answer") })
	if err == nil || !strings.Contains(err.Error(), "no room") {
		t.Error(err)
	}
	if _, err := start(t.TempDir(), t.TempDir()+"/log", nil, syscall.SIGKILL, "/no/such/program"); err == nil {
		t.Error("a missing program was started")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
