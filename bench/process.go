package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a child with its diagnostics in a file.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

// stopWithin is how long a child may take to end by itself.
const stopWithin = 5 * time.Second

// startProcess starts a command whose standard error goes to a file in dir.
func startProcess(name string, cmd *exec.Cmd, dir string) (*process, error) {
	p := &process{name: name, cmd: cmd, log: filepath.Join(dir, "stderr.log"), done: make(chan struct{})}
	file, err := os.OpenFile(p.log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close() // the child has its own
	cmd.Stderr = file
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		_ = cmd.Wait() // how it ended does not matter once it has
		close(p.done)
	}()
	return p, nil
}

// explain adds the end of the child's diagnostics to an error.
func (p *process) explain(err error) error {
	file, openErr := os.Open(p.log)
	if openErr != nil {
		return err
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > 2048 {
		_, _ = file.Seek(-2048, io.SeekEnd)
	}
	text, _ := io.ReadAll(file)
	if text = bytes.TrimSpace(text); len(text) == 0 {
		return err
	}
	return fmt.Errorf("%w; %s wrote:\n%s", err, p.name, text)
}

// stop ends the process and waits for that.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-p.done:
		return nil
	case <-time.After(stopWithin):
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending %s: %w", p.name, err)
	}
	<-p.done
	return nil
}

// cpuTime is the CPU time of the process so far, 0 if that cannot be told.
func (p *process) cpuTime() time.Duration { return cpuTime(p.cmd.Process.Pid) }

// writes is how many write system calls the process has made, 0 if that cannot be told.
func (p *process) writes() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "syscw: "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			return n
		}
	}
	return 0
}

func ownCPUTime() time.Duration { return cpuTime(os.Getpid()) }

func cpuTime(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The second field, the command's name, may hold spaces; utime is the 14th.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0
	}
	var ticks int64
	for _, field := range fields[11:13] {
		n, _ := strconv.ParseInt(string(field), 10, 64)
		ticks += n
	}
	return time.Duration(ticks) * time.Second / userHz
}
