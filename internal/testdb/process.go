//go:build unix

package testdb

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// patience bounds every wait for a server, on a machine with other things to do.
	patience = 2 * time.Minute
	// answer is how long a server has for one answer, before it is asked again: one
	// that starts may accept and not answer.
	answer = 20 * time.Second
	poll   = 10 * time.Millisecond
)

// process is a program that ends with the test binary.
type process struct {
	cmd  *exec.Cmd
	log  string        // file that it writes to
	done chan struct{} // closed when it has ended
}

// start runs a program whose output goes to log. death is what it gets when the
// test binary ends without having stopped it.
func start(dir, log string, as *syscall.Credential, death syscall.Signal, name string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the server's log: %w", err)
	}
	defer out.Close()
	p := &process{cmd: command(dir, as, name, args...), log: log, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	onDeath(p.cmd.SysProcAttr, death)
	started := make(chan error)
	go func() {
		// The kernel takes the end of the starting thread for the end of its
		// process, so that thread does nothing else until the server is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return p, nil
}

func command(dir string, as *syscall.Credential, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PG") || strings.HasPrefix(v, "LC_") })
	cmd.Env = append(cmd.Env, "LC_ALL=C", "TZ=UTC")
	// A process group of its own: an interrupt at the terminal is for the tests,
	// and the kernel wakes a frozen server whose group is left without a parent.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Setpgid: true}
	return cmd
}

// ended reports whether the process is gone.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// end sends a signal and waits for the process to go.
func (p *process) end(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending the server: %w", err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("the server still runs %s after %v%s", patience, sig, p.tail())
	}
}

// kill ends the process and its children as a power cut would.
func (p *process) kill() error {
	if p.ended() {
		return nil
	}
	family, err := p.freeze()
	if err != nil {
		return err
	}
	for _, pid := range family {
		if err := signal(pid, syscall.SIGKILL); err != nil {
			return err
		}
	}
	<-p.done
	return nil
}

// freeze stops the process first, so that it makes no more children, and then
// those that it has. It returns all of them.
func (p *process) freeze() ([]int, error) {
	pid := p.cmd.Process.Pid
	if err := signal(pid, syscall.SIGSTOP); err != nil {
		return nil, err
	}
	family, err := children(pid)
	if err != nil {
		return nil, err
	}
	for _, child := range family {
		if err := signal(child, syscall.SIGSTOP); err != nil {
			return nil, err
		}
	}
	return append(family, pid), nil
}

func (p *process) thaw() error {
	pid := p.cmd.Process.Pid
	family, err := children(pid)
	if err != nil {
		return err
	}
	for _, pid := range append(family, pid) {
		if err := signal(pid, syscall.SIGCONT); err != nil {
			return err
		}
	}
	return nil
}

// signal is kill(2); a process that is gone already is none to complain about.
func signal(pid int, sig syscall.Signal) error {
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("sending %v to process %d: %w", sig, pid, err)
	}
	return nil
}

// tail is the end of the log, to show why a server does not run.
func (p *process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil || len(text) == 0 {
		return ""
	}
	return "; its log ends in:\n" + string(text[max(0, len(text)-2000):])
}

// await asks until the server answers, ends, or patience does.
func (p *process) await(ask func() error) error {
	deadline := time.Now().Add(patience)
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		if p.ended() {
			return fmt.Errorf("the server ended at once%s", p.tail())
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the server does not answer: %w%s", err, p.tail())
		}
		select {
		case <-ticker.C:
		case <-p.done:
		}
	}
}

// persist tries to start a server until patience ends.
func persist(start func() error) error {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); ; <-ticker.C {
		if err := start(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// find looks for a program in PATH, then among the files that the patterns match.
func find(program, install string, patterns ...string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return "", fmt.Errorf("looking for %s: %w", program, err)
		}
		if len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	return "", fmt.Errorf("%s is not installed, which this test needs: %s", program, install)
}

const dirPrefix = "llm-proxy-testdb-"

// makeDir makes a directory for a server's data, and removes those whose test
// binary was killed.
func makeDir(as *syscall.Credential) (string, error) {
	base := scratch()
	stale, err := filepath.Glob(filepath.Join(base, dirPrefix+"*"))
	if err != nil {
		return "", fmt.Errorf("looking for old data directories: %w", err)
	}
	for _, dir := range stale {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), dirPrefix), "-")
		pid, err := strconv.Atoi(owner)
		if err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir) // somebody else's perhaps
		}
	}
	dir, err := os.MkdirTemp(base, dirPrefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return "", fmt.Errorf("making a data directory: %w", err)
	}
	if as != nil {
		if err := os.Chown(dir, int(as.Uid), int(as.Gid)); err != nil {
			return "", fmt.Errorf("making a data directory: %w", err)
		}
	}
	return dir, nil
}

// unprivileged is whom a server runs as that refuses to be root; nil: as we do.
func unprivileged(names ...string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return nil, fmt.Errorf("user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("the server refuses to run as root, and there is no user %s", strings.Join(names, " or "))
}
