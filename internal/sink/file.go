package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/DeRuina/timberjack"

	"github.com/sofatutor/caddy-llm-proxy/internal/delivery"
)

const (
	fileMode    = 0o600
	fileDirMode = 0o700
	miB         = 1 << 20
	day         = 24 * time.Hour
	chunk       = 256 << 10 // bytes of whole lines written at a time
)

// Defaults of a [FileConfig].
const (
	DefaultRollSize = 100 * miB
	DefaultRollKeep = 10
)

// FileConfig says where events are written. Path is required.
type FileConfig struct {
	Path         string        // absolute
	RollSize     int64         // bytes, in whole MiB, at which the file is rotated; 0: DefaultRollSize
	RollInterval time.Duration // after which it is rotated, whatever its size; 0: never
	RollKeep     int           // rotated files that are kept; 0: DefaultRollKeep, negative: all
	RollKeepFor  time.Duration // how long they are kept, in whole days; 0: for ever
}

// File writes events as JSON lines. A batch is on the disk when it is taken. Nobody
// else may write the file, but somebody else may move it away.
type File struct {
	cfg FileConfig

	mu   sync.Mutex
	out  *timberjack.Logger // nil: not open
	info os.FileInfo        // of the file as it was after the last batch
}

// NewFile makes a file sink. It touches nothing.
func NewFile(cfg FileConfig) (*File, error) {
	if !filepath.IsAbs(cfg.Path) {
		return nil, fmt.Errorf("path: %q is not an absolute path", cfg.Path)
	}
	if cfg.RollSize == 0 {
		cfg.RollSize = DefaultRollSize
	}
	if cfg.RollKeep == 0 {
		cfg.RollKeep = DefaultRollKeep
	}
	if cfg.RollSize < miB || cfg.RollInterval < 0 || cfg.RollKeepFor < 0 {
		return nil, errors.New("roll_size must be 1MiB or more, and durations must not be negative")
	}
	return &File{cfg: cfg}, nil
}

// Deliver implements [delivery.Sink].
func (f *File) Deliver(_ context.Context, events []delivery.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.open(); err != nil {
		return err
	}
	refused := make(map[int]error)
	var lines bytes.Buffer
	var line []byte
	for i := range events {
		line = append(events[i].AppendJSON(line[:0]), '\n')
		if int64(len(line)) > f.cfg.RollSize {
			refused[i] = fmt.Errorf("its line has %d bytes, more than roll_size", len(line))
			continue
		}
		if lines.Len() > 0 && lines.Len()+len(line) > chunk {
			if err := f.write(&lines); err != nil {
				return err
			}
		}
		lines.Write(line)
	}
	err := f.write(&lines)
	if err == nil {
		err = f.out.Sync()
	}
	if err == nil {
		f.info, err = os.Stat(f.cfg.Path)
	}
	if err != nil {
		f.shut()
		return fmt.Errorf("writing the file: %w", err)
	}
	return delivery.Reject(refused)
}

// write writes whole lines, and empties the buffer. What is in the file is made
// permanent first if it is about to be rotated, which only closes it.
func (f *File) write(lines *bytes.Buffer) error {
	if lines.Len() == 0 {
		return nil
	}
	if info, err := os.Stat(f.cfg.Path); err == nil && (info.Size()+int64(lines.Len()) >= f.cfg.RollSize || f.cfg.RollInterval > 0) {
		if err := f.out.Sync(); err != nil {
			f.shut()
			return fmt.Errorf("writing the file: %w", err)
		}
	}
	if _, err := f.out.Write(lines.Bytes()); err != nil {
		f.shut()
		return fmt.Errorf("writing the file: %w", err)
	}
	lines.Reset()
	return nil
}

// open makes sure that the file is open, that it is the one of that name, and
// that it ends with a whole line.
func (f *File) open() error {
	if f.out != nil {
		if info, err := os.Stat(f.cfg.Path); err == nil && os.SameFile(info, f.info) {
			return nil
		}
		f.shut() // it was moved away or deleted
	}
	if err := os.MkdirAll(filepath.Dir(f.cfg.Path), fileDirMode); err != nil {
		return fmt.Errorf("making the directory: %w", err)
	}
	if err := mend(f.cfg.Path); err != nil {
		return fmt.Errorf("opening the file: %w", err)
	}
	f.out = &timberjack.Logger{
		Filename: f.cfg.Path, FileMode: fileMode, Compression: "none",
		MaxSize: int(f.cfg.RollSize / miB), RotationInterval: f.cfg.RollInterval,
		MaxBackups: max(0, f.cfg.RollKeep), MaxAge: int((f.cfg.RollKeepFor + day - 1) / day),
	}
	var err error
	if f.info, err = os.Stat(f.cfg.Path); err != nil {
		f.shut()
		return fmt.Errorf("opening the file: %w", err)
	}
	return nil
}

// shut closes the file, so that the next batch begins with [mend].
func (f *File) shut() {
	if f.out != nil {
		_ = f.out.Close() // what it held was written, or is written again
		f.out = nil
	}
}

// Close closes the file.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shut()
	return nil
}

// mend makes the file if there is none, and removes the beginning of a line from
// its end, as a crash or a full disk leaves it: its event is delivered again.
func mend(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return err
	}
	whole, err := wholeLines(file)
	if err == nil {
		err = file.Truncate(whole)
	}
	return errors.Join(err, file.Close())
}

// wholeLines is the size of the file without an unfinished line at its end.
func wholeLines(file *os.File) (int64, error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, errors.New("it is not a regular file")
	}
	buf := make([]byte, 64<<10)
	for end := info.Size(); end > 0; {
		from := max(0, end-int64(len(buf)))
		n, err := file.ReadAt(buf[:end-from], from)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return from + int64(i) + 1, nil
		}
		end = from
	}
	return 0, nil
}
