package storage

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// permissionsMatter is false: access control lists are not seen in file modes.
const permissionsMatter = false

// tryLock takes an exclusive lock on the open file, if nobody has one. It belongs
// to the open file, so two openings within a process exclude each other too.
func tryLock(f *os.File) (bool, error) {
	err := windows.LockFileEx(windows.Handle(f.Fd()),
		windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return false, nil
	}
	return err == nil, err
}
