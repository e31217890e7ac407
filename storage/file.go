package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	fileMode = 0o600
	dirMode  = 0o700

	// lockPoll is how often a waiting starter tries again. The operating system
	// could wait for us, but not under a context.
	lockPoll = 10 * time.Millisecond
)

// lock takes <path>.lock for this process. The file stays: removing it could give
// two starters a lock each, one of them on a file without a name.
func (s *sqliteDB) lock(ctx context.Context) (migrator *sql.DB, unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(s.path), dirMode); err != nil {
		return nil, nil, fmt.Errorf("making the database directory: %w", err)
	}
	f, err := os.OpenFile(s.path+".lock", os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, nil, fmt.Errorf("locking the database: %w", err)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			f.Close()
			return nil, nil, fmt.Errorf("waiting for another process to release %s: %w", f.Name(), ctx.Err())
		case <-timer.C:
		}
		locked, err := tryLock(f)
		if err != nil {
			f.Close()
			return nil, nil, fmt.Errorf("locking %s: %w", f.Name(), err)
		}
		if locked {
			return nil, func() { f.Close() }, nil // closing releases the lock, and so does dying
		}
		timer.Reset(lockPoll)
	}
}

// createFile makes the file before SQLite does, for its mode: SQLite gives the
// log and the shared memory beside it the same one.
func (s *sqliteDB) createFile() error {
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return fmt.Errorf("making the database: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("making the database: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 && permissionsMatter {
		s.logger.Warn("other users may read the database: run chmod 600 on it", "path", s.path, "mode", info.Mode().Perm().String())
	}
	return nil
}

func (s *sqliteDB) fileExists() (bool, error) {
	_, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// isFileError reports whether the file system refused us. All such errors may
// pass: a volume is mounted late, a disk is cleaned up.
func isFileError(err error) bool {
	var pathErr *fs.PathError
	return errors.As(err, &pathErr)
}
