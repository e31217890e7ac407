package testdb

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// onDeath has the kernel signal the process when the test binary ends.
func onDeath(attr *syscall.SysProcAttr, sig syscall.Signal) { attr.Pdeathsig = sig }

const (
	memory   = "/dev/shm"
	roomNeed = 4 << 30 // several test binaries keep their servers there
)

// scratch is where servers keep their data: in memory where there is plenty, since a
// new database is hundreds of new files, which a disk takes longer for than for
// everything that a test does with them.
func scratch() string {
	var fs syscall.Statfs_t
	if syscall.Statfs(memory, &fs) != nil || fs.Bavail*uint64(fs.Bsize) < roomNeed || available() < roomNeed {
		return os.TempDir()
	}
	if dir, err := os.MkdirTemp(memory, dirPrefix); err != nil || os.Remove(dir) != nil {
		return os.TempDir() // it is not for us
	}
	return memory
}

// available is how much memory programs can still have, in bytes.
func available() (bytes uint64) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "\nMemAvailable:")
	if _, err := fmt.Sscan(rest, &bytes); err != nil {
		return 0
	}
	return bytes << 10
}

// children lists the processes that pid started.
func children(pid int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var found []int
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		// pid (name) state parent …; the name may hold anything
		fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
		if len(fields) < 2 || string(fields[1]) != strconv.Itoa(pid) {
			continue
		}
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, fmt.Errorf("listing processes: %w", err)
		}
		found = append(found, child)
	}
	return found, nil
}
