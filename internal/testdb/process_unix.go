//go:build unix && !linux

package testdb

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// onDeath does nothing: only Linux tells a process of its parent's end. A test
// binary that is killed leaves its servers running.
func onDeath(*syscall.SysProcAttr, syscall.Signal) {}

// scratch is where servers keep their data.
func scratch() string { return os.TempDir() }

// children lists the processes that pid started.
func children(pid int) ([]int, error) {
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(pid)).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 1 {
		return nil, nil // none
	}
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var found []int
	for _, field := range strings.Fields(string(out)) {
		child, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("listing processes: %w", err)
		}
		found = append(found, child)
	}
	return found, nil
}
