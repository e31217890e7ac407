package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/sofatutor/caddy-llm-proxy/internal/simulator"
)

// smallDisk gives a process a disk of its own at a directory, which is gone with
// the process and which nobody else sees. Who is not root needs the kernel's
// unprivileged user namespaces for that.
func smallDisk(dir, size string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		const script = `mount -t tmpfs -o size="$1",mode=700 tmpfs "$2" && shift 2 && exec "$@"`
		cmd.Args = append([]string{"sh", "-c", script, "sh", size, dir, cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		if os.Geteuid() != 0 {
			cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		}
	}
}

// fillDisk writes a file until there is no space left, not even for one page.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for page := make([]byte, 4096); err == nil; {
		_, err = f.Write(page)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

// TestFullDisk: a database without space for changes goes on being read, and
// changes are made wholly or not at all, without a restart in between.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	p := prepare(t)
	data := filepath.Join(p.dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	p.wrap = smallDisk(data, "4m")
	s := against(newProvider(t, simulator.Options{}))
	s.database = ownSQLite
	p.write(s)
	p.run()
	p.await()
	inside := filepath.Join(fmt.Sprintf("/proc/%d/root", p.cmd.Process.Pid), data) // the disk as the process sees it

	a := p.account(t)
	cold := make([]string, 3)
	for i := range cold {
		_, cold[i] = a.mint(t)
	}
	served := func(token string) {
		t.Helper()
		if got := p.do(t, chat(token, "m", false)); got.status != http.StatusOK {
			t.Errorf("%d %s", got.status, got.body)
		}
	}
	served(a.token)
	create := func() int {
		status, _ := p.tryManage(t, "POST", "tokens", object{"project_id": a.projectID})
		return status
	}

	for round := range 2 {
		filler := filepath.Join(inside, "filler")
		fillDisk(t, filler)
		made := 0
		eventually(t, "there is no space for another token", func() bool {
			status := create()
			if status == http.StatusCreated {
				made++
			}
			return status == http.StatusServiceUnavailable
		})
		t.Logf("round %d: %d tokens fitted in", round, made)
		for range 3 {
			status, body := p.tryManage(t, "DELETE", "tokens/"+a.tokenID, nil)
			var refusal struct{ Code string }
			if err := json.Unmarshal([]byte(body), &refusal); err != nil || status != http.StatusServiceUnavailable || refusal.Code != "store_unavailable" {
				t.Errorf("revoking: %d %s", status, body)
			}
		}
		served(a.token) // the revocation was refused
		served(cold[round])
		if status, body := p.tryManage(t, "GET", "tokens", nil); status != http.StatusOK {
			t.Errorf("listing tokens: %d %s", status, body)
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a token can be made again", func() bool { return create() == http.StatusCreated })
	}
	a.revoke(t)
	openAIDialect.refused(t, p.do(t, chat(a.token, "m", false)), http.StatusUnauthorized, "token_inactive")
	served(cold[2])

	// A copy, as nobody writes now: SQLite would look for the path on our own disk.
	copied := filepath.Join(t.TempDir(), "llm-proxy.db")
	for _, end := range []string{"", "-wal"} {
		content, err := os.ReadFile(filepath.Join(inside, "llm-proxy.db"+end))
		if err == nil {
			err = os.WriteFile(copied+end, content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	db := openDatabase(t, copied)
	rows := column(t, db, `SELECT id FROM tokens ORDER BY id`)
	records := column(t, db, `SELECT target_id FROM audit_events WHERE action = 'token.create' AND outcome = 'success' ORDER BY target_id`)
	if !slices.Equal(rows, records) {
		t.Errorf("tokens and the records of their making differ:\n%v\n%v", rows, records)
	}
	if revoked := column(t, db, `SELECT target_id FROM audit_events WHERE action = 'token.revoke' AND outcome = 'success'`); !slices.Equal(revoked, []string{a.tokenID}) {
		t.Errorf("records of revocations: %v", revoked)
	}
	if damage := column(t, db, `PRAGMA integrity_check`); !slices.Equal(damage, []string{"ok"}) {
		t.Errorf("the database is damaged: %v", damage)
	}
}
