package audit

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/DeRuina/timberjack"
	"github.com/go-json-experiment/json"
)

const (
	fileMode    = 0o600
	fileDirMode = 0o700
	fileSizeMiB = 100             // of the file when it is rotated
	complain    = 1 * time.Minute // between two words in the log about a file that fails
)

// File keeps entries as JSON, one [Event] a line, beside the database: for log
// shippers, and for whoever distrusts the database. It grows to 100 MiB and is then
// rotated. What cannot be written is logged and counted, and holds nobody up.
type File struct {
	path   string
	logger *slog.Logger

	mu         sync.Mutex
	out        io.WriteCloser
	lost       int64 // entries that could not be written
	complained time.Time
}

// OpenFile makes the file if there is none, for its owner alone, or says why it
// cannot be written. Rotated files older than retention are removed; zero keeps all.
func OpenFile(path string, retention time.Duration, logger *slog.Logger) (*File, error) {
	if err := os.MkdirAll(filepath.Dir(path), fileDirMode); err != nil {
		return nil, fmt.Errorf("making the directory: %w", err)
	}
	probe, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, fileMode)
	if err != nil {
		return nil, err
	}
	if err := probe.Close(); err != nil {
		return nil, err
	}
	const day = 24 * time.Hour
	return &File{path: path, logger: logger, out: &timberjack.Logger{
		Filename: path, MaxSize: fileSizeMiB, MaxAge: int((retention + day - 1) / day), FileMode: fileMode, Compression: "none",
	}}, nil
}

// Write adds an entry.
func (f *File) Write(e Entry) {
	line, err := json.Marshal(e.Event(), json.Deterministic(true))
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		_, err = f.out.Write(append(line, '\n')) // in one piece, so that a line is whole or not there
	}
	if err == nil {
		return
	}
	f.lost++
	if now := time.Now(); now.Sub(f.complained) >= complain {
		f.complained = now
		f.logger.Error("the audit file cannot be written; the database has the records", "file", f.path, "lost", f.lost, "error", err)
	}
}

// Lost is how many entries could not be written.
func (f *File) Lost() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lost
}

// Close closes the file. Entries that come later are written all the same.
func (f *File) Close() error { return f.out.Close() }
